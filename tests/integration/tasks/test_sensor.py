"""TuningJobSensor against the emulator: the same outcome in every mode."""

from __future__ import annotations

import contextlib
import time
from datetime import timedelta
from typing import Any

import pytest

from airflow_tuning_provider import _compat
from airflow_tuning_provider import exceptions as errors
from airflow_tuning_provider._tasks import waiting
from airflow_tuning_provider.api import waiting as api_waiting
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
from airflow_tuning_provider.sensors import tuning_job as sensors
from airflow_tuning_provider.sensors.tuning_job import TuningJobSensor
from airflow_tuning_provider.triggers.tuning_job import BACKSTOP, TuningJobTrigger
from tests.integration.tasks.conftest import (
    BODY,
    TaskInstance,
    cancels,
    first_event,
    is_permanent,
    rebuilt,
    supervised,
)

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:
    from airflow.exceptions import AirflowRescheduleException

MODES = pytest.mark.parametrize("deferrable", [True, False], ids=["deferrable", "poke"])


@pytest.fixture
def job(server: Emulator) -> str:
    task = CreateTuningJobOperator(task_id="tune", wait_for_completion=False, epoch_count=1_000_000, **BODY)
    return str(TaskInstance().run(task)["tuning_job_name"])


def sensor(name: str, **kwargs: Any) -> TuningJobSensor:
    return TuningJobSensor(
        **{"task_id": "wait", "tuning_job_name": name, "poll_interval": 0.2, "timeout": 30, **kwargs}
    )


def ending(server: Emulator, name: str, state: str, error: dict[str, Any] | None = None) -> Any:
    return lambda *_: server.set_state(name, state, error)


@MODES
def test_success_returns_the_manifest(server: Emulator, ti: TaskInstance, job: str, deferrable: bool) -> None:
    ti.before_trigger = ending(server, job, "JOB_STATE_SUCCEEDED")
    if not deferrable:
        server.set_state(job, "JOB_STATE_SUCCEEDED")
    result = ti.run(sensor(job, deferrable=deferrable))
    assert result["tuning_job_name"] == job
    assert result["endpoint"]
    assert ti.xcoms["tuning_job_url"]
    assert len(ti.deferrals) == int(deferrable)


def test_job_that_has_ended_needs_no_deferral(server: Emulator, ti: TaskInstance, job: str) -> None:
    server.set_state(job, "JOB_STATE_SUCCEEDED")
    assert ti.run(sensor(job))["state"] == "JOB_STATE_SUCCEEDED"
    assert not ti.deferrals


FAILURES = pytest.mark.parametrize(
    ("state", "error", "expected"),
    [
        ("JOB_STATE_FAILED", {"code": 13, "message": "It broke."}, errors.TuningJobFailedPermanentlyError),
        ("JOB_STATE_FAILED", {"code": 3, "message": "It broke."}, errors.TuningJobFailedPermanentlyError),
        ("JOB_STATE_CANCELLED", {"code": 1, "message": "It broke."}, errors.TuningJobCancelledError),
        ("JOB_STATE_EXPIRED", None, errors.TuningJobFailedPermanentlyError),
    ],
    ids=["failed", "failed-for-good", "cancelled", "expired"],
)


@FAILURES
@MODES
def test_end_without_success_fails_at_once(
    server: Emulator,
    ti: TaskInstance,
    job: str,
    deferrable: bool,
    state: str,
    error: dict[str, Any] | None,
    expected: type[Exception],
) -> None:
    if deferrable:
        ti.before_trigger = ending(server, job, state, error)
    else:
        server.set_state(job, state, error)
    with pytest.raises(expected, match="It broke" if error else "expired") as caught:
        ti.run(sensor(job, deferrable=deferrable))
    assert type(caught.value) is expected
    assert is_permanent(caught.value)


