"""--concurrent-jobs: what is beyond waits or is refused."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_tuning_provider.emulator.testing import Emulator

from .conftest import BODY, JOBS, Client
from .test_jobs import wait_for


@pytest.fixture(scope="module")
def shared_emulator() -> Iterator[Emulator]:
    with Emulator(speed=2000, datasets="skip", concurrent_jobs=1) as emulator:
        yield emulator


def states(emulator: Emulator) -> list[str]:
    return [job["state"].removeprefix("JOB_STATE_") for job in emulator.jobs()]


def test_jobs_run_one_after_the_other(call: Client, emulator: Emulator) -> None:
    names = [call.create()["name"] for _ in range(3)]
    assert states(emulator) == ["PENDING", "QUEUED", "QUEUED"]
    queued = call("GET", f"/v1beta1/{names[1]}").json
    assert queued["tuningJobState"] == "TUNING_JOB_STATE_WAITING_FOR_QUOTA"
    jobs = [wait_for(call, name, "JOB_STATE_SUCCEEDED") for name in names]
    for before, after in itertools.pairwise(jobs):
        assert before["endTime"] < after["startTime"]


def test_nobody_needs_to_look_for_the_queue_to_move(call: Client, emulator: Emulator) -> None:
    names = [call.create()["name"] for _ in range(3)]
    time.sleep(4)
    assert states(emulator) == ["SUCCEEDED"] * 3
    assert call("GET", f"/v1/{names[2]}").json["startTime"]


def test_another_project_has_places_of_its_own(call: Client, emulator: Emulator) -> None:
    call.create()
    call.create(JOBS.replace("us-central1", "europe-west4"))
    call.create(JOBS.replace("my-project", "other"))
    assert states(emulator) == ["PENDING", "QUEUED", "PENDING"]


def test_a_cancelled_job_frees_its_place(call: Client, emulator: Emulator) -> None:
    names = [call.create()["name"] for _ in range(3)]
    emulator.set_state(names[0], "JOB_STATE_RUNNING")
    assert call("POST", f"/v1/{names[1]}:cancel").status == 200
    wait_for(call, names[1], "JOB_STATE_CANCELLED")
    assert states(emulator) == ["RUNNING", "CANCELLED", "QUEUED"]
    assert call("POST", f"/v1/{names[0]}:cancel").status == 200
    wait_for(call, names[2], "JOB_STATE_PENDING")
    assert states(emulator)[:2] == ["CANCELLED", "CANCELLED"]


def test_a_place_freed_by_hand(call: Client, emulator: Emulator) -> None:
    names = [call.create()["name"] for _ in range(2)]
    emulator.set_state(names[0], "JOB_STATE_RUNNING")
    assert states(emulator) == ["RUNNING", "QUEUED"]
    emulator.set_state(names[0], "JOB_STATE_FAILED")
    assert states(emulator) == ["FAILED", "PENDING"]


def test_refusal() -> None:
    with Emulator(speed=2000, datasets="skip", concurrent_jobs=1, over_quota="reject") as emulator:
        call = Client(emulator.url)
        name = call.create()["name"]
        answer = call("POST", JOBS, BODY)
        assert (answer.status, answer.error["status"]) == (429, "RESOURCE_EXHAUSTED")
        metric = "aiplatform.googleapis.com/global_concurrent_tuning_jobs"
        assert answer.error["message"] == f"The following quota metrics exceed quota limits: {metric}"
        (detail,) = answer.error["details"]
        assert detail == {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"}
        wait_for(call, name, "JOB_STATE_SUCCEEDED")
        assert call("POST", JOBS, BODY).status == 200


def test_the_queue_survives_a_restart(tmp_path: Path) -> None:
    options = {"speed": 1, "datasets": "skip", "concurrent_jobs": 1, "state": tmp_path / "jobs.db"}
    with Emulator(**options) as emulator:
        call = Client(emulator.url)
        names = [call.create()["name"] for _ in range(2)]
        emulator.restart()
        assert states(emulator) == ["PENDING", "QUEUED"]
        emulator.set_state(names[0], "JOB_STATE_SUCCEEDED")
        assert states(emulator) == ["SUCCEEDED", "PENDING"]
