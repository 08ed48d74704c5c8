"""What is sent for each call, and how its success is read."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_tuning_provider.api.calls import Call, Calls, validate_api_version, validate_name
from airflow_tuning_provider.api.errors import ApiError
from airflow_tuning_provider.api.inputs import InvalidInputError

P = "projects/example.com:app/locations/us-central1"
BASE = "https://h"
JOB = f"{P}/tuningJobs/1"
OPERATION = f"{P}/operations/2"
ENDPOINT = "projects/1/locations/eu/endpoints/3"
MODEL = f"{P}/publishers/google/models/g@1"
SCOPED = Calls("example.com:app", "us-central1")
BODY = {"baseModel": "g", "supervisedTuningSpec": {"trainingDatasetUri": "gs://bucket/train.jsonl"}}
REBASE = {"tunedModelRef": {"tuningJob": JOB}}
HELLO = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}

CALLS: list[tuple[Call[Any], str, str, Any, bool, str]] = [
    (SCOPED.create(BODY), "POST", f"{P}/tuningJobs", BODY, False, "us-central1"),
    (SCOPED.get("1"), "GET", JOB, None, True, "us-central1"),
    (SCOPED.get(JOB), "GET", JOB, None, True, "us-central1"),
    (SCOPED.look(JOB), "GET", JOB, None, True, "us-central1"),
    (SCOPED.look(OPERATION), "GET", OPERATION, None, True, "us-central1"),
    (SCOPED.page(), "GET", f"{P}/tuningJobs", None, True, "us-central1"),
    (SCOPED.cancel("1"), "POST", f"{JOB}:cancel", {}, True, "us-central1"),
    (SCOPED.rebase(REBASE), "POST", f"{P}/tuningJobs:rebaseTunedModel", REBASE, False, "us-central1"),
    (SCOPED.operation(OPERATION), "GET", OPERATION, None, True, "us-central1"),
    (SCOPED.cancel(OPERATION), "POST", f"{OPERATION}:cancel", {}, True, "us-central1"),
    (SCOPED.generate(ENDPOINT, "Hello", {}), "POST", f"{ENDPOINT}:generateContent", HELLO, True, "eu"),
    (SCOPED.generate(MODEL, "Hello", {}), "POST", f"{MODEL}:generateContent", HELLO, True, "us-central1"),
]


@pytest.mark.parametrize(("request_", "method", "path", "body", "repeatable", "location"), CALLS)
def test_calls(
    request_: Call[Any], method: str, path: str, body: Any, repeatable: bool, location: str
) -> None:
    assert (request_.method, request_.body, request_.repeatable) == (method, body, repeatable)
    assert request_.location == location, "which decides the host"
    assert request_.url(BASE, "v1") == f"{BASE}/v1/{path}"
    assert request_.url(BASE, "v1beta1") == f"{BASE}/v1beta1/{path}"
    assert request_.what


def test_what_costs_money_is_not_repeatable() -> None:
    paying = {request.path for request, *_ in CALLS if not request.repeatable}
    assert paying == {f"{P}/tuningJobs", f"{P}/tuningJobs:rebaseTunedModel"}


def test_queries_are_escaped() -> None:
    request = SCOPED.page(filter='state="A" AND labels.x=y&z', page_size=50, page_token="a/b+c=#?é")
    assert request.url(BASE, "v1") == (
        f"{BASE}/v1/{P}/tuningJobs?filter=state%3D%22A%22+AND+labels.x%3Dy%26z&pageSize=50"
        "&pageToken=a%2Fb%2Bc%3D%23%3F%C3%A9"
    )


@pytest.mark.parametrize("empty", [None, ""])
def test_empty_parameters_are_left_out(empty: Any) -> None:
    request = SCOPED.page(filter=empty, page_token=empty)
    assert request.url(BASE, "v1") == f"{BASE}/v1/{P}/tuningJobs"


def test_half_a_surrogate_pair_in_a_token_does_not_crash() -> None:
    request = SCOPED.page(page_token="t\ud800")
    assert request.url(BASE, "v1").endswith("?pageToken=t%3F")


@pytest.mark.parametrize(("value", "sent"), [(1, "1"), ("50", "50"), (1000, "1000"), (20.0, "20")])
def test_page_sizes(value: Any, sent: str) -> None:
    assert SCOPED.page(page_size=value).query == {"pageSize": sent}


@pytest.mark.parametrize("value", [0, -1, 1001, 1.5, True, "", "many", [], float("nan")])
def test_page_sizes_that_are_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"^page_size=.* from 1 to 1000"):
        SCOPED.page(page_size=value)


@pytest.mark.parametrize(
    "call", [lambda calls: calls.create(BODY), lambda calls: calls.page(), lambda calls: calls.rebase({})]
)
def test_project_and_location_are_checked(call: Any) -> None:
    for calls, field in (
        (Calls("..", "us-central1"), "project_id"),
        (Calls("p", "evil.com/"), "location"),
        (Calls(None, "us-central1"), "project_id"),
        (Calls("p", ""), "location"),
    ):
        with pytest.raises(InvalidInputError, match=f"^{field}="):
            call(calls)


def test_a_call_s_own_scope_wins() -> None:
    assert SCOPED.page("other", "us-east1").path == "projects/other/locations/us-east1/tuningJobs"
    assert SCOPED.page("other").path == "projects/other/locations/us-central1/tuningJobs"


@pytest.mark.parametrize("name", ["1", JOB, OPERATION, f"{JOB}/operations/5"])
def test_names_that_may_be_right(name: str) -> None:
    validate_name(name)


@pytest.mark.parametrize("name", [None, "", 7, "a/b", f"{P}/models/1", "operations/1", f"{JOB}:cancel"])
def test_names_that_cannot_be_right_whatever_the_connection_says(name: Any) -> None:
    with pytest.raises(InvalidInputError, match="name="):
        validate_name(name)


def test_an_answer_is_read_as_what_was_asked_for() -> None:
    job = {"name": JOB, "state": "JOB_STATE_RUNNING"}
    assert SCOPED.look(JOB).read(job) == job
    assert SCOPED.look(OPERATION).read({"name": OPERATION}) == {"name": OPERATION}
    assert isinstance(SCOPED.look(JOB).read({"name": OPERATION}), ApiError)
    assert isinstance(SCOPED.rebase({}).read(job), ApiError)
    assert SCOPED.page().read({"tuningJobs": [job], "nextPageToken": "t"}) == ([job], "t")
    assert isinstance(SCOPED.page(page_token="t").read({"nextPageToken": "t"}), ApiError)
    assert SCOPED.cancel(JOB).read({}) == {}


def test_api_versions() -> None:
    assert [validate_api_version(version) for version in ("v1", "v1beta1")] == ["v1", "v1beta1"]
    for value in ("v2", "", None, "v1/..", b"v1", ["v1"]):
        with pytest.raises(InvalidInputError, match=r"^api_version=.*v1, v1beta1"):
            validate_api_version(value)
