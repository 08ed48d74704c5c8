"""After a kill nothing runs that nobody waits for."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import pytest

from airflow_tuning_provider import exceptions as errors
from airflow_tuning_provider._tasks import attempt
from airflow_tuning_provider._tasks.work import Work
from airflow_tuning_provider.api.identity import KEY_LABEL
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
from tests.integration.tasks.conftest import (
    BODY,
    LONG,
    MODES,
    Lost,
    Store,
    TaskInstance,
    cancels,
    creates,
    eventually,
    interrupted,
    killed_in_triggerer,
    live,
    supervised,
)


def operator(**kwargs: Any) -> CreateTuningJobOperator:
    return CreateTuningJobOperator(
        **{"task_id": "tune", "poll_interval": 0.2, "timeout": 10, **BODY, **kwargs}
    )


STORES = pytest.mark.parametrize("store", [True, False], ids=["store", "no-store"])


@MODES
@STORES
def test_kill_while_waiting_cancels(server: Emulator, deferrable: bool, store: bool) -> None:
    ti = TaskInstance(store=Store() if store else None)
    ti.kill(operator(**LONG, deferrable=deferrable))
    assert eventually(lambda: live(server) == [])
    assert len(cancels(server)) == 1


@MODES
@STORES
def test_kill_of_an_attempt_that_joined_cancels(server: Emulator, deferrable: bool, store: bool) -> None:
    ti = TaskInstance(store=Store() if store else None)
    ti.lose(operator(**LONG, deferrable=deferrable))
    ti.retry().kill(operator(**LONG, deferrable=deferrable))
    assert eventually(lambda: live(server) == [])
    assert len(creates(server)) == 1


@MODES
def test_clear_after_a_kill_creates_and_a_retry_does_not(server: Emulator, deferrable: bool) -> None:
    ti = TaskInstance(retries=2)
    ti.kill(operator(**LONG, deferrable=deferrable, retries=2))
    assert eventually(lambda: live(server) == [])
    with pytest.raises(errors.TuningJobCancelledError):
        ti.retry().run(operator(**LONG, deferrable=deferrable, retries=2))
    assert len(creates(server)) == 1
    ti.clear().run(operator(**LONG, deferrable=deferrable, retries=2, wait_for_completion=False))
    assert len(creates(server)) == 2
    assert len(live(server)) == 1


def test_kill_after_the_end_of_a_job_cancels_the_others(
    server: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    body = {
        "baseModel": "gemini-3.5-flash",
        "supervisedTuningSpec": {
            "trainingDatasetUri": "gs://bucket/train.jsonl",
            "hyperParameters": {"epochCount": 1_000_000},
        },
        "labels": {KEY_LABEL: "a-key"},
    }
    with TuningJobHook() as hook:
        ended, other = (hook.create_tuning_job(body)["name"] for _ in range(2))
        work = Work(hook, logging.getLogger(__name__), "a-key")
        work.adopt(ended)
        server.set_state(ended, "JOB_STATE_SUCCEEDED")
        with caplog.at_level(logging.INFO):
            work.kill()
            assert live(server) == []
            work.kill()
    assert caplog.messages.count(f"The task was killed: asked for the cancellation of {other}.") == 1
    assert "not answered" not in caplog.text


@pytest.mark.parametrize("state", ["queued", "scheduled", "running", "deferred", None])
def test_trigger_of_a_task_that_goes_on_elsewhere_cancels_nothing(
    server: Emulator, ti: TaskInstance, state: str | None
) -> None:
    ti.lose(operator(**LONG))
    ti.state = state
    with supervised(ti):
        killed_in_triggerer(ti.deferrals[-1].trigger, ti)
    assert cancels(server) == []


def test_kill_while_a_stale_job_is_waited_for_leaves_nothing(server: Emulator, ti: TaskInstance) -> None:
    """The one that is being cancelled is no longer live; what would follow it is never created."""
    ti.lose(operator(**LONG))
    server.cancel_takes(None)
    ti.retry()
    ti.before_trigger = lambda _: _mark_failed(ti)
    with pytest.raises(KeyboardInterrupt):
        ti.run(operator(**{**LONG, "epoch_count": 2}))
    assert live(server) == []
    assert len(creates(server)) == 1


def _mark_failed(ti: TaskInstance) -> None:
    ti.state = "failed"
    with supervised(ti):
        killed_in_triggerer(ti.deferrals[-1].trigger, ti)
    raise KeyboardInterrupt


@pytest.mark.parametrize("known", ["has ended", "cannot be cancelled"])
def test_kill_on_a_worker_cancels_others_whatever_becomes_of_the_known_one(
    server: Emulator, ti: TaskInstance, known: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a create that was not answered may bring one up late."""
    task = operator(**LONG, deferrable=False, poll_interval=30)
    kill = ti.killing(task, [])

    def surplus_then_kill() -> None:
        (job,) = server.jobs()
        server.seed({"labels": job["labels"], "state": "JOB_STATE_RUNNING"})
        if known == "has ended":
            server.set_state(job["name"], "JOB_STATE_SUCCEEDED")
        else:
            server.fault(method="POST", path_regex=f"{job['name']}:cancel$", times=1, status=503)
        kill()

    with pytest.raises(Lost):
        ti.run_while(task, surplus_then_kill)
    name = ti.xcoms["tuning_job_name"]
    (job,) = [job for job in server.jobs() if job["name"] != name]
    assert eventually(lambda: job["name"] not in live(server))
    told = capsys.readouterr().out
    assert f"asked for the cancellation of {job['name']}." in told
    assert {
        "has ended": f"there is nothing to cancel of {name}.",
        "cannot be cancelled": f"but {name} may go on and cost money:",
    }[known] in told


