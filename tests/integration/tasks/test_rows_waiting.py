"""Nothing but a wait takes time, failing to see is not an end, and what a deadline ends is cancelled first."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse

from airflow_tuning_provider import exceptions as errors
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
from airflow_tuning_provider.operators.tuning_job import (
    CancelTuningJobOperator,
    CreateTuningJobOperator,
    RebaseTunedModelOperator,
)
from airflow_tuning_provider.sensors.tuning_job import TuningJobSensor
from tests.integration.tasks.conftest import (
    BODY,
    LONG,
    MODES,
    Store,
    TaskInstance,
    cancels,
    connection,
    creates,
    is_permanent,
    live,
    timedelta,
)

JOB_PATH = r"/tuningJobs/\d+$"


def operator(**kwargs: Any) -> CreateTuningJobOperator:
    return CreateTuningJobOperator(
        **{"task_id": "tune", "poll_interval": 0.2, "timeout": 60, **BODY, **kwargs}
    )


# -- deadlines ---------------------------------------------------------------------------------------


@MODES
def test_job_whose_time_is_up_is_paid_once_for_all_retries(server: Emulator, deferrable: bool) -> None:
    ti = TaskInstance(retries=2)
    for _ in range(3):
        with pytest.raises(errors.TuningError) as caught:
            ti.run(operator(**LONG, deferrable=deferrable, timeout=1, retries=2))
        assert is_permanent(caught.value)
        ti.retry()
    assert len(creates(server)) == 1
    assert len(cancels(server)) == 1
    assert live(server) == []


@MODES
def test_time_that_is_up_is_a_wait_that_timed_out(
    server: Emulator, ti: TaskInstance, deferrable: bool
) -> None:
    with pytest.raises(errors.TuningWaitTimeoutError, match="cancellation") as caught:
        ti.run(operator(**LONG, deferrable=deferrable, timeout=1))
    assert is_permanent(caught.value)
    assert str(caught.value.tuning_job_name) in str(caught.value)


def edit_to_nonsense(task: Any) -> None:
    task.epoch_count = 0
    task.base_model = None
    task.labels = {"Not": "Allowed"}


@pytest.mark.parametrize("ends", ["event", "Trigger timeout"])
@pytest.mark.parametrize("store", [True, False], ids=["store", "no-store"])
def test_deadline_cancels_although_the_task_was_edited_to_nonsense(
    server: Emulator, ends: str, store: bool
) -> None:
    ti = TaskInstance(store=Store() if store else None)
    task = operator(**LONG, timeout=2)
    if ends == "event":
        ti.before_trigger = lambda _: edit_to_nonsense(task)
        with pytest.raises(errors.TuningWaitTimeoutError):
            ti.run(task)
    else:
        ti.lose(operator(**LONG, timeout=2))
        edit_to_nonsense(task)
        with pytest.raises(errors.TuningWaitTimeoutError):
            ti.fail_deferral(task, ends)
    assert len(cancels(server)) == 1


@MODES
@pytest.mark.parametrize("status", [403, 404, 503])
def test_deadline_cancels_a_job_that_cannot_be_seen(
    server: Emulator, ti: TaskInstance, deferrable: bool, status: int
) -> None:
    server.fault(method="GET", path_regex=JOB_PATH, times=-1, status=status)
    with pytest.raises(errors.TuningWaitTimeoutError) as caught:
        ti.run(operator(**LONG, deferrable=deferrable, timeout=2, request_timeout=2))
    assert is_permanent(caught.value)
    assert live(server) == []


@MODES
@pytest.mark.parametrize("bound", ["timeout", "execution_timeout"])
def test_wait_for_a_cancellation_that_never_ends_is_bounded(
    server: Emulator, ti: TaskInstance, deferrable: bool, bound: str
) -> None:
    ti.lose(operator(**LONG, deferrable=deferrable))
    server.cancel_takes(None)
    began = time.monotonic()
    limit: dict[str, Any] = (
        {"timeout": 5} if bound == "timeout" else {"execution_timeout": timedelta(seconds=2)}
    )
    seen = len(ti.deferrals)
    with pytest.raises(errors.TuningWaitTimeoutError):
        ti.retry().run(operator(**{**LONG, "epoch_count": 2}, deferrable=deferrable, **limit))
    assert time.monotonic() - began < 15
    assert (len(ti.deferrals) > seen) is deferrable
    assert len(creates(server)) == 1


@MODES
def test_job_that_a_person_is_cancelling_is_waited_for_off_the_worker(
    server: Emulator, ti: TaskInstance, deferrable: bool
) -> None:
    ti.lose(operator(**LONG, deferrable=deferrable))
    server.cancel_takes(None)
    TaskInstance(task_id="person").run(
        CancelTuningJobOperator(task_id="c", tuning_job_name=live(server)[0], wait_for_completion=False)
    )
    seen = len(ti.deferrals)
    with pytest.raises(errors.TuningWaitTimeoutError):
        ti.retry().run(operator(**LONG, deferrable=deferrable, timeout=5))
    assert (len(ti.deferrals) > seen) is deferrable


@MODES
@pytest.mark.parametrize(("status", "times"), [(400, 2), (401, 6), (403, 3), (404, 2), (429, 2), (503, 2)])
def test_cancellation_that_is_refused_at_the_deadline_is_asked_for_again(
    server: Emulator, ti: TaskInstance, deferrable: bool, status: int, times: int
) -> None:
    server.fault(
        method="POST",
        path_regex=":cancel$",
        times=times,
        status=status,
        headers={"Retry-After": "120"} if status in (429, 503) else {},
        body={"error": {"code": status, "message": "not now", "status": "ANY"}},
    )
    with pytest.raises(errors.TuningDeadlineError) as caught:
        ti.run(operator(**LONG, deferrable=deferrable, timeout=1.5))
    assert live(server) == []
    assert "was still cancelled" not in str(caught.value)


@MODES
def test_cancel_operator_heeds_execution_timeout(
    server: Emulator, ti: TaskInstance, deferrable: bool
) -> None:
    name = ti.run(operator(**LONG, wait_for_completion=False))["tuning_job_name"]
    server.cancel_takes(None)
    task = CancelTuningJobOperator(
        task_id="cancel",
        tuning_job_name=name,
        poll_interval=0.2,
        deferrable=deferrable,
        timeout=30,
        execution_timeout=timedelta(seconds=1),
    )
    began = time.monotonic()
    with pytest.raises(errors.TuningWaitTimeoutError):
        TaskInstance(task_id="cancel").run(task)
    assert time.monotonic() - began < 15


def test_cancel_operator_settles_a_lost_trigger(server: Emulator, ti: TaskInstance) -> None:
    name = ti.run(operator(**LONG, wait_for_completion=False))["tuning_job_name"]
    server.set_state(name, "JOB_STATE_CANCELLED")
    task = CancelTuningJobOperator(task_id="cancel", tuning_job_name=name)
    other = TaskInstance(task_id="cancel", xcoms={"tuning_job_name": name})
    assert other.fail_deferral(task, "Trigger failure")["state"] == "JOB_STATE_CANCELLED"


def rebase(server: Emulator, **kwargs: Any) -> RebaseTunedModelOperator:
    model = TaskInstance(run_id="first").run(operator())["tuned_model"]
    return RebaseTunedModelOperator(
        **{
            "task_id": "rebase",
            "tuned_model": model,
            "tuning_job": {
                "base_model": "gemini-3.5-flash",
                "supervised_tuning_spec": {
                    "training_dataset_uri": "gs://bucket/train.jsonl",
                    "hyper_parameters": {"epoch_count": "1000000"},
                },
            },
            "poll_interval": 0.2,
            **kwargs,
        }
    )


@MODES
def test_rebase_heeds_execution_timeout(server: Emulator, deferrable: bool) -> None:
    task = rebase(server, deferrable=deferrable, timeout=30, execution_timeout=timedelta(seconds=1.5))
    with pytest.raises(errors.TuningWaitTimeoutError):
        TaskInstance(task_id="rebase").run(task)
    assert live(server) == []


@MODES
def test_rebase_that_succeeds_at_its_deadline_is_a_success(server: Emulator, deferrable: bool) -> None:
    """The cancellation is refused, as the job has just ended: nothing was cancelled, and nothing timed out."""
    task = rebase(server, deferrable=deferrable, timeout=1.5)
    refusal = {"error": {"code": 400, "message": "has ended", "status": "FAILED_PRECONDITION"}}
    server.fault(method="POST", path_regex=":cancel$", times=-1, status=400, body=refusal)
    stop = threading.Event()

    def succeed_when_cancelled() -> None:
        while not stop.wait(0.02):
            if cancels(server):
                for name in live(server):
                    server.set_state(name, "JOB_STATE_SUCCEEDED")

    thread = threading.Thread(target=succeed_when_cancelled)
    thread.start()
    try:
        result = TaskInstance(task_id="rebase").run(task)
    except errors.TuningWaitTimeoutError as error:
        pytest.fail(f"claims that it was cancelled: {error}")
    finally:
        stop.set()
        thread.join()
    assert result["state"] == "JOB_STATE_SUCCEEDED"


def test_rebase_that_nobody_waits_for_is_found_by_its_retry(server: Emulator) -> None:
    """A fire-and-forget rebase must not lose its operation's name."""
    task = rebase(server, wait_for_completion=False)
    ti = TaskInstance(task_id="rebase")
    told = [ti.run(task), ti.xcoms]
    assert "/operations/" in json.dumps(told)
    ti.retry().run(task)
    assert sum(r["path"].endswith(":rebaseTunedModel") for r in server.requests()) == 1


