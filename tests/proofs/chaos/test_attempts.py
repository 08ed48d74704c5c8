"""What a killed attempt asks Airflow before it cancels its job."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from typing import Any
from uuid import uuid4

import pytest
from airflow.sdk.definitions._internal import contextmanager
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import ErrorResponse, GetTaskStates, TaskStatesResult

from airflow_tuning_provider.operators import attempts

LOG = logging.getLogger(__name__)


class Supervisor:
    """Answers as Airflow's supervisor does.

    :param live: whether the attempt's id is that of the task instance.
    :param state: the task instance's state; "gone" if there is none any more.
    """

    def __init__(self, *, live: bool, state: str | None = "running", broken: bool = False) -> None:
        self.live = live
        self.state = state
        self.broken = broken
        self._thread_lock = threading.Lock()

    def send(self, question: Any) -> Any:
        with self._thread_lock:
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
    attempts.unless_replaced(lambda: done.append(True), log=LOG)
    assert bool(done) is cancels


def test_without_an_answer_in_time_the_job_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "_ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(attempts, "_is_replaced", lambda: time.sleep(1) or True)
    done: list[bool] = []
    attempts.unless_replaced(lambda: done.append(True), log=LOG)
    assert done


@pytest.mark.parametrize("live", [True, False])
def test_a_conversation_that_was_interrupted_can_end_first(
    live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler of SIGTERM runs in the thread that holds the lock, and must not wait for it."""
    supervisor = Supervisor(live=live)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    done = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: attempts.unless_replaced(lambda: done.set(), log=LOG))
    try:
        with supervisor._thread_lock:
            began = time.monotonic()
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
            assert time.monotonic() - began < 1
            assert not done.is_set()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert done.wait(1) is live
