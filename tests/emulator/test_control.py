"""The control API: requests, jobs and states."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_tuning_provider.emulator.testing import Emulator, EmulatorError

from .conftest import BODY, JOBS, Client
from .discovery import assert_valid
from .test_jobs import wait_for


def test_requests_are_recorded_in_order(emulator: Emulator, call: Client) -> None:
    before = emulator.last_request()
    call("POST", JOBS, BODY)
    call("GET", JOBS + "?pageSize=1&filter=labels.a%3Ab")
    call("GET", JOBS, token=None)
    requests = emulator.requests(since=before)
    assert [(r["method"], r["path"], r["status"]) for r in requests] == [
        ("POST", JOBS, 200),
        ("GET", JOBS, 200),
        ("GET", JOBS, 401),
    ]
    assert [r["seq"] for r in requests] == [before + 1, before + 2, before + 3]
    assert requests[1]["query"] == {"pageSize": "1", "filter": "labels.a:b"}
    assert requests[0]["body"] == BODY
    assert requests[0]["time"] < requests[2]["time"]
    answer = call("GET", f"/_emulator/requests?since={before + 2}", token=None).json
    assert [r["seq"] for r in answer["requests"]] == [before + 3]
    assert answer["next"] == before + 3
    assert call("GET", f"/_emulator/requests?since={answer['next']}").json["requests"] == []


@pytest.mark.parametrize("since", ["x", "-1", "1.5"])
def test_a_bad_since(call: Client, since: str) -> None:
    assert call("GET", f"/_emulator/requests?since={since}").status == 400


def test_health_and_reset(emulator: Emulator, call: Client) -> None:
    assert call("GET", "/_emulator/health", token=None).json["status"] == "ok"
    call.create()
    emulator.fault(status=500)
    emulator.reset()
    assert (emulator.jobs(), emulator.requests(), emulator.faults()) == ([], [], [])
    assert call("GET", JOBS).json == {}


STATES = [
    # state, has a start, has an end, has a model, error code
    ("JOB_STATE_QUEUED", False, False, False, None),
    ("JOB_STATE_PENDING", False, False, False, None),
    ("JOB_STATE_RUNNING", True, False, False, None),
    ("JOB_STATE_PAUSED", True, False, False, None),
    ("JOB_STATE_UPDATING", True, False, False, None),
    ("JOB_STATE_FROBNICATING", True, False, False, None),
    ("JOB_STATE_CANCELLING", False, False, False, None),
    ("JOB_STATE_CANCELLED", False, True, False, 1),
    ("JOB_STATE_FAILED", False, True, False, 13),
    ("JOB_STATE_EXPIRED", False, True, False, 4),
    ("JOB_STATE_SUCCEEDED", True, True, True, None),
    ("JOB_STATE_PARTIALLY_SUCCEEDED", True, True, True, None),
]


@pytest.mark.parametrize(("state", "start", "end", "model", "code"), STATES)
def test_a_job_is_put_into_a_state(
    emulator: Emulator, call: Client, state: str, start: bool, end: bool, model: bool, code: int | None
) -> None:
    name = call.create()["name"]
    answer = emulator.set_state(name, state)
    job = call("GET", f"/v1beta1/{name}").json
    assert answer == job
    assert_valid({**job, "state": "JOB_STATE_RUNNING"}, "TuningJob", "v1beta1")
    assert job["state"] == state
    assert ("startTime" in job, "endTime" in job, "tunedModel" in job) == (start, end, model)
    assert job.get("error", {}).get("code") == code
    assert [j["state"] for j in emulator.jobs()] == [state]
    listed = call("GET", f"{JOBS}?filter=state%3D{state}").json["tuningJobs"]
    assert [j["name"] for j in listed] == [name]


def test_a_state_stays_until_it_is_set_again(emulator: Emulator, call: Client) -> None:
    name = call.create()["name"]
    emulator.set_state(name, "JOB_STATE_PENDING")
    other = call.create()["name"]
    wait_for(call, other, "JOB_STATE_SUCCEEDED")
    assert call("GET", f"/v1/{name}").json["state"] == "JOB_STATE_PENDING"
    done = emulator.set_state(name, "JOB_STATE_SUCCEEDED")
    again = emulator.set_state(name, "JOB_STATE_RUNNING")
    assert again["startTime"] == done["startTime"]
    assert "endTime" not in again
    assert "tunedModel" not in again


def test_a_state_set_by_hand_can_be_cancelled(emulator: Emulator, call: Client) -> None:
    name = call.create()["name"]
    running = emulator.set_state(name, "JOB_STATE_RUNNING")
    assert call("POST", f"/v1/{name}:cancel").status == 200
    job = wait_for(call, name, "JOB_STATE_CANCELLED")
    assert job["startTime"] == running["startTime"]
    assert emulator.set_state(name, "JOB_STATE_RUNNING")["state"] == "JOB_STATE_RUNNING"


def test_a_given_error_is_shown(emulator: Emulator, call: Client) -> None:
    name = call.create()["name"]
    error = {"code": 8, "message": "Out of something."}
    assert emulator.set_state(name, "JOB_STATE_FAILED", error)["error"] == error


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "state"),
        ({"state": 5}, "state"),
        ({"state": ""}, "state"),
        ({"state": "JOB_STATE_FAILED", "error": "x"}, "error"),
        ({"state": "JOB_STATE_FAILED", "error": {"status": 5}}, "error"),
        ({"state": "JOB_STATE_FAILED", "error": {"code": "5"}}, "error"),
        ({"State": "x"}, "State"),
    ],
)
def test_a_bad_state_is_refused_by_field(emulator: Emulator, call: Client, body: Any, field: str) -> None:
    id_ = call.create()["name"].rpartition("/")[2]
    with pytest.raises(EmulatorError, match=f"400: {field}: "):
        emulator.control("POST", f"jobs/{id_}/state", body)


def test_an_unknown_job_and_an_unknown_control_path(emulator: Emulator) -> None:
    with pytest.raises(EmulatorError, match="404"):
        emulator.set_state("1", "JOB_STATE_FAILED")
    with pytest.raises(EmulatorError, match="404"):
        emulator.control("GET", "nothing")
