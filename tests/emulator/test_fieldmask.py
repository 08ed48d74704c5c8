"""The system parameter ``fields``."""

from __future__ import annotations

import gzip
import json
import time
import urllib.request
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_tuning_provider.emulator.errors import ApiError
from airflow_tuning_provider.emulator.fieldmask import apply_mask, parse_mask
from airflow_tuning_provider.emulator.jobs import Jobs
from airflow_tuning_provider.emulator.seeds import Seed
from airflow_tuning_provider.emulator.settings import Settings
from airflow_tuning_provider.emulator.store import Store
from airflow_tuning_provider.emulator.testing import Emulator

from .conftest import BODY, JOBS, Client
from .test_jobs import wait_for

JOB: dict[str, Any] = {
    "name": "n",
    "state": "s",
    "labels": {"a": "1", "b-c": "2"},
    "supervisedTuningSpec": {"trainingDatasetUri": "u", "hyperParameters": {"epochCount": "1"}},
    "tunedModel": {
        "model": "m",
        "endpoint": "e",
        "checkpoints": [{"epoch": "1", "step": "2"}, {"epoch": "2"}],
    },
}
PAGE = {"tuningJobs": [JOB, {"name": "o"}], "nextPageToken": "t"}


@pytest.mark.parametrize(
    ("mask", "shown"),
    [
        ("", JOB),
        ("*", JOB),
        ("name", {"name": "n"}),
        ("name, state,endTime", {"name": "n", "state": "s"}),
        ("labels.a", {"labels": {"a": "1"}}),
        ("labels/b-c", {"labels": {"b-c": "2"}}),
        ("labels", {"labels": JOB["labels"]}),
        ("tunedModel.model", {"tunedModel": {"model": "m"}}),
        ("tuned_model(model,endpoint)", {"tunedModel": {"model": "m", "endpoint": "e"}}),
        ("tunedModel.model,tunedModel/endpoint", {"tunedModel": {"model": "m", "endpoint": "e"}}),
        ("tunedModel.checkpoints.epoch", {"tunedModel": {"checkpoints": [{"epoch": "1"}, {"epoch": "2"}]}}),
        ("tunedModel,tunedModel.model", {"tunedModel": JOB["tunedModel"]}),
        ("tunedModel.model,tunedModel", {"tunedModel": JOB["tunedModel"]}),
        ("tunedModel/*", {"tunedModel": JOB["tunedModel"]}),
        (
            "supervisedTuningSpec(hyperParameters/epochCount)",
            {"supervisedTuningSpec": {"hyperParameters": {"epochCount": "1"}}},
        ),
    ],
)
def test_a_mask_on_a_job(mask: str, shown: Any) -> None:
    assert apply_mask(parse_mask(mask, "TuningJob", "v1"), JOB) == shown


@pytest.mark.parametrize(
    ("mask", "shown"),
    [
        ("nextPageToken", {"nextPageToken": "t"}),
        ("tuningJobs(name)", {"tuningJobs": [{"name": "n"}, {"name": "o"}]}),
        (
            "tuningJobs.name,nextPageToken",
            {"tuningJobs": [{"name": "n"}, {"name": "o"}], "nextPageToken": "t"},
        ),
        (
            "tuningJobs(state,tunedModel(model))",
            {"tuningJobs": [{"state": "s", "tunedModel": {"model": "m"}}, {}]},
        ),
    ],
)
def test_a_mask_on_a_page(mask: str, shown: Any) -> None:
    assert apply_mask(parse_mask(mask, "ListTuningJobsResponse", "v1"), PAGE) == shown


@pytest.mark.parametrize(
    ("mask", "path"),
    [
        ("frobnicate", "frobnicate"),
        ("tunedModel(frobnicate)", "tunedModel.frobnicate"),
        ("name,tunedModel/checkpoints.x", "tunedModel.checkpoints.x"),
        ("state.x", "state.x"),
        ("tuningJobState", "tuningJobState"),
    ],
)
def test_an_unknown_field_is_named(mask: str, path: str) -> None:
    with pytest.raises(ApiError) as refused:
        parse_mask(mask, "TuningJob", "v1")
    assert refused.value.http == 400
    assert refused.value.message == "Request contains an invalid argument."
    assert refused.value.details[0]["fieldViolations"] == [
        {
            "field": path,
            "description": f"Error expanding 'fields' parameter. Cannot find matching fields for path '{path}'.",
        }
    ]


def test_what_only_v1beta1_has() -> None:
    assert parse_mask("tuningJobState", "TuningJob", "v1beta1") == {"tuningJobState": None}


@pytest.mark.parametrize(
    "mask", ["(", "name(", "tunedModel(model", "name)", "a b", "name,", ",name", "tunedModel/", "/"]
)
def test_a_malformed_mask(mask: str) -> None:
    with pytest.raises(ApiError, match="invalid argument"):
        parse_mask(mask, "TuningJob", "v1")