@FAILURES
@MODES
def test_soft_fail_skips_in_every_mode(
    server: Emulator,
    ti: TaskInstance,
    job: str,
    deferrable: bool,
    state: str,
    error: dict[str, Any] | None,
    expected: type[Exception],
) -> None:
    if deferrable:
        ti.before_trigger = ending(server, job, state, error)
    else:
        server.set_state(job, state, error)
    with pytest.raises(_compat.AirflowSkipException):
        ti.run(sensor(job, deferrable=deferrable, soft_fail=True))


@MODES
def test_timeout_is_never_retried_and_leaves_the_job_alone(
    server: Emulator, ti: TaskInstance, job: str, deferrable: bool
) -> None:
    with pytest.raises(errors.TuningSensorTimeoutError, match="goes on and may cost money") as caught:
        ti.run(sensor(job, deferrable=deferrable, timeout=0.5))
    assert isinstance(caught.value, _compat.AirflowSensorTimeout)
    assert cancels(server) == []


@MODES
def test_timeout_can_cancel(server: Emulator, ti: TaskInstance, job: str, deferrable: bool) -> None:
    with pytest.raises(_compat.AirflowSkipException):
        ti.run(sensor(job, deferrable=deferrable, timeout=0.5, cancel_on_timeout=True, soft_fail=True))
    assert len(cancels(server)) == 1


def test_execution_timeout_bounds_the_deferral_too_and_is_retried(
    server: Emulator, ti: TaskInstance, job: str
) -> None:
    with pytest.raises(errors.TuningWaitTimeoutError, match="execution_timeout of") as caught:
        ti.run(sensor(job, execution_timeout=timedelta(seconds=0.5)))
    assert not isinstance(caught.value, _compat.AirflowSensorTimeout)
    assert not is_permanent(caught.value)
    assert cancels(server) == []


def test_timeout_over_many_pokes_is_no_execution_timeout(
    server: Emulator, ti: TaskInstance, job: str
) -> None:
    """In mode ``reschedule`` execution_timeout bounds each poke, and may be the shorter of the two."""
    task = sensor(job, deferrable=False, timeout=1.5, execution_timeout=timedelta(seconds=1))
    with pytest.raises(errors.TuningSensorTimeoutError, match=r"sensor's timeout of 1\.5 s"):
        ti.run(task)


