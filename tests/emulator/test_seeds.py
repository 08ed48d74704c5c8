"""Jobs put in directly, and what is laid over jobs."""

from __future__ import annotations

import time
from typing import Any

import pytest

from airflow_tuning_provider.emulator.testing import Emulator, EmulatorError

from .conftest import JOBS, Client
from .discovery import assert_valid
from .test_jobs import wait_for

PARENT = "projects/my-project/locations/us-central1"


def test_a_seed_is_a_job_like_any_other(emulator: Emulator, call: Client) -> None:
    (name,) = emulator.seed({"labels": {"Team X": "ANY"}}, project="my-project")
    job = wait_for(call, name, "JOB_STATE_SUCCEEDED")
    assert job["labels"] == {"Team X": "ANY"}
    assert_valid(job, "TuningJob")
    assert call("GET", JOBS).json["tuningJobs"] == [job]
    endpoint = job["tunedModel"]["endpoint"]
    body = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}
    assert call("POST", f"/v1/{endpoint}:generateContent", body).status == 200


def test_the_default_place(emulator: Emulator, call: Client) -> None:
    (name,) = emulator.seed()
    assert (
        call("GET", "/v1/projects/test-project/locations/us-central1/tuningJobs").json["tuningJobs"][0][
            "name"
        ]
        == name
    )


def test_a_given_state_stays(emulator: Emulator, call: Client) -> None:
    error = {"code": 8, "message": "Out of something."}
    created = "2026-01-02T03:04:05Z"
    names = emulator.seed(
        {"state": "JOB_STATE_FAILED", "error": error, "create_time": created}, project="my-project", count=3
    )
    jobs = call("GET", JOBS).json["tuningJobs"]
    assert sorted(names) == sorted(j["name"] for j in jobs)
    for job in jobs:
        assert (job["state"], job["error"]) == ("JOB_STATE_FAILED", error)
        assert job["createTime"] == job["endTime"] == "2026-01-02T03:04:05.000000Z"
        assert_valid(job, "TuningJob")


def test_a_seed_without_state_runs_from_its_creation(emulator: Emulator, call: Client) -> None:
    (name,) = emulator.seed({"createTime": "2026-01-02T03:04:05Z"}, project="my-project")
    job = call("GET", f"/v1/{name}").json
    assert (job["state"], job["endTime"][:16]) == ("JOB_STATE_SUCCEEDED", "2026-01-02T03:04")


def test_list_runs_by_creation(emulator: Emulator, call: Client) -> None:
    new = call.create()["name"]
    old = emulator.seed({"createTime": "2026-01-01T00:00:00Z"}, project="my-project", count=3)
    older = emulator.seed({"createTime": "2025-01-01T00:00:00Z"}, project="my-project")
    names, token = [], ""
    while True:
        page = call("GET", f"{JOBS}?pageSize=2&pageToken={token}").json
        names += [j["name"] for j in page["tuningJobs"]]
        token = page.get("nextPageToken", "")
        if not token:
            break
    assert names == [new, *reversed(old), *older]


def test_what_google_sets_becomes_the_overlay(emulator: Emulator, call: Client) -> None:
    (name,) = emulator.seed({"state": None, "tunedModel": "x", "endTime": "never"}, project="my-project")
    for job in (call("GET", f"/v1/{name}").json, call("GET", JOBS).json["tuningJobs"][0]):
        assert "state" not in job
        assert (job["tunedModel"], job["endTime"]) == ("x", "never")


def test_an_overlay(emulator: Emulator, call: Client) -> None:
    name = call.create(labels={"a": "b"})["name"]
    wait_for(call, name, "JOB_STATE_SUCCEEDED")
    before = call("GET", f"/v1/{name}").json
    fields = {"state": None, "name": "projects/my-project/x", "tunedModel": {"endpoint": None}, "new": [1]}
    answer = emulator.overlay(name, fields)
    job = call("GET", f"/v1/{name}").json
    assert call("GET", JOBS).json["tuningJobs"] == [job]
    assert (answer["name"], job["name"], job["new"]) == (
        "projects/my-project/x",
        "projects/my-project/x",
        [1],
    )
    assert "state" not in job
    assert job["tunedModel"] == {k: v for k, v in before["tunedModel"].items() if k != "endpoint"}
    assert job["labels"] == before["labels"]
    assert emulator.jobs()[0]["state"] == "JOB_STATE_SUCCEEDED"
    emulator.overlay(name, {"tunedModel": "x"})
    assert call("GET", f"/v1/{name}").json == before | {"tunedModel": "x"}
    emulator.overlay(name, {})
    assert call("GET", f"/v1/{name}").json == before


def test_seeds_take_no_place() -> None:
    with Emulator(speed=2000, datasets="skip", concurrent_jobs=1, over_quota="reject") as emulator:
        emulator.seed({"state": "JOB_STATE_RUNNING"}, project="my-project", count=5)
        assert Client(emulator.url).create()["state"] == "JOB_STATE_PENDING"


def test_fifty_thousand_take_a_few_seconds(emulator: Emulator, call: Client) -> None:
    began = time.monotonic()
    names = emulator.seed(
        {"state": "JOB_STATE_RUNNING", "labels": {"a": "b"}}, count=50_000, project="my-project"
    )
    assert time.monotonic() - began < 15
    assert len(set(names)) == 50_000
    assert len(call("GET", JOBS + "?pageSize=1000").json["tuningJobs"]) == 1000


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "parent"),
        ({"parent": "projects/x"}, "parent"),
        ({"parent": PARENT, "job": []}, "job"),
        ({"parent": PARENT, "count": 0}, "count"),
        ({"parent": PARENT, "count": True}, "count"),
        ({"parent": PARENT, "jobs": {}}, "jobs"),
        ({"parent": PARENT, "job": {"state": 5}}, "job.state"),
        ({"parent": PARENT, "job": {"createTime": "today"}}, "job.createTime"),
        ({"parent": PARENT, "job": {"createTime": 5}}, "job.createTime"),
        ({"parent": PARENT, "job": {"state": "X", "error": "x"}}, "job.error"),
    ],
)
def test_a_bad_seed_is_refused_by_field(emulator: Emulator, body: Any, field: str) -> None:
    with pytest.raises(EmulatorError, match=f"400: {field}: "):
        emulator.control("POST", "jobs", body)
    assert emulator.jobs() == []


def test_a_seed_with_an_unknown_field_is_refused(emulator: Emulator) -> None:
    with pytest.raises(EmulatorError, match=r"400: .*frobnicate"):
        emulator.seed({"frobnicate": 1})


@pytest.mark.parametrize("body", [{}, {"fields": None}, {"fields": [1]}, {"field": {}}])
def test_a_bad_overlay_is_refused(emulator: Emulator, call: Client, body: Any) -> None:
    id_ = call.create()["name"].rpartition("/")[2]
    with pytest.raises(EmulatorError, match=r"400: fields?: "):
        emulator.control("POST", f"jobs/{id_}/overlay", body)


def test_an_overlay_needs_a_job(emulator: Emulator) -> None:
    with pytest.raises(EmulatorError, match="404"):
        emulator.overlay("1", {})