@given(st.text(alphabet="()/,.* ab", max_size=12) | st.text(max_size=12))
def test_any_mask_is_taken_or_refused(mask: str) -> None:
    try:
        parse_mask(mask, "GenerateContentResponse", "v1")
    except ApiError as e:
        assert e.http == 400  # noqa: PT017


@pytest.mark.parametrize("name", ["fields", "$fields", "%24fields"])
def test_every_call_knows_both_spellings(call: Client, name: str) -> None:
    created = call("POST", f"{JOBS}?{name}=name,state", BODY)
    job = created.json["name"]
    assert set(created.json) == {"name", "state"}
    assert call("GET", f"/v1/{job}?{name}=name").json == {"name": job}
    assert call("GET", f"{JOBS}?{name}=tuningJobs(name)").json == {"tuningJobs": [{"name": job}]}
    wait_for(call, job, "JOB_STATE_SUCCEEDED")
    operation = call(
        "POST", f"{JOBS}:rebaseTunedModel?{name}=name", {"tunedModelRef": {"tuningJob": job}}
    ).json
    assert set(operation) == {"name"}
    assert call("GET", f"/v1/{operation['name']}?{name}=name,metadata.x").json == {
        **operation,
        "metadata": {},
    }
    refused = call("GET", f"{JOBS}?{name}=x")
    assert (refused.status, refused.error["status"]) == (400, "INVALID_ARGUMENT")


def test_the_header(emulator: Emulator, call: Client) -> None:
    name = call.create()["name"]
    request = urllib.request.Request(f"{emulator.url}/v1/{name}")
    request.add_header("Authorization", "Bearer t")
    request.add_header("X-Goog-FieldMask", "name")
    with urllib.request.urlopen(request) as response:
        assert json.load(response) == {"name": name}


def test_a_bad_mask_creates_nothing(emulator: Emulator, call: Client) -> None:
    assert call("POST", f"{JOBS}?fields=frobnicate", BODY).status == 400
    assert emulator.jobs() == []


def test_pages_go_on_under_a_mask(emulator: Emulator, call: Client) -> None:
    names = emulator.seed({"state": "JOB_STATE_RUNNING"}, count=3, project="my-project")
    mask = quote("nextPageToken,tuningJobs(name)")
    first = call("GET", f"{JOBS}?pageSize=2&fields={mask}").json
    rest = call("GET", f"{JOBS}?pageSize=2&fields={mask}&pageToken={first['nextPageToken']}").json
    assert [j["name"] for j in first["tuningJobs"] + rest["tuningJobs"]] == names[::-1]
    assert "nextPageToken" not in rest


def test_an_overlay_is_masked(emulator: Emulator, call: Client) -> None:
    name = call.create()["name"]
    emulator.overlay(name, {"tunedModel": "x", "state": None})
    assert call("GET", f"/v1/{name}?fields=state,tunedModel(model)").json == {"tunedModel": "x"}


def test_a_thousand_jobs_cost_little() -> None:
    """The processor's time, so that a busy machine does not matter."""
    jobs = Jobs(Store(), Settings())
    wanted = {
        "parent": "projects/p/locations/us-central1",
        "job": {"state": "JOB_STATE_SUCCEEDED"},
        "count": 5000,
    }
    jobs.seed(Seed.parse(wanted).records(1.0))
    fields = "nextPageToken,tuningJobs(name,state,labels,createTime,error,tunedModel(model,endpoint))"
    mask = parse_mask(fields, "ListTuningJobsResponse", "v1")
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        page = apply_mask(mask, jobs.list("p", "us-central1", {"pageSize": "1000"}, "v1", mask))
        json.dumps(page)
        best = min(best, time.process_time() - began)
    assert [set(job["tunedModel"]) for job in page["tuningJobs"]] == [{"model", "endpoint"}] * 1000
    assert best < 0.05


@pytest.mark.parametrize(
    ("headers", "compressed"),
    [
        ({"Accept-Encoding": "gzip", "User-Agent": "a-client (gzip)"}, True),
        ({"Accept-Encoding": "gzip", "User-Agent": "a-client"}, False),
        ({"User-Agent": "a-client (gzip)"}, False),
    ],
    ids=str,
)
def test_long_answers_are_compressed_for_who_says_so_twice(
    emulator: Emulator, headers: dict[str, str], compressed: bool
) -> None:
    emulator.seed({"state": "JOB_STATE_RUNNING"}, count=200, project="my-project")
    url = f"{emulator.url}{JOBS}?pageSize=1000&fields=tuningJobs(name,state)"
    request = urllib.request.Request(url, headers={"Authorization": "Bearer t", **headers})
    with urllib.request.urlopen(request, timeout=10) as response:
        content = response.read()
        assert (response.headers["content-encoding"] == "gzip") is compressed
    jobs = json.loads(gzip.decompress(content) if compressed else content)["tuningJobs"]
    assert len(jobs) == 200
    assert (len(content) < 200 * 30) is compressed
