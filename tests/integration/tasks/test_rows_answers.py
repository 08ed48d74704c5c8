"""Whatever a server sends: a result or one of our errors, and never a Python error or a second job."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from airflow_tuning_provider import exceptions as errors
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
from airflow_tuning_provider.sensors.tuning_job import TuningJobSensor
from tests.integration.tasks.conftest import (
    BODY,
    LONG,
    MODES,
    TaskInstance,
    creates,
    eventually,
    is_permanent,
    live,
)

MODEL = "projects/test-project/locations/us-central1/models/4711@1"
UPLOADED = {
    "code": 13,
    "message": "Failed to create endpoint. Tuned model is uploaded to the model registry.",
}


def operator(**kwargs: Any) -> CreateTuningJobOperator:
    return CreateTuningJobOperator(
        **{"task_id": "tune", "poll_interval": 0.2, "timeout": 8, **BODY, **kwargs}
    )


@MODES
def test_failure_that_has_left_a_model_is_permanent_and_names_it(server: Emulator, deferrable: bool) -> None:
    ti = TaskInstance(retries=2)
    ti.lose(operator(**LONG, deferrable=deferrable, retries=2))
    (name,) = live(server)
    server.set_state(name, "JOB_STATE_FAILED", UPLOADED)
    server.overlay(name, {"tunedModel": {"model": MODEL}})
    for _ in range(2):
        with pytest.raises(errors.TuningJobFailedError, match=MODEL) as caught:
            ti.retry().run(operator(**LONG, deferrable=deferrable, retries=2))
        assert is_permanent(caught.value)
        assert "deploy" in str(caught.value).lower(), "says what to do with it"
    assert len(creates(server)) == 1


@MODES
def test_failure_that_has_left_a_model_ends_the_very_attempt(server: Emulator, deferrable: bool) -> None:
    ti = TaskInstance(retries=2)
    failing = threading.Thread(target=_fail_with_model, args=(server,))
    failing.start()
    try:
        with pytest.raises(errors.TuningJobFailedError, match=MODEL) as caught:
            ti.run(operator(**LONG, deferrable=deferrable, retries=2))
    finally:
        failing.join()
    assert is_permanent(caught.value)


def _fail_with_model(server: Emulator) -> None:
    assert eventually(lambda: bool(live(server)))
    (name,) = live(server)
    server.overlay(name, {"tunedModel": {"model": MODEL}})
    server.set_state(name, "JOB_STATE_FAILED", UPLOADED)


def test_job_of_others_that_is_listed_without_a_state_hinders_nobody(
    server: Emulator, ti: TaskInstance
) -> None:
    """Proto JSON omits the enum's value 0. A retry walks the whole list."""
    (other,) = server.seed()
    server.overlay(other, {"state": None})
    name = ti.retry().run(operator(**LONG, wait_for_completion=False))["tuning_job_name"]
    assert len(creates(server)) == 1
    assert name in live(server)


def test_own_job_without_a_state_is_joined(server: Emulator, ti: TaskInstance) -> None:
    ti.lose(operator(**LONG))
    (name,) = live(server)
    server.overlay(name, {"state": None})
    ti.store = None
    assert ti.retry().run(operator(**LONG, wait_for_completion=False))["tuning_job_name"] == name
    assert len(creates(server)) == 1


@MODES
def test_own_job_without_a_state_is_waited_for(server: Emulator, ti: TaskInstance, deferrable: bool) -> None:
    ti.lose(operator(**LONG, deferrable=deferrable))
    (name,) = live(server)
    server.overlay(name, {"state": None})

    def recover() -> None:
        server.overlay(name, {})
        server.set_state(name, "JOB_STATE_SUCCEEDED")

    timer = threading.Timer(1.0, recover)
    timer.start()
    try:
        result = ti.retry().run(operator(**LONG, deferrable=deferrable))
    finally:
        timer.join()
    assert result["tuning_job_name"] == name
    assert len(creates(server)) == 1


ODD: list[Any] = [None, 5, "text", ["x"], {"x": 1}]
FIELDS = [
    "tunedModel",
    "labels",
    "error",
    "createTime",
    "startTime",
    "endTime",
    "baseModel",
    "tuningDataStats",
    "supervisedTuningSpec",
    "tunedModelDisplayName",
    "state",
]


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED"])
@pytest.mark.parametrize("field", FIELDS)
def test_field_of_any_type_is_no_python_error(server: Emulator, field: str, state: str) -> None:
    """In a list and in a get, for the retry of an operator and for a sensor."""
    ti = TaskInstance(store=None, retries=2)
    name = ti.run(operator(**LONG, wait_for_completion=False))["tuning_job_name"]
    server.set_state(name, f"JOB_STATE_{state}", {"code": 3, "message": "x"} if state == "FAILED" else None)
    for value in ODD:
        server.overlay(name, {field: value})
        tasks = [
            operator(**{**LONG, "timeout": 0.3, "cancel_on_timeout": False}),
            TuningJobSensor(
                task_id="w", tuning_job_name=name, deferrable=False, timeout=0.3, poll_interval=0.2
            ),
        ]
        for task in tasks:
            try:
                result = ti.retry().run(task)
            except errors.TuningError:
                pass
            else:
                assert result["tuning_job_name"]


@MODES
@pytest.mark.parametrize("value", ["text", 5, ["x"], {"model": 5}, {"endpoint": []}], ids=repr)
def test_result_that_is_no_object_is_no_python_error(
    server: Emulator, ti: TaskInstance, deferrable: bool, value: Any
) -> None:
    ti.lose(operator(**LONG, deferrable=deferrable))
    (name,) = live(server)
    server.set_state(name, "JOB_STATE_SUCCEEDED")
    server.overlay(name, {"tunedModel": value})
    try:
        result = ti.retry().run(operator(**LONG, deferrable=deferrable))
    except errors.TuningError as error:
        assert name in str(error)  # noqa: PT017
    else:
        assert result["tuning_job_name"] == name
    assert len(creates(server)) == 1
