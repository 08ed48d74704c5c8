"""The triggers on the real runner of Airflow's triggerer, where it is there; their arguments everywhere."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from airflow_tuning_provider.api import waiting
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.exceptions import TuningInvalidInputError, TuningUnavailableError
from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
from airflow_tuning_provider.triggers import events
from airflow_tuning_provider.triggers import tuning_job as triggers
from airflow_tuning_provider.triggers.tuning_job import OperationTrigger, TuningJobTrigger
from tests.integration.tasks.conftest import BODY, TaskInstance, first_event, rebuilt, supervised

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

    def seconds(trigger_id: int | None, **arguments: Any) -> float:
        began = time.monotonic()
        trigger = TuningJobTrigger(**{**STORED_BY_0_1_0, "tuning_job_name": name, **arguments})
        trigger = rebuilt(trigger)
        trigger.trigger_id = trigger_id
        assert first_event(trigger).payload["status"] == "ended"
        return time.monotonic() - began

    in_test = seconds(None)  # dag.test() gives a trigger no id, and has no scheduler
    at_once, settled = seconds(1, end_in_triggerer=True), seconds(1)
    assert in_test < settled
    assert at_once < settled
    assert settled >= 1.5


def test_bad_connection_is_borne_and_then_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SIGHT_SECONDS", 1.0)
    monkeypatch.setenv(
        "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps({"conn_type": "x", "extra": {"location": "/"}})
    )
    trigger = TuningJobTrigger(**{**STORED_BY_0_1_0, "end_time": None})
    payload = first_event(rebuilt(trigger)).payload
    assert payload["status"] == "error"
    assert payload["error"] == "TuningUnavailableError"
    assert "location" in payload["message"]


@pytest.mark.parametrize("name", [None, "", "None", "a/b"])
def test_a_name_that_cannot_be_right_is_told_at_once_and_for_good(server: Emulator, name: str | None) -> None:
    trigger = TuningJobTrigger(**{**STORED_BY_0_1_0, "tuning_job_name": name, "end_time": None})
    event = events.parse(first_event(rebuilt(trigger)).payload)
    error = events.error_of(event)
    assert isinstance(error, TuningInvalidInputError)
    assert "name" in str(error)
    assert server.requests() == []


def test_an_event_of_another_kind_is_no_verdict_on_the_job() -> None:
    for event in (None, {}, {"status": "new"}, {"status": "ended"}, "ended"):
        with pytest.raises(TuningUnavailableError, match="does not know"):
            events.parse(event)


def test_link_is_there_while_a_sensor_waits_that_ends_in_the_triggerer(server: Emulator) -> None:
    ti = TaskInstance()
    (name,) = server.seed({"state": "JOB_STATE_RUNNING"})
    waiting_trigger = TuningJobTrigger(
        gcp_conn_id="google_cloud_default", tuning_job_name=name, poll_interval=0.2, end_in_triggerer=True
    )
    waiting_trigger.task_instance = ti  # type: ignore[assignment]
    at_first: list[dict[str, Any]] = []

    async def wait() -> Any:
        events_of = waiting_trigger.run()
        event = asyncio.ensure_future(anext(events_of))
        await asyncio.sleep(1)
        assert not event.done()
        at_first.append(dict(ti.xcoms))
        server.set_state(name, "JOB_STATE_SUCCEEDED")
        return await asyncio.wait_for(event, 20)

    with supervised(ti):
        event = asyncio.run(wait())
    assert type(event).__name__ == "TaskSuccessEvent"
    assert set(at_first[0]) == {"tuning_job_url", "tuning_jobs_page_url"}
    assert name.rpartition("/")[2] in at_first[0]["tuning_job_url"]
    assert ti.xcoms["return_value"]["state"] == "JOB_STATE_SUCCEEDED"
    assert ti.xcoms["tuning_job_url"] == at_first[0]["tuning_job_url"]
