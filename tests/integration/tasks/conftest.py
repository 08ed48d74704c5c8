"""A task instance without Airflow's processes: runs operators as the task runner and the triggerer do.

Deferrals really serialise their trigger, rebuild it from what the metadata database would hold, and run it on
an event loop of its own. Airflow's answers about a task instance come from a stand-in for its supervisor. Real
processes are the business of tests/e2e.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import importlib
import json
import os
import pkgutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from airflow.sdk.bases.operator import ExecutorSafeguard
from airflow.sdk.definitions._internal import contextmanager
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import ErrorResponse, GetTaskStates, SetXCom, TaskStatesResult
from airflow.triggers.base import BaseTrigger

import airflow_tuning_provider
from airflow_tuning_provider._compat import AirflowFailException
from airflow_tuning_provider.emulator.testing import Emulator

try:
    from airflow.sdk.exceptions import TaskDeferred
except ImportError:
    from airflow.exceptions import TaskDeferred

BODY: dict[str, Any] = {"base_model": "gemini-3.5-flash", "training_dataset_uri": "gs://bucket/train.jsonl"}
LONG: dict[str, Any] = {**BODY, "epoch_count": 1_000_000}
"""A job that does not end by itself within a test."""

PAUSES: dict[str, Any] = {
    "SETTLE_SECONDS": 0.0,
    "PAUSES": (0.1, 0.2, 0.4),
    "LONGEST_PAUSE": 0.5,
    "LOOK_SECONDS": 1.5,
    "PATIENCE_SECONDS": 3.0,
}
"""Pauses that are too long for a test, by name, wherever in the package they stand. There is no process here that
Airflow's scheduler would have to see end."""

ENDED = ("SUCCEEDED", "PARTIALLY_SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED")


@pytest.fixture(scope="session")
def server() -> Iterator[Emulator]:
    # A job lasts half a second, with 100 epochs much longer.
    with Emulator(speed=4000, datasets="skip") as emulator:
        yield emulator


def connection(url: str, **extra: Any) -> str:
    """A connection as JSON, for an environment variable."""
    extra = {"project": "test-project", "location": "us-central1", "api_endpoint": url, **extra}
    return json.dumps({"conn_type": "vertex_ai_tuning", "password": "a-token", "extra": extra})


@pytest.fixture(autouse=True)
def _connection(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    server.reset()
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", connection(server.url))


@pytest.fixture(scope="session")
def _modules() -> list[Any]:
    """The package's modules, all loaded: some are imported only when they are needed."""
    found = pkgutil.walk_packages(airflow_tuning_provider.__path__, "airflow_tuning_provider.")
    return [importlib.import_module(m.name) for m in found if ".emulator" not in m.name]


@pytest.fixture(autouse=True)
def _short_pauses(_modules: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in _modules:
        for pause, seconds in PAUSES.items():
            if hasattr(module, pause):
                monkeypatch.setattr(module, pause, seconds)


class Lost(BaseException):
    """The process that runs an attempt is gone: killed, or its host is."""


class Store(dict[str, Any]):
    """Airflow 3.3's task state store, which outlives attempts and clears."""

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        if value is None:
            raise ValueError("Cannot set value as None")
        self[key] = json.loads(json.dumps(value))

    def delete(self, key: str) -> None:
        self.pop(key, None)


class Supervisor:
    """Answers as Airflow's supervisor does when it is asked about task instances."""

    def __init__(self, ti: TaskInstance) -> None:
        self._ti = ti
        self._thread_lock = threading.Lock()

    def send(self, question: Any) -> Any:
        ti = self._ti
        if isinstance(question, GetTaskStates):
            found = ti.get_task_states(
                dag_id=question.dag_id,
                map_index=question.map_index,
                task_ids=question.task_ids,
                run_ids=question.run_ids,
            )
            return TaskStatesResult(task_states=found)
        if isinstance(question, SetXCom):
            ti.xcom_push(question.key, question.value)
            return None
        if getattr(question, "ti_id", ti.id) != ti.id:
            detail = {"status_code": 404}
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail))
        return None

    async def asend(self, question: Any) -> Any:
        return self.send(question)


