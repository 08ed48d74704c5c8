"""What a killed attempt, or its trigger, asks Airflow before it cancels its job."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from typing import Any
from uuid import uuid4

import pytest
from airflow.jobs.triggerer_job_runner import TriggerRunnerSupervisor
from airflow.sdk.definitions._internal import contextmanager
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import comms, task_runner
from airflow.sdk.execution_time.comms import ErrorResponse, GetTaskStates, TaskStatesResult
from airflow.sdk.execution_time.supervisor import ActivitySubprocess

from airflow_tuning_provider import _supervisor

LOG = logging.getLogger(__name__)


class Supervisor:
    """Answers as Airflow's supervisors do, and takes what the installed Airflow's take.

    :param live: whether the attempt's id is that of the task instance.
    :param state: the task instance's state; "gone" if there is none any more.
    :param broken: it cannot be reached.
    :param delay: seconds until the triggerer's answers.
    """

    def __init__(
        self, *, live: bool = True, state: str | None = "running", broken: bool = False, delay: float = 0.0
    ) -> None:
        self.live = live
        self.state = state
        self.broken = broken
        self.delay = delay
        self.ended_conversations = 0
        self._thread_lock = threading.Lock()

    def send(self, question: Any) -> Any:
        ActivitySubprocess.decoder.validate_python(question.model_dump())
        with self._thread_lock:
            return self._answer(question)

    async def asend(self, question: Any) -> Any:
        TriggerRunnerSupervisor.decoder.validate_python(question.model_dump())
        await asyncio.sleep(self.delay)
        self.ended_conversations += 1
        return self._answer(question)

    def _answer(self, question: Any) -> Any:
        if self.broken:
            raise ConnectionError("no supervisor")
        if isinstance(question, GetTaskStates):
            states = {} if self.state == "gone" else {"run": {"tune_3": self.state}}
            return TaskStatesResult(task_states=states)
        if not self.live:
            detail = {"status_code": 404}
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail))
        return None


class Attempt:
    """As much of a task instance as is asked for."""

    id = uuid4()
    dag_id = "dag"
    run_id = "run"
    task_id = "tune"
    map_index = 3


@pytest.fixture(autouse=True)
def _context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contextmanager, "_CURRENT_CONTEXT", [{"ti": Attempt()}])


@pytest.mark.parametrize(
    ("supervisor", "cancels"),
    [
        (Supervisor(live=True), True),
        (Supervisor(live=True, state="failed"), True),
        (Supervisor(live=True, state="deferred"), False),
        (Supervisor(live=False, state="running"), False),
        (Supervisor(live=False, state=None), False),
        (Supervisor(live=False, state="up_for_retry"), False),
        (Supervisor(live=False, state="failed"), True),
        (Supervisor(live=False, state="gone"), True),
        (Supervisor(live=False, broken=True), True),
    ],
    ids=lambda value: f"{value.live}-{value.state}" if isinstance(value, Supervisor) else str(value),
)
def test_a_job_is_cancelled_unless_another_attempt_goes_on_with_it(
    supervisor: Supervisor, cancels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    done: list[bool] = []
    _supervisor.unless_replaced(lambda: done.append(True), log=LOG)
    assert bool(done) is cancels


@pytest.mark.parametrize("name", ["GetTaskStates", "ValidateInletsAndOutlets"])
def test_where_airflow_has_no_such_question_nothing_is_cancelled(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(live=True), raising=False)
    monkeypatch.delattr(comms, name)
    done: list[bool] = []
    _supervisor.unless_replaced(lambda: done.append(True), log=LOG)
    assert not done


def test_where_airflow_s_question_is_another_one_nothing_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(live=True), raising=False)
    monkeypatch.setattr(comms, "GetTaskStates", lambda *, task_instance_ids: None)
    done: list[bool] = []
    _supervisor.unless_replaced(lambda: done.append(True), log=LOG)
    assert not done


def test_without_an_answer_in_time_the_job_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_supervisor, "_ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(_supervisor, "_is_replaced", lambda: time.sleep(1) or True)
    done: list[bool] = []
    _supervisor.unless_replaced(lambda: done.append(True), log=LOG)
    assert done


@pytest.mark.parametrize("live", [True, False])
def test_a_conversation_that_was_interrupted_can_end_first(
    live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler of SIGTERM runs in the thread that holds the lock, and must not wait for it."""
    supervisor = Supervisor(live=live)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    done = threading.Event()
    before = signal.signal(
        signal.SIGTERM, lambda *_: _supervisor.unless_replaced(lambda: done.set(), log=LOG)
    )
    try:
        with supervisor._thread_lock:
            began = time.monotonic()
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
            assert time.monotonic() - began < 5
            assert not done.is_set()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert done.wait(1) is live


