"""The triggers on the real runner of Airflow's triggerer, where it is there; their arguments everywhere."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
from airflow_tuning_provider.triggers import tuning_job as triggers
from airflow_tuning_provider.triggers.tuning_job import OperationTrigger, TuningJobTrigger
from tests.integration.tasks.conftest import BODY, TaskInstance, first_event, rebuilt

NAME = "projects/test-project/locations/us-central1/tuningJobs/4711"
# What version 0.1.0 stores in the metadata database. Never change it: tasks that are deferred during an upgrade
# hold just these arguments.
STORED_BY_0_1_0: dict[str, Any] = {
    "gcp_conn_id": "google_cloud_default",
    "poll_interval": 60.0,
    "end_time": 1795000000.0,
    "impersonation_chain": None,
    "api_version": "v1",
    "request_timeout": 60.0,
    "cancel_on_kill": True,
    "tuning_job_name": NAME,
    "project_id": None,
    "location": None,
    "end_in_triggerer": False,
}


def test_arguments_of_version_0_1_0_are_understood() -> None:
    trigger = TuningJobTrigger(**STORED_BY_0_1_0)
    path, kwargs = trigger.serialize()
    assert path == "airflow_tuning_provider.triggers.tuning_job.TuningJobTrigger"
    assert kwargs.items() >= STORED_BY_0_1_0.items()


def test_arguments_of_later_versions_are_tolerated() -> None:
    trigger = TuningJobTrigger(**STORED_BY_0_1_0, invented_later={"a": 1})
    assert trigger.serialize() == TuningJobTrigger(**STORED_BY_0_1_0).serialize()


def test_missing_arguments_have_defaults() -> None:
    assert TuningJobTrigger(gcp_conn_id="c", tuning_job_name=NAME).serialize()[1]["poll_interval"] == 60.0
    assert OperationTrigger(gcp_conn_id="c", operation_name="o").serialize()[1]["end_time"] is None


def test_arguments_are_plain_and_hold_no_secret(server: Emulator) -> None:
    ti = TaskInstance()
    ti.run(CreateTuningJobOperator(task_id="tune", poll_interval=0.2, **BODY))
    stored = json.dumps([deferred.trigger.serialize() for deferred in ti.deferrals])
    assert "a-token" not in stored
    assert server.url not in stored


@pytest.mark.parametrize("fault", [{"status": 403}, {"status": 404}], ids=str)
def test_permanent_error_ends_the_wait_with_its_kind(server: Emulator, fault: dict[str, Any]) -> None:
    server.fault(method="GET", path_regex="tuningJobs/", times=-1, **fault)
    payload = first_event(rebuilt(TuningJobTrigger(**STORED_BY_0_1_0))).payload
    assert payload["status"] == "error"
    assert payload["http_status"] == fault["status"]


def test_deadline_in_the_past_still_takes_one_look(server: Emulator) -> None:
    task = CreateTuningJobOperator(task_id="tune", wait_for_completion=False, **BODY)
    name = TaskInstance().run(task)["tuning_job_name"]
    server.set_state(name, "JOB_STATE_SUCCEEDED")
    late = TuningJobTrigger(**{**STORED_BY_0_1_0, "tuning_job_name": name, "end_time": 1.0})
    assert first_event(rebuilt(late)).payload["status"] == "ended"


def test_task_resumes_only_once_its_process_is_seen_to_have_ended(
    server: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triggers, "SETTLE_SECONDS", 1.5)
    task = CreateTuningJobOperator(task_id="tune", wait_for_completion=False, **BODY)
    name = TaskInstance().run(task)["tuning_job_name"]
    server.set_state(name, "JOB_STATE_FAILED")

    def seconds(**arguments: Any) -> float:
        began = time.monotonic()
        trigger = TuningJobTrigger(**{**STORED_BY_0_1_0, "tuning_job_name": name, **arguments})
        assert first_event(rebuilt(trigger)).payload["state"] == "JOB_STATE_FAILED"
        return time.monotonic() - began

    at_once, settled = seconds(end_in_triggerer=True), seconds()
    assert at_once < settled
    assert settled >= 1.5


def test_bad_connection_is_an_event_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps({"conn_type": "x", "extra": {"location": "/"}})
    )
    payload = first_event(rebuilt(TuningJobTrigger(**STORED_BY_0_1_0))).payload
    assert payload["status"] == "error"
    assert "location" in payload["message"]
