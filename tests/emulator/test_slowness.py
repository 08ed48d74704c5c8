"""Reads that lag behind writes, and cancellations that take their time."""

from __future__ import annotations

import time
from typing import Any

import pytest

from airflow_tuning_provider.emulator.lifecycle import as_of, pin, view
from airflow_tuning_provider.emulator.testing import Emulator, EmulatorError

from .conftest import JOBS, Client
from .test_lifecycle import job

LAG = 0.4


def listed(call: Client, query: str = "") -> list[str]:
    return [j["name"] for j in call("GET", JOBS + query).json.get("tuningJobs", [])]


def test_list_shows_a_job_late(emulator: Emulator, call: Client) -> None:
    old = call.create()["name"]
    emulator.lag(list_seconds=LAG)
    new = call.create()["name"]
    born = time.monotonic()
    assert listed(call) == [old]
    assert call("GET", f"/v1/{new}").status == 200
    assert [j["name"] for j in emulator.jobs()] == [old, new]
    while listed(call) == [old]:
        assert time.monotonic() < born + 10
        time.sleep(0.02)
    assert time.monotonic() > born + LAG / 2
    assert listed(call) == [new, old]


def test_list_never_shows_a_job(emulator: Emulator, call: Client) -> None:
    emulator.lag(list_seconds=None)
    hidden = call.create(labels={"a": "b"})["name"]
    emulator.lag()
    shown = call.create(labels={"a": "b"})["name"]
    assert listed(call) == listed(call, "?filter=labels.a%3Db") == [shown]
    assert call("GET", f"/v1/{hidden}").status == 200
    # An invisible job takes no place on a page, and makes none necessary.
    assert "nextPageToken" not in call("GET", JOBS + "?pageSize=1").json


def test_get_shows_a_job_late(emulator: Emulator, call: Client) -> None:
    emulator.lag(get_seconds=LAG)
    name = call.create()["name"]
    answer = call("GET", f"/v1/{name}")
    assert (answer.status, answer.error["status"]) == (404, "NOT_FOUND")
    assert listed(call) == [name]
    deadline = time.monotonic() + 10
    while call("GET", f"/v1/{name}").status == 404:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert call("GET", f"/v1/{name}").json["name"] == name


def test_cancel_finds_what_get_does_not_show(emulator: Emulator, call: Client) -> None:
    emulator.lag(get_seconds=None, list_seconds=None)
    name = call.create()["name"]
    assert call("POST", f"/v1/{name}:cancel").status == 200
    assert emulator.jobs()[0]["state"] in ("JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED")


def test_list_shows_an_old_state(emulator: Emulator, call: Client) -> None:
    name = emulator.seed(
        {"state": "JOB_STATE_RUNNING", "createTime": "2026-01-01T00:00:00Z"}, project="my-project"
    )[0]
    emulator.lag(list_state_seconds=LAG)
    emulator.set_state(name, "JOB_STATE_SUCCEEDED")
    assert call("GET", f"/v1/{name}").json["state"] == "JOB_STATE_SUCCEEDED"
    stale = call("GET", JOBS).json["tuningJobs"][0]
    assert stale["state"] == "JOB_STATE_RUNNING"
    assert "tunedModel" not in stale
    assert listed(call, "?filter=state%3D%22JOB_STATE_RUNNING%22") == [name]
    time.sleep(LAG + 0.1)
    assert call("GET", JOBS).json["tuningJobs"][0]["state"] == "JOB_STATE_SUCCEEDED"


def test_a_state_of_the_past_is_exact() -> None:
    tuning = job()
    seen = []
    for at, state in [(130.0, "JOB_STATE_PAUSED"), (200.0, "JOB_STATE_RUNNING")]:
        seen.append((at, state))
        pin(tuning, state, None, at)
    tuning.cancel_asked = 300.0
    pin(tuning, "JOB_STATE_FAILED", None, 400.0)
    assert [
        view(as_of(tuning, t), t).state.removeprefix("JOB_STATE_") for t in (60, 125, 131, 250, 305, 350, 401)
    ] == [
        "PENDING",
        "RUNNING",
        "PAUSED",
        "RUNNING",
        "CANCELLING",
        "CANCELLED",
        "FAILED",
    ]


def test_a_job_was_queued_before_it_was_admitted() -> None:
    late = job(admitted=50.0)
    assert [view(late, t).state.removeprefix("JOB_STATE_") for t in (49, 50)] == ["QUEUED", "PENDING"]


def test_a_cancellation_that_never_ends(emulator: Emulator, call: Client) -> None:
    emulator.cancel_takes(None)
    name = call.create()["name"]
    call("POST", f"/v1/{name}:cancel")
    emulator.cancel_takes(0)
    other = call.create()["name"]
    call("POST", f"/v1/{other}:cancel")
    assert call("GET", f"/v1/{other}").json["state"] == "JOB_STATE_CANCELLED"
    time.sleep(0.1)
    assert call("GET", f"/v1/{name}").json["state"] == "JOB_STATE_CANCELLING"
    emulator.set_state(name, "JOB_STATE_CANCELLED")
    assert call("GET", f"/v1/{name}").json["state"] == "JOB_STATE_CANCELLED"


def test_a_cancellation_for_ever_holds_its_place_and_survives() -> None:
    with Emulator(speed=2000, datasets="skip", concurrent_jobs=1) as emulator:
        call = Client(emulator.url)
        emulator.cancel_takes(None)
        first = call.create()["name"]
        call("POST", f"/v1/{first}:cancel")
        assert call.create()["state"] == "JOB_STATE_QUEUED"


def test_an_endless_cancellation_survives_a_restart(tmp_path: Any) -> None:
    with Emulator(speed=2000, datasets="skip", state=tmp_path / "state.db") as emulator:
        call = Client(emulator.url)
        emulator.cancel_takes(None)
        emulator.lag(list_seconds=None)
        name = call.create()["name"]
        call("POST", f"/v1/{name}:cancel")
        emulator.overlay(name, {"description": "x"})
        emulator.restart()
        assert listed(call) == []
        found = call("GET", f"/v1/{name}").json
        assert (found["state"], found["description"]) == ("JOB_STATE_CANCELLING", "x")


def test_a_reset_ends_all_slowness(emulator: Emulator, call: Client) -> None:
    emulator.lag(list_seconds=None, get_seconds=None, list_state_seconds=100)
    emulator.cancel_takes(None)
    emulator.reset()
    name = call.create()["name"]
    emulator.set_state(name, "JOB_STATE_RUNNING")
    assert listed(call) == [name]
    assert call("GET", JOBS).json["tuningJobs"][0]["state"] == "JOB_STATE_RUNNING"
    call("POST", f"/v1/{name}:cancel")
    time.sleep(0.1)
    assert call("GET", f"/v1/{name}").json["state"] == "JOB_STATE_CANCELLED"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("lag", {"list_seconds": -1}, "list_seconds"),
        ("lag", {"get_seconds": "5"}, "get_seconds"),
        ("lag", {"list_seconds": True}, "list_seconds"),
        ("lag", {"list_state_seconds": None}, "list_state_seconds"),
        ("lag", {"get_seconds": 1e300}, "get_seconds"),
        ("lag", {"seconds": 1}, "seconds"),
        ("cancel", {}, "seconds"),
        ("cancel", {"seconds": [1]}, "seconds"),
        ("cancel", {"second": 1}, "second"),
    ],
)
def test_a_bad_duration_is_refused_by_field(emulator: Emulator, path: str, body: Any, field: str) -> None:
    with pytest.raises(EmulatorError, match=f"400: {field}: "):
        emulator.control("POST", path, body)