# -- in the triggerer --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "ended"),
    [
        *((state, True) for state in ("failed", "success", "skipped", "removed", "upstream_failed")),
        *((state, False) for state in ("deferred", "queued", "running", "up_for_retry", None, "gone")),
    ],
)
async def test_only_a_task_that_has_ended_was_ended(
    state: str | None, ended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(state=state), raising=False)
    assert await _supervisor.was_ended(Attempt(), log=LOG) is ended


@pytest.mark.parametrize(
    "without", ["a task", "the question", "a supervisor", "one that can be reached", "an answer", "a reader"]
)
async def test_where_airflow_does_not_say_in_the_triggerer_nothing_is_cancelled(
    without: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = Supervisor(state="failed", broken=without == "one that can be reached")
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    if without == "the question":
        monkeypatch.delattr(comms, "GetTaskStates")
    elif without == "a supervisor":
        monkeypatch.delattr(task_runner, "SUPERVISOR_COMMS")
    elif without == "an answer":
        supervisor.delay = 1.0
        monkeypatch.setattr(_supervisor, "_TRIGGERER_ANSWER_SECONDS", 0.1)
    elif without == "a reader":  # as while a triggerer of Airflow 3.2 stops
        supervisor.delay = 5.0
        monkeypatch.setattr(
            supervisor, "_reader_task", asyncio.ensure_future(asyncio.sleep(0)), raising=False
        )
        await supervisor._reader_task  # type: ignore[attr-defined]
    began = time.monotonic()
    assert not await _supervisor.was_ended(None if without == "a task" else Attempt(), log=LOG)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("how", ["late", "cancelled"])
async def test_a_conversation_in_the_triggerer_is_never_broken_off(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The triggerer of Airflow 3.1 would take the answer for that to its next question, and end."""
    supervisor = Supervisor(state="failed", delay=0.3)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    monkeypatch.setattr(_supervisor, "_TRIGGERER_ANSWER_SECONDS", 0.1 if how == "late" else 10.0)
    asking = asyncio.ensure_future(_supervisor.was_ended(Attempt(), log=LOG))
    await asyncio.sleep(0.15)
    asking.cancel()
    await asyncio.sleep(0.3)
    assert supervisor.ended_conversations == 1


class BusySupervisor:
    """Has no answer at first, as where Airflow's API server is busy.

    :param errors: how often it says so.
    """

    def __init__(self, errors: int) -> None:
        self.errors = errors

    async def asend(self, _: Any) -> Any:
        self.errors -= 1
        if self.errors >= 0:
            detail = {"status_code": None, "message": "timed out"}
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail))
        return TaskStatesResult(task_states={"run": {"tune_3": "failed"}})


@pytest.mark.parametrize(("errors", "ended"), [(0, True), (1, True), (1_000, False)])
def test_a_trigger_asks_a_busy_airflow_again(
    errors: int, ended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_supervisor, "_TRIGGERER_ANSWER_SECONDS", 2.5)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", BusySupervisor(errors), raising=False)
    assert asyncio.run(_supervisor.was_ended(Attempt(), log=LOG)) is ended
