"""A task instance without Airflow's processes: runs operators as the task runner and the triggerer do.

Deferrals really serialise their trigger, rebuild it from what the metadata database would hold, and run it on
an event loop of its own. Real processes are the business of tests/e2e.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.bases.operator import ExecutorSafeguard

from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.exceptions import AirflowFailException
from airflow_tuning_provider.operators import tuning_job as operators
from airflow_tuning_provider.triggers import tuning_job as triggers

try:
    from airflow.sdk.exceptions import TaskDeferred
except ImportError:
    from airflow.exceptions import TaskDeferred

BODY: dict[str, Any] = {"base_model": "gemini-3.5-flash", "training_dataset_uri": "gs://bucket/train.jsonl"}


@pytest.fixture(scope="session")
def server() -> Iterator[Emulator]:
    # A job lasts half a second, with 100 epochs much longer.
    with Emulator(speed=4000, datasets="skip") as emulator:
        yield emulator


@pytest.fixture(autouse=True)
def _connection(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    server.reset()
    monkeypatch.setenv(
        "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT",
        json.dumps(
            {
                "conn_type": "vertex_ai_tuning",
                "password": "a-token",
                "extra": {"project": "test-project", "location": "us-central1", "api_endpoint": server.url},
            }
        ),
    )


@pytest.fixture(autouse=True)
def _no_worker_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no process here that Airflow's scheduler would have to see end."""
    for module in (operators, triggers):
        monkeypatch.setattr(module, "SETTLE_SECONDS", 0.0)


@dataclass
class TaskInstance:
    """What a task sees of its task instance, kept over attempts as Airflow keeps it."""

    dag_id: str = "retrain"
    run_id: str = "scheduled__2026-11-22T00:00:00+00:00"
    task_id: str = "tune"
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 0
    xcoms: dict[str, Any] = field(default_factory=dict)
    deferrals: list[Any] = field(default_factory=list)
    before_trigger: Callable[[Any], None] | None = None

    def xcom_push(self, key: str, value: Any) -> None:
        json.dumps(value)
        self.xcoms[key] = value

    @property
    def context(self) -> dict[str, Any]:
        return {"ti": self}

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int) -> Any:
        assert (task_ids, map_indexes) == (self.task_id, self.map_index)
        return self.xcoms.get(key)

    def run(self, operator: Any) -> Any:
        """Run one attempt to its end, through every deferral."""
        step = lambda: operator.execute(self.context)  # noqa: E731
        while True:
            try:
                return as_task(operator, step)
            except TaskDeferred as deferred:
                self.deferrals.append(deferred)
                if self.before_trigger is not None:
                    self.before_trigger(deferred)
                event = first_event(rebuilt(deferred.trigger))
                step = self._resume(operator, deferred, event)

    def _resume(self, operator: Any, deferred: Any, event: Any) -> Callable[[], Any]:
        kwargs = {**(deferred.kwargs or {}), "event": event.payload}
        return lambda: operator.resume_execution(deferred.method_name, kwargs, self.context)

    def fail_deferral(self, operator: Any, error: str) -> Any:
        """Resume as Airflow does when the deferral timed out or its trigger broke."""
        return as_task(
            operator, lambda: operator.resume_execution("__fail__", {"error": error}, self.context)
        )

    def retry(self) -> TaskInstance:
        """Go on as the next attempt: Airflow clears the XComs in between."""
        self.try_number += 1
        self.xcoms.clear()
        return self

    def clear(self) -> TaskInstance:
        """Go on as after a clear by a user, which raises max_tries."""
        self.max_tries = self.try_number
        return self.retry()


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


def creates(server: Emulator) -> list[dict[str, Any]]:
    """The create requests that reached the server."""
    return [r for r in server.requests() if r["method"] == "POST" and r["path"].endswith("/tuningJobs")]


def cancels(server: Emulator) -> list[dict[str, Any]]:
    """The cancel requests that reached the server."""
    return [r for r in server.requests() if r["path"].endswith(":cancel")]


def is_permanent(error: BaseException) -> bool:
    """Whether Airflow fails the task at once for this error, without using up retries."""
    return isinstance(error, AirflowFailException)


__all__ = [
    "BODY",
    "TaskInstance",
    "cancels",
    "creates",
    "first_event",
    "is_permanent",
    "rebuilt",
    "timedelta",
]