def test_pause_that_the_triggerer_is_late_for_cancels_nothing(server: Emulator, ti: TaskInstance) -> None:
    """Airflow resumes a task whose deferral's own timeout has passed as one whose time is up."""

    def forbid(_: Any) -> None:
        server.fault(method="GET", path_regex=JOB_PATH, times=1, status=403)

    ti.before_resume = lambda event: forbid(event) if event.payload["name"] else None
    assert ti.run(operator(timeout=3600))["state"] == "JOB_STATE_SUCCEEDED"
    job, pause, *_ = ti.deferrals
    assert (job.trigger.name, pause.trigger.name) == (ti.xcoms["tuning_job_name"], "")
    assert pause.timeout > timedelta(minutes=50)


# -- failing to see ----------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize("times", [1, 3])
def test_refusal_while_a_job_is_watched_is_borne(
    server: Emulator, ti: TaskInstance, deferrable: bool, status: int, times: int
) -> None:
    server.fault(method="GET", path_regex=JOB_PATH, times=times, status=status)
    assert ti.run(operator(deferrable=deferrable))["state"] == "JOB_STATE_SUCCEEDED"
    assert server.faults()[0]["hits"] == times


@MODES
def test_get_that_lags_behind_the_create_is_borne(
    server: Emulator, ti: TaskInstance, deferrable: bool
) -> None:
    server.lag(get_seconds=1.5)
    assert ti.run(operator(deferrable=deferrable))["state"] == "JOB_STATE_SUCCEEDED"
    assert len(creates(server)) == 1


