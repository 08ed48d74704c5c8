"""create, get, list and cancel over plain HTTP."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from airflow_tuning_provider.emulator.testing import Emulator

from .conftest import BODY, JOBS, Client
from .discovery import assert_valid


def wait_for(call: Client, name: str, state: str, version: str = "v1") -> dict[str, Any]:
    deadline = time.monotonic() + 15
    while True:
        job = call("GET", f"/{version}/{name}").json
        if job["state"] == state:
            return job
        assert time.monotonic() < deadline, job["state"]
        time.sleep(0.02)


def test_a_job_runs_to_its_tuned_model(call: Client) -> None:
    created = call.create(labels={"team": "a"})
    assert re.fullmatch(r"projects/\d{12}/locations/us-central1/tuningJobs/\d{19}", created["name"])
    assert created["state"] == "JOB_STATE_PENDING"
    assert created["labels"] == {"team": "a"}
    assert re.fullmatch(r"gemini-3\.5-flash-[0-9a-f-]{36}", created["tunedModelDisplayName"])
    assert "startTime" not in created
    assert "tunedModel" not in created
    job = wait_for(call, created["name"], "JOB_STATE_SUCCEEDED")
    assert re.fullmatch(r"projects/\d{12}/locations/us-central1/models/\d{19}@1", job["tunedModel"]["model"])
    assert job["tunedModel"]["endpoint"] == job["tunedModel"]["checkpoints"][-1]["endpoint"]
    assert job["createTime"] < job["startTime"] < job["endTime"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", job["endTime"])
    hyper = job["supervisedTuningSpec"]["hyperParameters"]
    assert hyper["adapterSize"] == "ADAPTER_SIZE_FOUR"
    assert hyper["learningRateMultiplier"] == 1
    assert hyper["epochCount"].isdigit()
    stats = job["tuningDataStats"]["supervisedTuningDataStats"]
    assert isinstance(stats["totalBillableTokenCount"], str)
    assert isinstance(stats["userInputTokenDistribution"]["mean"], (int, float))
    assert "error" not in job


def test_a_job_is_found_by_project_id_and_by_number_in_both_versions(call: Client) -> None:
    name = call.create()["name"]
    by_id = JOBS + "/" + name.rpartition("/")[2]
    for path in (by_id, by_id.replace("/v1/", "/v1beta1/"), "/v1/" + name, "/v1beta1/" + name):
        assert call("GET", path).json["name"] == name


@pytest.mark.parametrize(
    ("old", "new"),
    [("us-central1", "europe-west4"), ("my-project", "other"), ("tuningJobs/", "tuningJobs/9")],
)
def test_another_place_has_no_such_job(call: Client, old: str, new: str) -> None:
    path = JOBS + "/" + call.create()["name"].rpartition("/")[2]
    answer = call("GET", path.replace(old, new))
    assert (answer.status, answer.error["status"]) == (404, "NOT_FOUND")


def test_cancel_goes_through_cancelling(call: Client, emulator: Emulator) -> None:
    name = call.create()["name"]
    answer = call("POST", f"/v1/{name}:cancel", raw=b"")
    assert (answer.status, answer.json) == (200, {})
    assert call("GET", f"/v1/{name}").json["state"] in ("JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED")
    job = wait_for(call, name, "JOB_STATE_CANCELLED")
    assert job["error"]["code"] == 1
    assert "endTime" in job
    again = call("POST", f"/v1/{name}:cancel", {})
    assert (again.status, again.error["status"]) == (400, "FAILED_PRECONDITION")
    assert "is not cancellable" in again.error["message"]


def test_cancelling_twice_is_fine(call: Client, emulator: Emulator) -> None:
    name = call.create()["name"]
    emulator.set_state(name, "JOB_STATE_CANCELLING")
    assert call("POST", f"/v1/{name}:cancel", {}).status == 200
    assert call("GET", f"/v1/{name}").json["state"] == "JOB_STATE_CANCELLING"


def test_an_empty_list_is_an_empty_object(call: Client) -> None:
    assert call("GET", JOBS).json == {}


def test_pages_run_newest_first_without_gaps(call: Client) -> None:
    names = [call.create()["name"] for _ in range(5)]
    found, token = [], ""
    for size in (2, 2, 1):
        page = call("GET", f"{JOBS}?pageSize=2&pageToken={token}").json
        assert len(page["tuningJobs"]) == size
        found += [job["name"] for job in page["tuningJobs"]]
        token = page.get("nextPageToken", "")
    assert found == names[::-1]
    assert not token


def test_a_new_job_does_not_shift_the_next_page(call: Client) -> None:
    names = [call.create()["name"] for _ in range(3)]
    token = call("GET", f"{JOBS}?page_size=2").json["nextPageToken"]
    call.create()
    assert [j["name"] for j in call("GET", f"{JOBS}?pageToken={token}").json["tuningJobs"]] == names[:1]


@pytest.mark.parametrize(
    "query", ["pageSize=-1", "pageSize=x", "pageToken=!!", "pageToken=abcd", "orderBy=name"]
)
def test_a_bad_list_request_is_refused(call: Client, query: str) -> None:
    assert call("GET", f"{JOBS}?{query}").error["status"] == "INVALID_ARGUMENT"


def test_a_page_token_belongs_to_its_filter(call: Client) -> None:
    call.create()
    call.create()
    token = call("GET", f"{JOBS}?pageSize=1").json["nextPageToken"]
    assert call("GET", f"{JOBS}?pageSize=1&filter=labels.a:*&pageToken={token}").status == 400


def test_system_parameters_are_accepted(call: Client) -> None:
    assert call("GET", JOBS + "?%24alt=json%3Benum-encoding%3Dint&prettyPrint=false&$.xgafv=2").status == 200


def test_listing_filters_on_the_server(call: Client, emulator: Emulator) -> None:
    a = call.create(labels={"team": "a"}, tunedModelDisplayName="one")["name"]
    b = call.create(labels={"team": "b"})["name"]
    emulator.set_state(b, "JOB_STATE_PAUSED")
    found = call("GET", JOBS + '?filter=state%3D"JOB_STATE_PAUSED"').json["tuningJobs"]
    assert [job["name"] for job in found] == [b]
    found = call("GET", JOBS + "?filter=labels.team%3Da+AND+display_name%3Done").json["tuningJobs"]
    assert [job["name"] for job in found] == [a]
    bad = call("GET", JOBS + "?filter=labels.team%3D")
    assert bad.status == 400
    assert "Invalid filter" in bad.error["message"]


def test_v1beta1_shows_the_progress(call: Client, emulator: Emulator) -> None:
    name = call.create()["name"]
    assert call("GET", f"/v1beta1/{name}").json["tuningJobState"] == "TUNING_JOB_STATE_WAITING_FOR_CAPACITY"
    assert "tuningJobState" not in call("GET", f"/v1/{name}").json
    job = wait_for(call, name, "JOB_STATE_RUNNING", "v1beta1")
    assert job["tuningJobState"] == "TUNING_JOB_STATE_TUNING"
    job = wait_for(call, name, "JOB_STATE_SUCCEEDED", "v1beta1")
    assert job["tuningJobMetadata"]["completedEpochCount"] == job["tunedModel"]["checkpoints"][-1]["epoch"]
    assert "tuningJobMetadata" not in call("GET", f"/v1/{name}").json


@pytest.mark.parametrize(
    ("location", "model", "endpoint"),
    [
        ("us-central1", "gemini-3.5-flash", "us"),
        ("europe-west4", "gemini-3.1-flash-lite", "eu"),
        ("europe-west4", "gemini-2.5-pro", "europe-west4"),
    ],
)
def test_gemini_3_is_served_from_a_multi_region(
    call: Client, emulator: Emulator, location: str, model: str, endpoint: str
) -> None:
    name = call.create(JOBS.replace("us-central1", location), baseModel=model)["name"]
    tuned = emulator.set_state(name, "JOB_STATE_SUCCEEDED")["tunedModel"]
    assert f"/locations/{endpoint}/endpoints/" in tuned["endpoint"]
    assert f"/locations/{location}/models/" in tuned["model"]


def test_an_unknown_url_is_googles_page_and_no_envelope(call: Client) -> None:
    for path in ("/v2/projects/p/locations/l/tuningJobs", "/v1/projects/p/tuningJobs", "/"):
        answer = call("GET", path)
        assert answer.status == 404
        assert answer.headers["content-type"].startswith("text/html")


def test_continuous_tuning_makes_a_version_of_the_same_model(call: Client, emulator: Emulator) -> None:
    first = emulator.set_state(call.create()["name"], "JOB_STATE_SUCCEEDED")
    body = {"preTunedModel": {"tuned_model_name": first["tunedModel"]["model"]}, "baseModel": None}
    second = call.create(**body)
    assert second["preTunedModel"]["baseModel"] == "gemini-3.5-flash"
    assert second["tunedModelDisplayName"] == first["tunedModelDisplayName"]
    tuned = emulator.set_state(second["name"], "JOB_STATE_SUCCEEDED")["tunedModel"]["model"]
    assert tuned == first["tunedModel"]["model"].replace("@1", "@2")
    other = call.create(**body, tunedModelDisplayName="another")
    tuned = emulator.set_state(other["name"], "JOB_STATE_SUCCEEDED")["tunedModel"]["model"]
    assert tuned.endswith("@1")


def test_only_the_last_checkpoint_is_exported_on_demand(call: Client, emulator: Emulator) -> None:
    spec = {
        **BODY["supervisedTuningSpec"],
        "exportLastCheckpointOnly": True,
        "hyperParameters": {"epochCount": 4},
    }
    name = call.create(supervisedTuningSpec=spec)["name"]
    (checkpoint,) = emulator.set_state(name, "JOB_STATE_SUCCEEDED")["tunedModel"]["checkpoints"]
    assert checkpoint["epoch"] == "4"


@pytest.mark.parametrize(
    ("spec", "more"),
    [
        ("partnerModelTuningSpec", {"hyperParameters": {"epochCount": "auto"}}),
        ("veoTuningSpec", {}),
        ("fullFineTuningSpec", {}),
        ("reinforcementTuningSpec", {"hyperParameters": {"stepCount": 7}}),
        ("distillationSpec", {"hyperParameters": {"epochCount": 2}}),
    ],
)
def test_the_kinds_of_v1beta1_run_too(
    call: Client, emulator: Emulator, spec: str, more: dict[str, Any]
) -> None:
    path = JOBS.replace("/v1/", "/v1beta1/")
    body = {"supervisedTuningSpec": None, spec: {"trainingDatasetUri": "gs://b/x.jsonl", **more}}
    name = call.create(path, **body)["name"]
    job = emulator.set_state(name, "JOB_STATE_SUCCEEDED")
    assert_valid(job, "TuningJob", "v1beta1")
    assert job["tuningDataStats"]
    v1 = call("GET", f"/v1/{name}").json
    assert_valid(v1, "TuningJob", "v1")
    assert spec not in v1


def test_what_cannot_be_stored_is_refused_and_still_recorded(call: Client, emulator: Emulator) -> None:
    bodies = [b'{"description": "\\ud800"}', b'{"description": NaN}', b"\xff\xfe", b"[" * 50_000, b"9" * 5000]
    for raw in bodies:
        answer = call("POST", JOBS, raw=raw)
        assert (answer.status, answer.error["status"]) == (400, "INVALID_ARGUMENT")
    assert [r["status"] for r in emulator.requests()] == [400] * len(bodies)