@dataclass
class TaskInstance:
    """What a task sees of its task instance, kept over attempts as Airflow keeps it.

    :param retries: the task's own; a person may edit them.
    :param store: the task state store; ``None`` as before Airflow 3.3.
    :param before_trigger: called with each deferral, before its trigger runs.
    :param before_resume: called with each event, before the task resumes.
    :param event_alone: resume with the event and nothing else, as ``dag.test()`` does.
    """

    dag_id: str = "retrain"
    run_id: str = "scheduled__2026-11-22T00:00:00+00:00"
    task_id: str = "tune"
    map_index: int = -1
    try_number: int = 1
    retries: int = 0
    max_tries: int | None = None
    xcoms: dict[str, Any] = field(default_factory=dict)
    store: Store | None = field(default_factory=Store)
    deferrals: list[Any] = field(default_factory=list)
    before_trigger: Callable[[Any], None] | None = None
    before_resume: Callable[[Any], None] | None = None
    event_alone: bool = False
    state: str | None = "running"
    id: UUID = field(default_factory=uuid4)

    def __post_init__(self) -> None:
        if self.max_tries is None:
            self.max_tries = self.retries

    def xcom_push(self, key: str, value: Any) -> None:
        json.dumps(value)
        self.xcoms[key] = value

    @property
    def context(self) -> dict[str, Any]:
        return {"ti": self} | ({} if self.store is None else {"task_state_store": self.store})

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int) -> Any:
        assert (task_ids, map_indexes) == (self.task_id, self.map_index)
        return self.xcoms.get(key)

    def get_first_reschedule_date(self, _: Any) -> None:
        """Return when the sensor was rescheduled first: never, as far as Airflow is asked here."""

    def get_task_states(
        self,
        dag_id: str,
        map_index: int | None = None,
        task_ids: list[str] | None = None,
        run_ids: list[str] | None = None,
    ) -> dict[str, dict[str, str | None]]:
        if dag_id != self.dag_id or self.task_id not in (task_ids or [self.task_id]):
            return {}
        name = self.task_id if self.map_index < 0 else f"{self.task_id}_{self.map_index}"
        return {self.run_id: {name: self.state}}

    def run(self, operator: Any) -> Any:
        """Run one attempt to its end, through every deferral."""
        self.state = "running"
        step = lambda: operator.execute(self.context)  # noqa: E731
        while True:
            try:
                return as_task(operator, step)
            except TaskDeferred as deferred:
                self.state = "deferred"
                self.deferrals.append(deferred)
                if self.before_trigger is not None:
                    self.before_trigger(deferred)
                event = first_event(rebuilt(deferred.trigger))
                if self.before_resume is not None:
                    self.before_resume(event)
                self.state = "running"
                step = self._resume(operator, deferred, event)

    def _resume(self, operator: Any, deferred: Any, event: Any) -> Callable[[], Any]:
        kept = {} if self.event_alone else deferred.kwargs or {}
        kwargs = {**kept, "event": event.payload}
        return lambda: operator.resume_execution(deferred.method_name, kwargs, self.context)

    def fail_deferral(self, operator: Any, error: str) -> Any:
        """Resume as Airflow does when the deferral timed out or its trigger broke."""
        return as_task(
            operator, lambda: operator.resume_execution("__fail__", {"error": error}, self.context)
        )

    # -- what people and accidents do ----------------------------------------------------------------

    def retry(self) -> TaskInstance:
        """Go on as the next attempt: Airflow clears the XComs in between."""
        self.try_number += 1
        self.xcoms.clear()
        self.id = uuid4()
        return self

    def clear(self, retries: int | None = None) -> TaskInstance:
        """Go on as after a clear of a task that is not running.

        :param retries: the task's retries, if they were edited.
        """
        if retries is not None:
            self.retries = retries
        self.max_tries = self.try_number + self.retries
        return self.retry()

    def restart(self) -> TaskInstance:
        """Go on as after a clear of a running task, which leaves max_tries."""
        return self.retry()

    def run_while(self, operator: Any, act: Callable[[], object]) -> Any:
        """Run one attempt; once it waits for its job, ``act`` is run in its process, as a signal's handler is."""
        done: list[bool] = []

        def waits() -> bool:
            return "tuning_job_name" in self.xcoms

        def once(*_: Any) -> None:
            if not done and waits():
                done.append(True)
                act()

        worker = contextlib.nullcontext() if operator.deferrable else interrupted(waits, once)
        self.before_trigger, before = once, self.before_trigger
        try:
            with worker:
                return self.run(operator)
        finally:
            self.before_trigger = before

    def lose(self, operator: Any) -> None:
        """Run an attempt whose process is lost while it waits for its job: deferred, or on a worker."""

        def lose() -> None:
            raise Lost

        with contextlib.suppress(Lost):
            self.run_while(operator, lose)
            raise AssertionError("the attempt ended before it could be lost")

    def kill(self, operator: Any) -> None:
        """Run an attempt that a person marks failed: on a worker while it runs, in the triggerer once deferred."""
        with contextlib.suppress(Lost):
            self.run_while(operator, self.killing(operator, []))
            raise AssertionError("the attempt ended before it could be killed")

    def killing(self, operator: Any, killed: list[bool]) -> Callable[[], None]:
        """Return what kills an attempt of this task, and takes note of that."""

        def kill() -> None:
            deferred, self.state = self.state == "deferred", "failed"
            with supervised(self):
                if deferred:
                    killed_in_triggerer(self.deferrals[-1].trigger, self)
                else:
                    operator.on_kill()
            killed.append(True)
            raise Lost

        return kill


