"""Which URL a call goes to, and with which headers: everything short of sending it."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from airflow_tuning_provider.api.calls import Call, Calls
from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.retry import RetryPolicy
from airflow_tuning_provider.hooks.connection import ConnectionSettings
from airflow_tuning_provider.hooks.transport import Transport

BODY = {
    "baseModel": "gemini-3.5-flash",
    "supervisedTuningSpec": {"trainingDatasetUri": "gs://bucket/train.jsonl"},
}


def prepared(
    call: Call[Any], *, api_version: str = "v1", **settings: Any
) -> tuple[str, dict[str, str], bytes | None]:
    from google.auth.credentials import AnonymousCredentials

    transport = Transport(
        ConnectionSettings("c", **settings),
        AnonymousCredentials(),
        api_version=api_version,
        request_timeout=1.0,
        retry_policy=RetryPolicy(),
        log=logging.getLogger(__name__),
    )
    return transport.prepare(call)


@pytest.mark.parametrize(
    ("location", "settings", "host"),
    [
        ("us-central1", {}, "https://us-central1-aiplatform.googleapis.com"),
        ("europe-west4", {}, "https://europe-west4-aiplatform.googleapis.com"),
        ("global", {}, "https://aiplatform.googleapis.com"),
        ("us", {}, "https://aiplatform.us.rep.googleapis.com"),
        ("eu", {}, "https://aiplatform.eu.rep.googleapis.com"),
        (
            "us-central1",
            {"universe_domain": "universe.example"},
            "https://us-central1-aiplatform.universe.example",
        ),
        ("global", {"universe_domain": "universe.example"}, "https://aiplatform.universe.example"),
        ("us", {"api_endpoint": "https://psc.example:8443/prefix"}, "https://psc.example:8443/prefix"),
    ],
)
def test_the_host_follows_the_location(location: str, settings: dict[str, Any], host: str) -> None:
    parent = f"projects/p/locations/{location}"
    calls = Calls("p", location)
    assert prepared(calls.create(BODY), **settings)[0] == f"{host}/v1/{parent}/tuningJobs"
    assert prepared(calls.get("5"), **settings)[0] == f"{host}/v1/{parent}/tuningJobs/5"
    assert prepared(calls.cancel("5"), **settings)[0] == f"{host}/v1/{parent}/tuningJobs/5:cancel"


def test_the_name_s_location_wins_over_the_hook_s() -> None:
    calls = Calls("p", "us-central1")
    url, _, _ = prepared(calls.get("projects/q/locations/europe-west4/tuningJobs/5"))
    assert url.startswith("https://europe-west4-aiplatform.googleapis.com/v1/projects/q/")


@pytest.mark.parametrize(
    ("model", "url"),
    [
        (
            "projects/1/locations/eu/endpoints/7",
            "https://aiplatform.eu.rep.googleapis.com/v1/projects/1/locations/eu/endpoints/7:generateContent",
        ),
        (
            "projects/1/locations/us-west1/endpoints/7",
            "https://us-west1-aiplatform.googleapis.com/v1/projects/1/locations/us-west1/endpoints/7"
            ":generateContent",
        ),
        (
            "gemini-3.5-flash",
            "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/publishers/google/"
            "models/gemini-3.5-flash:generateContent",
        ),
    ],
)
def test_content_is_generated_where_the_model_is(model: str, url: str) -> None:
    assert prepared(Calls("p", "us-central1").generate(model, "Hello", {}))[0] == url


def test_the_version_and_the_query_are_part_of_the_url() -> None:
    call = Calls("p", "us-central1").page(filter='state="X" AND labels.a=b', page_size=5)
    url, headers, body = prepared(call, api_version="v1beta1")
    assert url == (
        "https://us-central1-aiplatform.googleapis.com/v1beta1/projects/p/locations/us-central1/tuningJobs"
        "?filter=state%3D%22X%22+AND+labels.a%3Db&pageSize=5"
    )
    assert body is None
    assert "Content-Type" not in headers


def test_prepared_headers_carry_no_credentials() -> None:
    _, headers, body = prepared(Calls("p", "us-central1").create(BODY))
    assert sorted(headers) == ["Accept", "Content-Type", "User-Agent", "X-Goog-Api-Client"]
    assert body is not None
    assert body.startswith(b'{"baseModel"')


@pytest.mark.parametrize(("project", "location"), [(None, "us-central1"), ("p", None), ("", "us-central1")])
def test_a_missing_scope_is_refused(project: str | None, location: str | None) -> None:
    with pytest.raises(InvalidInputError, match="Airflow connection"):
        Calls(project, location).create(BODY)