def test_skip_for_an_error_cancels_nothing(
    server: Emulator, ti: TaskInstance, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no XCom today")

    monkeypatch.setattr(ti, "xcom_push", broken)
    with pytest.raises(_compat.AirflowSkipException, match="never_fail"):
        ti.run(sensor(job, deferrable=False, never_fail=True, cancel_on_timeout=True))
    assert cancels(server) == []


def test_deferral_that_times_out_is_a_sensor_timeout(server: Emulator, ti: TaskInstance, job: str) -> None:
    with pytest.raises(errors.TuningSensorTimeoutError):
        ti.fail_deferral(sensor(job), "Trigger timeout")
    with pytest.raises(_compat.AirflowSkipException):
        ti.fail_deferral(sensor(job, soft_fail=True), "Trigger timeout")
    with pytest.raises(errors.TuningUnavailableError):
        ti.fail_deferral(sensor(job), "Trigger failure")


@pytest.mark.parametrize("mode", ["deferrable", "poke", "reschedule"])
def test_refusal_ends_no_wait_before_minutes_and_then_the_sensor_is_retried(
    server: Emulator, ti: TaskInstance, job: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sensors, waiting, api_waiting):
        monkeypatch.setattr(module, "SIGHT_SECONDS", 1.0)
    began = time.monotonic()
    server.fault(method="GET", path_regex="tuningJobs/", times=-1, status=403)
    how: dict[str, Any] = {} if mode == "deferrable" else {"deferrable": False, "mode": mode}
    with pytest.raises(errors.TuningUnavailableError, match="goes on and may cost money") as caught:
        while True:
            with contextlib.suppress(AirflowRescheduleException):
                ti.run(sensor(job, **how))
    assert not is_permanent(caught.value)
    assert time.monotonic() - began >= 1.0


def test_poke_goes_on_while_the_api_is_away(
    server: Emulator, ti: TaskInstance, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.fault(method="GET", path_regex="tuningJobs/", times=2, status=503)
    server.set_state(job, "JOB_STATE_SUCCEEDED")
    task = sensor(job, deferrable=False)
    assert ti.run(task)["state"] == "JOB_STATE_SUCCEEDED"


def test_kill_leaves_the_job_alone_unless_asked(server: Emulator, ti: TaskInstance, job: str) -> None:
    server.cancel_takes(None)
    for asked, seen in ((False, 0), (True, 1)):
        task = sensor(job, deferrable=False, cancel_on_kill=asked)
        task.poke(ti.context)
        task.on_kill()
        # Airflow 3.3 lets a task go on that it has sent a SIGTERM.
        assert not task.poke(ti.context).is_done
        assert len(cancels(server)) == seen


# -- starting in the triggerer ---------------------------------------------------------------------


def test_start_from_trigger_keeps_the_shorter_timeout() -> None:
    name = "projects/p/locations/us-central1/tuningJobs/1"
    for limit, seconds in ((None, 30), (timedelta(seconds=20), 20), (timedelta(seconds=40), 30)):
        task = sensor(name, start_from_trigger=True, execution_timeout=limit)
        assert task.start_trigger_args.trigger_kwargs["wait_seconds"] == seconds
        assert task.start_trigger_args.timeout == timedelta(seconds=seconds) + BACKSTOP


def test_start_from_trigger_ends_there_on_success(server: Emulator, ti: TaskInstance, job: str) -> None:
    task = sensor(job, start_from_trigger=True)
    arguments = task.start_trigger_args
    assert task.start_from_trigger
    server.set_state(job, "JOB_STATE_SUCCEEDED")
    from airflow.triggers.base import TaskSuccessEvent

    waiting_there = rebuilt(TuningJobTrigger(**arguments.trigger_kwargs))
    waiting_there.task_instance = ti
    with supervised(ti):
        event = first_event(waiting_there)
    assert isinstance(event, TaskSuccessEvent)
    # Not by the event: what Airflow pushes for it is JSON inside a string.
    assert not event.xcoms
    assert ti.xcoms["return_value"]["tuning_job_name"] == job
    assert ti.xcoms["tuning_job_url"]


def test_start_from_trigger_ends_on_a_worker_where_no_xcom_can_be_pushed(server: Emulator, job: str) -> None:
    server.set_state(job, "JOB_STATE_SUCCEEDED")
    arguments = sensor(job, start_from_trigger=True).start_trigger_args.trigger_kwargs
    event = first_event(rebuilt(TuningJobTrigger(**arguments)))
    assert (event.payload["status"], event.payload["name"]) == ("ended", job)


def test_start_from_trigger_raises_failures_on_a_worker(server: Emulator, job: str) -> None:
    task = sensor(job, start_from_trigger=True)
    server.set_state(job, "JOB_STATE_FAILED", {"code": 13, "message": "x"})
    event = first_event(rebuilt(TuningJobTrigger(**task.start_trigger_args.trigger_kwargs)))
    assert event.payload["status"] == "ended"
    assert task.start_trigger_args.next_method == "execute_complete"


@pytest.mark.parametrize(
    "kwargs",
    [
        {"outlets": [__import__("airflow.sdk").sdk.Asset("x-model://m")]},
        {"on_success_callback": print},
        {"deferrable": False},
    ],
    ids=["outlets", "callback", "not-deferrable"],
)
def test_start_from_trigger_is_refused_where_something_would_be_lost(kwargs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="start_from_trigger=True is refused"):
        sensor("projects/p/locations/us-central1/tuningJobs/1", start_from_trigger=True, **kwargs)
