"""What is sent for each call."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_tuning_provider.api import requests
from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.names import EndpointName, OperationName, PublisherModelName, TuningJobName

P = "projects/example.com:app/locations/us-central1"
BASE = "https://h"
JOB = TuningJobName.parse(f"{P}/tuningJobs/1", field="name")
OPERATION = OperationName.parse(f"{P}/operations/2", field="name")
ENDPOINT = EndpointName.parse("projects/1/locations/eu/endpoints/3", field="model")
MODEL = PublisherModelName.parse(f"{P}/publishers/google/models/g@1", field="model")
SCOPE = ("example.com:app", "us-central1")
BODY = {"baseModel": "g"}

CALLS = [
    (requests.create_tuning_job(*SCOPE, BODY), "POST", f"{P}/tuningJobs", BODY, False, "us-central1"),
    (requests.get_tuning_job(JOB), "GET", str(JOB), None, True, "us-central1"),
    (requests.list_tuning_jobs(*SCOPE), "GET", f"{P}/tuningJobs", None, True, "us-central1"),
    (requests.cancel_tuning_job(JOB), "POST", f"{JOB}:cancel", {}, True, "us-central1"),
    (
        requests.rebase_tuned_model(*SCOPE, BODY),
        "POST",
        f"{P}/tuningJobs:rebaseTunedModel",
        BODY,
        False,
        "us-central1",
    ),
    (requests.get_operation(OPERATION), "GET", str(OPERATION), None, True, "us-central1"),
    (requests.cancel_operation(OPERATION), "POST", f"{OPERATION}:cancel", {}, True, "us-central1"),
    (requests.generate_content(ENDPOINT, BODY), "POST", f"{ENDPOINT}:generateContent", BODY, True, "eu"),
    (requests.generate_content(MODEL, BODY), "POST", f"{MODEL}:generateContent", BODY, True, "us-central1"),
]


@pytest.mark.parametrize(("request_", "method", "path", "body", "repeatable", "location"), CALLS)
def test_calls(
    request_: requests.ApiRequest, method: str, path: str, body: Any, repeatable: bool, location: str
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
    request = requests.list_tuning_jobs(
        *SCOPE, filter='state="A" AND labels.x=y&z', page_size=50, page_token="a/b+c=#?é"
    )
    assert request.url(BASE, "v1") == (
        f"{BASE}/v1/{P}/tuningJobs?filter=state%3D%22A%22+AND+labels.x%3Dy%26z&pageSize=50"
        "&pageToken=a%2Fb%2Bc%3D%23%3F%C3%A9"
    )


@pytest.mark.parametrize("empty", [None, ""])
def test_empty_parameters_are_left_out(empty: Any) -> None:
    request = requests.list_tuning_jobs(*SCOPE, filter=empty, page_token=empty)
    assert request.url(BASE, "v1") == f"{BASE}/v1/{P}/tuningJobs"


def test_half_a_surrogate_pair_in_a_token_does_not_crash() -> None:
    request = requests.list_tuning_jobs(*SCOPE, page_token="t\ud800")
    assert request.url(BASE, "v1").endswith("?pageToken=t%3F")


@pytest.mark.parametrize(("value", "sent"), [(1, "1"), ("50", "50"), (1000, "1000"), (20.0, "20")])
def test_page_sizes(value: Any, sent: str) -> None:
    assert requests.list_tuning_jobs(*SCOPE, page_size=value).query == {"pageSize": sent}


@pytest.mark.parametrize("value", [0, -1, 1001, 1.5, True, "", "many", [], float("nan")])
def test_page_sizes_that_are_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"^page_size=.* from 1 to 1000"):
        requests.list_tuning_jobs(*SCOPE, page_size=value)


def test_project_and_location_are_checked() -> None:
    for call in (
        lambda *scope: requests.create_tuning_job(*scope, BODY),
        requests.list_tuning_jobs,
        lambda *scope: requests.rebase_tuned_model(*scope, BODY),
    ):
        with pytest.raises(InvalidInputError, match=r"^project_id="):
            call("..", "us-central1")
        with pytest.raises(InvalidInputError, match=r"^location="):
            call("p", "evil.com/")


def test_api_versions() -> None:
    assert [requests.validate_api_version(version) for version in ("v1", "v1beta1")] == ["v1", "v1beta1"]
    for value in ("v2", "", None, "v1/..", b"v1", ["v1"]):
        with pytest.raises(InvalidInputError, match=r"^api_version=.*v1, v1beta1"):
            requests.validate_api_version(value)
