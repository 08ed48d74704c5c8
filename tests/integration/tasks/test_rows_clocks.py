"""Every duration is bounded before anything is sent."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from airflow_tuning_provider import exceptions as errors
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.operators.tuning_job import (
    CancelTuningJobOperator,
    CreateTuningJobOperator,
    RebaseTunedModelOperator,
)
from airflow_tuning_provider.sensors.tuning_job import TuningJobSensor
from tests.integration.tasks.conftest import BODY, LONG, MODES, TaskInstance, is_permanent

NAME = "projects/test-project/locations/us-central1/tuningJobs/4711"
TASKS: dict[str, tuple[Any, dict[str, Any]]] = {
    "create": (CreateTuningJobOperator, BODY),
    "cancel": (CancelTuningJobOperator, {"tuning_job_name": NAME}),
    "rebase": (RebaseTunedModelOperator, {"tuning_job_name": NAME}),
    "sensor": (TuningJobSensor, {"tuning_job_name": NAME}),
}


DURATIONS = [("timeout", 1e12), ("timeout", float("inf")), ("poll_interval", 1e12), ("poll_interval", "1e15")]


@pytest.mark.parametrize("kind", list(TASKS))
@pytest.mark.parametrize(("field", "seconds"), DURATIONS, ids=str)
def test_endless_duration_is_refused_before_anything_is_sent(
    server: Emulator, ti: TaskInstance, kind: str, field: str, seconds: Any
) -> None:
    if (kind, field, seconds) == ("sensor", "timeout", float("inf")):
        pytest.skip("Airflow itself refuses it when the DAG is parsed")
    of_kind, parameters = TASKS[kind]
    for deferrable in (True, False):
        # What is refused when the DAG is parsed is refused soon enough.
        with pytest.raises(ValueError, match=field) as caught:
            ti.run(of_kind(**{"task_id": "t", **parameters, "deferrable": deferrable, field: seconds}))
        assert is_permanent(caught.value) or not isinstance(caught.value, errors.TuningError)
    assert server.requests() == []


@pytest.mark.parametrize("kind", ["create", "cancel", "rebase"])
@pytest.mark.parametrize("seconds", ["1e15", 1e15], ids=repr)
def test_endless_timeout_from_a_template_is_refused_too(
    server: Emulator, ti: TaskInstance, kind: str, seconds: Any
) -> None:
    of_kind, parameters = TASKS[kind]
    with pytest.raises(errors.TuningInvalidInputError, match="timeout"):
        ti.run(of_kind(**{"task_id": "t", **parameters, "timeout": seconds}))
    assert server.requests() == []


@MODES
def test_endless_execution_timeout_is_refused_too(
    server: Emulator, ti: TaskInstance, deferrable: bool
) -> None:
    """Airflow adds it to the time of day, which has an end: it cannot store such a deferral."""
    limit = timedelta(seconds=1e12)
    with pytest.raises(errors.TuningInvalidInputError, match="execution_timeout"):
        ti.run(
            CreateTuningJobOperator(
                task_id="t", deferrable=deferrable, timeout=None, execution_timeout=limit, **BODY
            )
        )
    assert server.requests() == []


def test_job_from_the_future_has_a_deadline_all_the_same(server: Emulator, ti: TaskInstance) -> None:
    """The timeout counts from the API's word for when the job was created."""
    job = ti.run(CreateTuningJobOperator(task_id="t", wait_for_completion=False, **LONG))
    server.overlay(job["tuning_job_name"], {"createTime": "9999-12-31T23:59:59Z"})
    with pytest.raises(errors.TuningDeadlineError):
        ti.retry().run(CreateTuningJobOperator(task_id="t", poll_interval=0.2, timeout=1, **LONG))
    assert ti.deferrals[-1].timeout < timedelta(hours=1)