@contextlib.contextmanager
def supervised(ti: TaskInstance) -> Iterator[None]:
    """Let the code find its task instance and a supervisor, as in a process of Airflow's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contextmanager, "_CURRENT_CONTEXT", [ti.context])
        patch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(ti), raising=False)
        yield


@contextlib.contextmanager
def interrupted(when: Callable[[], bool], handler: Callable[..., None]) -> Iterator[None]:
    """Run ``handler`` in this thread, once, as the handler of a signal, as soon as ``when`` holds."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            if when():
                os.kill(os.getpid(), signal.SIGUSR2)
                return

    def once(*_: Any) -> None:
        if not done.is_set():
            done.set()
            handler()

    before = signal.signal(signal.SIGUSR2, once)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        signal.signal(signal.SIGUSR2, before)


def killed_in_triggerer(trigger: Any, ti: TaskInstance) -> None:
    """Run a trigger, and end it as the triggerer does when a person has ended the task."""

    async def run() -> None:
        waiting = rebuilt(trigger)
        waiting.task_instance = ti
        task = asyncio.ensure_future(waiting.run().__anext__())
        await asyncio.sleep(0.1)
        task.cancel("user-action")
        with contextlib.suppress(asyncio.CancelledError):
            await task
        if hasattr(BaseTrigger, "on_kill"):  # since Airflow 3.3
            await asyncio.wait_for(waiting.on_kill(), 30)

    asyncio.run(run())


def as_task(operator: Any, call: Callable[[], Any]) -> Any:
    def guarded() -> Any:
        ExecutorSafeguard.tracker.set(operator)
        return call()

    return contextvars.copy_context().run(guarded)


def rebuilt(trigger: Any) -> Any:
    """Return a trigger as the triggerer gets it: from its class path and its arguments as JSON."""
    path, kwargs = trigger.serialize()
    module, name = path.rsplit(".", 1)
    try:
        kwargs = json.loads(json.dumps(kwargs))
    except TypeError:
        assert not path.startswith("airflow_tuning_provider"), "our triggers hold plain JSON only"
    return getattr(importlib.import_module(module), name)(**kwargs)


def first_event(trigger: Any) -> Any:
    async def run() -> Any:
        async for event in trigger.run():
            return event
        raise AssertionError("the trigger ended without an event")

    return asyncio.run(run())


@pytest.fixture
def ti() -> TaskInstance:
    return TaskInstance()


# -- what the server has seen ------------------------------------------------------------------------


def creates(server: Emulator) -> list[dict[str, Any]]:
    """The create requests that reached the server."""
    return [r for r in server.requests() if r["method"] == "POST" and r["path"].endswith("/tuningJobs")]


def cancels(server: Emulator) -> list[dict[str, Any]]:
    """The cancel requests that reached the server."""
    return [r for r in server.requests() if r["path"].endswith(":cancel")]


def lists(server: Emulator) -> list[dict[str, Any]]:
    """The list requests that reached the server."""
    return [r for r in server.requests() if r["method"] == "GET" and r["path"].endswith("/tuningJobs")]


def blind(server: Emulator) -> None:
    """Have lists show nothing, until the faults are cleared."""
    server.fault(method="GET", path_regex="/tuningJobs$", times=-1, status=200, body={})


def live(server: Emulator) -> list[str]:
    """The names of the jobs that cost money: neither ended nor being cancelled."""
    over = {f"JOB_STATE_{state}" for state in (*ENDED, "CANCELLING")}
    return [job["name"] for job in server.jobs() if job["state"] not in over]


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Whether a condition holds, or comes to hold in time."""
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.05)
    return True


def is_permanent(error: BaseException) -> bool:
    """Whether Airflow fails the task at once for this error, without using up retries."""
    return isinstance(error, AirflowFailException)


MODES = pytest.mark.parametrize("deferrable", [True, False], ids=["deferrable", "blocking"])

__all__ = [
    "BODY",
    "LONG",
    "MODES",
    "Lost",
    "Store",
    "TaskInstance",
    "as_task",
    "blind",
    "cancels",
    "connection",
    "creates",
    "eventually",
    "first_event",
    "is_permanent",
    "lists",
    "live",
    "rebuilt",
    "supervised",
    "timedelta",
]
