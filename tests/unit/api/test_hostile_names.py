"""No value that a user, a template or a server supplies leads a request, and its token, to another host.

The final URL is read with every parser on its way (``urllib.parse``, ``urllib3`` and ``requests``), because an attack
lives where two of them disagree.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import requests
from hypothesis import example, given, settings
from hypothesis import strategies as st
from urllib3.util import parse_url

from airflow_tuning_provider.api import names
from airflow_tuning_provider.api.calls import Call, Calls
from airflow_tuning_provider.api.endpoints import base_url, parse_api_endpoint
from airflow_tuning_provider.api.inputs import InvalidInputError
from tests.hostile import ENDPOINTS, JOBS, LOCATIONS, MODELS, OPERATIONS, PROJECTS, UNIVERSES, P

BODY = {
    "baseModel": "gemini-3.5-flash",
    "supervisedTuningSpec": {"trainingDatasetUri": "gs://bucket/a.jsonl"},
}
THOROUGHLY = settings(max_examples=500)


def built(build: Callable[[], str]) -> str | None:
    """Return the URL, ``None`` if its parts were refused in the one way that callers expect."""
    try:
        return build()
    except InvalidInputError:
        return None


def hosts(url: str) -> set[str]:
    """Return the host of a URL as each parser reads it."""
    prepared = requests.Request("GET", url).prepare().url
    assert prepared is not None
    read = {
        "urllib": urlsplit(url).hostname,
        "urllib3": parse_url(url).host,
        "requests": parse_url(prepared).host,
    }
    assert all(read.values()), read
    return {str(host).strip("[]") for host in read.values()}


def check(url: str, host: str, segments: int) -> None:
    """Check the host, and that the path has as many segments as the call has, also for those who decode it."""
    assert hosts(url) == {host}
    parts = urlsplit(url)
    assert (parts.username, parts.password, parts.fragment) == (None, None, "")
    prepared = requests.Request("GET", url).prepare().url
    for path in (parts.path, urlsplit(str(prepared)).path, unquote(parts.path)):
        assert len(path.split("/")) - 1 == segments, path
        assert not {"", ".", ".."} & set(path.split("/")[1:])
    assert url.isascii()
    assert url.isprintable()


def google_host(location: str) -> str:
    special = {"global": "aiplatform.googleapis.com"} | {
        multi: f"aiplatform.{multi}.rep.googleapis.com" for multi in ("us", "eu")
    }
    return special.get(location, f"{location}-aiplatform.googleapis.com")


def is_google(host: str) -> bool:
    return (
        host.endswith(("-aiplatform.googleapis.com", ".rep.googleapis.com"))
        or host == "aiplatform.googleapis.com"
    )


@THOROUGHLY
@given(PROJECTS, LOCATIONS)
@example("acme-ml", "us-central1.evil.com/")
@example("..", "us-central1")
def test_create_and_list(project: str, location: str) -> None:
    for request, segments in (
        (lambda: Calls(project, location).create(BODY), 6),
        (lambda: Calls(project, location).page(), 6),
        (lambda: Calls(project, location).rebase({}), 6),
    ):
        url = built(lambda: (made := request()).url(base_url(made.location), "v1"))  # noqa: B023
        if url is not None:
            check(url, google_host(location), segments)
            assert is_google(google_host(location))


@THOROUGHLY
@given(st.text(max_size=60), st.text(max_size=60))
def test_a_filter_or_page_token_stays_in_the_query(filter: str, token: str) -> None:
    request = Calls("acme-ml", "us-central1").page(filter=filter, page_token=token)
    check(request.url(base_url("us-central1"), "v1"), google_host("us-central1"), 6)


@THOROUGHLY
@given(JOBS, PROJECTS, LOCATIONS)
@example("123/../../../../x", "acme-ml", "us-central1")
@example(f"{P}/tuningJobs/..", "acme-ml", "us-central1")
@example(f"{P}/tuningJobs/1:cancel", "acme-ml", "us-central1")
def test_get_and_cancel(job: str, project: str, location: str) -> None:
    calls = Calls(project, location)
    for call in (calls.get, calls.cancel):

        def build(call: Callable[[object], Call[Any]] = call) -> str:
            request = call(job)
            return request.url(base_url(request.location), "v1")

        url = built(build)
        if url is not None:
            where = job.split("/")[3] if "/" in job else location
            check(url, google_host(where), 7)


@THOROUGHLY
@given(OPERATIONS)
def test_operations(operation: str) -> None:
    def build() -> str:
        request = Calls(None, None).operation(operation)
        return request.url(base_url(request.location), "v1")

    url = built(build)
    if url is not None:
        check(url, google_host(operation.split("/")[3]), 1 + operation.count("/") + 1)


@THOROUGHLY
@given(MODELS, PROJECTS, LOCATIONS)
@example("gemini@..", "acme-ml", "us-central1")
def test_generate_content(model: str, project: str, location: str) -> None:
    def build() -> str:
        request = Calls(project, location).generate(model, "Hello", {})
        return request.url(base_url(request.location), "v1")

    url = built(build)
    if url is not None:
        where = model.split("/")[3] if model.startswith("projects/") else location
        check(url, google_host(where), 7 if "/endpoints/" in model else 9)


@THOROUGHLY
@given(UNIVERSES, LOCATIONS)
def test_universes(universe: str, location: str) -> None:
    url = built(lambda: base_url(location, universe_domain=universe))
    if url is not None:
        host = google_host(location).replace("googleapis.com", universe)
        assert hosts(url + "/v1/x") == {host}
        assert url == f"https://{host}"


@THOROUGHLY
@given(ENDPOINTS)
@example("https://[::1]evil.com")
@example("https://evil.com\\@localhost")
@example("http://127.0.0.1@evil.com")
@example("http://localhost#@evil.com")
@example("https://[::1%25eth0]")
def test_an_endpoint_is_the_host_that_its_text_shows(value: str) -> None:
    url = built(lambda: parse_api_endpoint(value))
    if url is None:
        return
    parts = urlsplit(url)
    host = str(parts.hostname)
    assert hosts(url + "/v1/x") == {host}
    # What was written names that very host: between the scheme and the first slash, with at most a port.
    written = value.lower().partition("://")[2] or value.lower()
    authority = written.split("/")[0]
    assert authority.removesuffix(":") in (parts.netloc, parts.netloc + ":")
    assert "@" not in url
    assert parse_api_endpoint(url) == url
    if parts.scheme == "http":
        assert host == "localhost" or ipaddress.ip_address(host).is_loopback, (
            "the token would travel in the clear"
        )
    location = names.validate_location("us-central1")
    final = Calls("acme-ml", location).create(BODY).url(base_url(location, api_endpoint=value), "v1")
    assert final == f"{url}/v1/{P}/tuningJobs"
    assert hosts(final) == {host}


@THOROUGHLY
@given(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.binary(), st.lists(st.text()), st.text()
    )
)
def test_anything_else_is_refused_in_one_way(value: Any) -> None:
    for check_ in (
        names.validate_project,
        names.validate_location,
        parse_api_endpoint,
        lambda value: names.tuning_job_name(value, project="p", location="us"),
        lambda value: names.model_to_call(value, project="p", location="us"),
        *(
            lambda value, kind=kind: kind.parse(value, field="x")
            for kind in names.ResourceName.__subclasses__()
        ),
    ):
        try:
            accepted = check_(value)
        except InvalidInputError:
            continue
        assert isinstance(value, str)
        assert value in str(accepted) or parse_api_endpoint(value) == accepted


@pytest.mark.parametrize("length", [10_000, 100_000])
@pytest.mark.parametrize("unit", ["a", "a-", "a.", "-", ".", "a:", "/a", "a@", "[", "0", "projects/"])
def test_long_input_is_refused_in_linear_time(unit: str, length: int) -> None:
    """A pattern that backtracks would take hours here, and run into the suite's time limit."""
    text = unit * length
    for value in (
        text,
        f"{text}!",
        f"projects/{text}",
        f"{P}/tuningJobs/{text}!",
        f"https://{text}!",
        f"https://h{text}!",
    ):
        for check_ in (
            names.validate_project,
            names.validate_location,
            parse_api_endpoint,
            lambda value: names.tuning_job_name(value, project="p", location="us"),
            lambda value: names.model_to_call(value, project="p", location="us"),
        ):
            with pytest.raises(InvalidInputError):
                check_(value)