@MODES
@pytest.mark.parametrize("wait", [True, False], ids=["wait", "no-wait"])
def test_job_that_a_get_does_not_show_yet_is_cancelled(
    server: Emulator, ti: TaskInstance, deferrable: bool, wait: bool
) -> None:
    """A 404 is no word for that there is no job."""
    server.lag(get_seconds=1.5)
    name = ti.run(operator(**LONG, wait_for_completion=False))["tuning_job_name"]
    task = CancelTuningJobOperator(
        task_id="cancel",
        tuning_job_name=name,
        poll_interval=0.2,
        deferrable=deferrable,
        wait_for_completion=wait,
    )
    assert TaskInstance(task_id="cancel").run(task)["tuning_job_name"] == name
    assert live(server) == []


def test_airflow_that_does_not_answer_for_a_moment_is_borne(server: Emulator, ti: TaskInstance) -> None:
    """What Airflow raises where its API server is away is no AirflowException."""
    detail = {"status_code": 502}
    away = AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail))
    patch, asked = pytest.MonkeyPatch(), []

    def once(_: str) -> Any:
        asked.append(True)
        patch.undo()
        raise away

    def be_away(_: Any) -> None:
        if not asked:
            patch.setattr(TuningJobHook, "get_connection", staticmethod(once))

    ti.before_resume = be_away
    assert ti.run(operator())["state"] == "JOB_STATE_SUCCEEDED"
    assert asked