@STORES
def test_kill_while_an_earlier_attempts_job_cannot_be_seen_cancels_it(
    server: Emulator, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch, store: bool
) -> None:
    monkeypatch.setattr(attempt, "PAUSES", (5.0,))
    ti.lose(operator(**LONG))
    if not store:
        ti.store = None
    server.fault(method="GET", path_regex="/tuningJobs", times=-1, status=403)
    since = server.last_request()
    task = operator(**LONG, deferrable=False, poll_interval=5)
    ti.retry()

    def kill() -> None:
        server.clear_faults()
        ti.killing(task, [])()

    with contextlib.suppress(Lost), interrupted(lambda: bool(server.requests(since)), kill):
        ti.run(task)
    assert eventually(lambda: live(server) == [])
    assert len(creates(server)) == 1


def test_cancelled_job_is_not_said_to_go_on(
    server: Emulator, ti: TaskInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    """The list of the task instance's other jobs is refused."""
    task = operator(**LONG)

    def kill(_: Any) -> None:
        server.fault(method="GET", path_regex="/tuningJobs$", times=-1, status=403)
        ti.killing(task, [])()

    ti.before_trigger = kill
    with contextlib.suppress(Lost):
        ti.run(task)
    name = server.jobs()[0]["name"]
    told = capsys.readouterr().out
    assert f"asked for the cancellation of {name}" in told
    assert f"{name} could not be cancelled" not in told


@MODES
def test_kill_during_a_create_whose_answer_is_lost_leaves_nothing(
    server: Emulator, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    """There may be nobody who looks again: a person has marked the task failed."""
    task = operator(**LONG, deferrable=deferrable)
    send = task.send
    server.fault(method="POST", path_regex="/tuningJobs$", times=1, drop="after_processing")

    def killed_meanwhile(*args: Any) -> Any:
        ti.state = "failed"
        task.on_kill()
        return send(*args)

    monkeypatch.setattr(task, "send", killed_meanwhile)
    with supervised(ti), pytest.raises(errors.TuningError):
        ti.run(task)
    assert eventually(lambda: live(server) == [])
    assert len(creates(server)) == 1