@pytest.mark.parametrize("broken", ["missing", "no-json"])
def test_connection_that_is_broken_at_the_deadline_keeps_no_job_alive(
    server: Emulator, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    variable = "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT"
    good = os.environ[variable]
    monkeypatch.setenv(variable, good)
    mend = threading.Timer(3.5, os.environ.__setitem__, (variable, good))

    def break_it(_: Any) -> None:
        if mend.ident is None:
            os.environ.pop(variable)
            if broken == "no-json":
                os.environ[variable] = "{"
            mend.start()

    ti.before_trigger = break_it
    try:
        with pytest.raises(errors.TuningDeadlineError):
            ti.run(operator(**{**LONG, "timeout": 2}))
    finally:
        mend.join()
    assert live(server) == []


BROKEN: dict[str, Callable[[Emulator, Path], str]] = {
    "key-not-mounted": lambda server, path: (
        '{"conn_type": "google_cloud_platform", "extra": {"key_path": "%s"}}' % (path / "no-key.json")
    ),
    "key-half-written": lambda server, path: connection(server.url, keyfile_dict='{"type": "service_acc'),
    "no-location": lambda server, path: connection(server.url, location="/"),
    "no-json": lambda server, path: "{",
}


@pytest.mark.parametrize("broken", list(BROKEN))
@pytest.mark.parametrize("where", ["triggerer", "resumption"])
def test_connection_that_is_broken_for_a_moment_after_the_create_is_borne(
    server: Emulator,
    ti: TaskInstance,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    broken: str,
    where: str,
) -> None:
    """A secret that rotates, a volume that is not yet mounted."""
    variable = "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT"
    good = os.environ[variable]
    timer = threading.Timer(1.5, os.environ.__setitem__, (variable, good))

    def break_it(_: Any) -> None:
        if timer.ident is None:  # the first time only
            os.environ[variable] = BROKEN[broken](server, tmp_path)
            timer.start()

    monkeypatch.setenv(variable, good)  # for it to be restored
    if where == "triggerer":
        ti.before_trigger = break_it
    else:
        ti.before_resume = break_it
    try:
        assert ti.run(operator())["state"] == "JOB_STATE_SUCCEEDED"
    finally:
        timer.join()
    assert len(creates(server)) == 1


@MODES
def test_every_resumption_works_with_the_event_alone(server: Emulator, deferrable: bool) -> None:
    ti = TaskInstance(event_alone=True)
    name = ti.run(operator(deferrable=deferrable))["tuning_job_name"]
    assert name
    running = TaskInstance(task_id="long").run(operator(**LONG, wait_for_completion=False))["tuning_job_name"]
    task = CancelTuningJobOperator(
        task_id="cancel", tuning_job_name=running, poll_interval=0.2, deferrable=deferrable
    )
    assert TaskInstance(task_id="cancel", event_alone=True).run(task)["state"] == "JOB_STATE_CANCELLED"


@pytest.mark.parametrize("kind", ["operator", "sensor"])
def test_resuming_after_a_success_costs_one_get(server: Emulator, kind: str) -> None:
    ti = TaskInstance()
    before: list[int] = []
    ti.before_resume = lambda _: before.append(server.last_request())
    if kind == "operator":
        task: Any = operator(epoch_count=100)
    else:
        with TuningJobHook() as hook:
            spec = {"trainingDatasetUri": "gs://bucket/a.jsonl", "hyperParameters": {"epochCount": 100}}
            body = {"baseModel": "gemini-3.5-flash", "supervisedTuningSpec": spec}
            name = hook.create_tuning_job(body)["name"]
        task = TuningJobSensor(task_id="tune", tuning_job_name=name, poll_interval=0.2, timeout=60)
    assert ti.run(task)["state"] == "JOB_STATE_SUCCEEDED"
    sent = [
        (r["method"], r["path"].rpartition("/")[0].rpartition("/")[2]) for r in server.requests(before[0])
    ]
    assert sent == [("GET", "tuningJobs")]
