"""One run of the soak: all tasks at once, each attempt as Airflow's worker and triggerer would carry it out.

What a task does on a worker runs in a thread, and there are only so many; all triggers run on one event loop,
rebuilt from what the metadata database would hold, as in the triggerer.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest import mock

from airflow_tuning_provider import exceptions as errors
from airflow_tuning_provider._tasks import submission, waiting
from airflow_tuning_provider.api import waiting as api_waiting
from airflow_tuning_provider.api.identity import KEY_LABEL, TASK_LABEL
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.exceptions import AirflowFailException
from airflow_tuning_provider.hooks import tuning_job as hooks
from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
from airflow_tuning_provider.sensors import tuning_job as sensors
from airflow_tuning_provider.sensors.tuning_job import TuningJobSensor
from airflow_tuning_provider.triggers import watching
from testbed.services import connection
from tests.integration.servers import private_key
from tests.integration.tasks.conftest import BODY, TaskDeferred, TaskInstance, as_task, rebuilt
from tests.proofs.soak.plan import UNKNOWN_STATE, Fate, Fault, Kind, Misfortune, Plan, plans
from tests.proofs.soak.proxy import Proxy

WORKERS = 12
RETRIES = 3
REQUEST_TIMEOUT = 3.0
# google-auth replaces a token 225 s before it ends: these are used for twenty seconds.
TOKEN_LIFETIME = 245
# A tenth of what they are: how long a job is looked for whose create was not answered, and how long one is waited for
# that cannot be seen.
SHORTER = {
    submission: ("LOOK_SECONDS", "PATIENCE_SECONDS"),
    waiting: ("SIGHT_SECONDS",),
    api_waiting: ("SIGHT_SECONDS",),
    sensors: ("SIGHT_SECONDS",),
}
# A hundredth of what it is: where every third look fails in another way, a job that is gone is never refused for long
# enough without a break, and it is this that ends the wait for it.
ERROR_BUDGET = api_waiting.DEFAULT_ERROR_BUDGET / 100

_ENDS: dict[Fate, type[BaseException] | tuple[type[BaseException], ...] | None] = {
    Fate.SUCCEEDED: None,
    Fate.PARTIALLY_SUCCEEDED: None,
    Fate.FAILED: errors.TuningJobFailedError,
    Fate.CANCELLED: errors.TuningJobCancelledError,
    Fate.EXPIRED: errors.TuningJobFailedError,
    Fate.VANISHED: (errors.TuningUnavailableError, errors.TuningFateUnknownError),
}


@dataclass
class Result:
    """How a task ended.

    :param end: its error, ``None`` for a success.
    :param attempts: how many attempts it took.
    """

    plan: Plan
    end: BaseException | None
    attempts: int

    @property
    def as_its_job(self) -> bool:
        """Whether the task ended as its job did."""
        expected = _ENDS[self.plan.fate]
        return self.end is None if expected is None else isinstance(self.end, expected)


@dataclass
class Figures:
    """What a run came to."""

    results: list[Result]
    seconds: float
    calls: Counter[str]
    faults: Counter[Fault]
    creates: int
    jobs: Counter[str] = field(default_factory=Counter)
    broken_triggers: list[Exception] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """All requests to the API; those for tokens are google-auth's affair and counted apart."""
        return sum(count for kind, count in self.calls.items() if kind != "token")

    @property
    def deviations(self) -> list[str]:
        """What should not be."""
        found = [
            f"{one.plan.task_id} ({one.plan.kind.value}) should have ended as {one.plan.fate.name}, but: {one.end!r}"
            for one in self.results
            if not one.as_its_job
        ]
        found += [f"{task} has {count} jobs" for task, count in self.jobs.items() if count != 1]
        return [
            *found,
            *(f"a trigger raised instead of sending an event: {one!r}" for one in self.broken_triggers),
        ]


class Soak:
    """Runs the tasks of a plan against a proxy.

    :param prefix: how the ids of this run's connections begin.
    """

    def __init__(self, emulator: Emulator, proxy: Proxy, tasks: list[Plan], prefix: str) -> None:
        self._emulator = emulator
        self._proxy = proxy
        self._tasks = tasks
        self._prefix = prefix
        self._slots = threading.Semaphore(WORKERS)
        self._loop = asyncio.new_event_loop()
        self._stop = threading.Event()
        self._sensor_jobs: dict[str, str] = {}
        self._broken_triggers: list[Exception] = []

    def run(self) -> Figures:
        """Run all tasks to their ends."""
        triggerer = threading.Thread(target=self._loop.run_forever, name="triggerer", daemon=True)
        triggerer.start()
        director = threading.Thread(target=self._direct, name="director", daemon=True)
        self._create_jobs_of_sensors()
        director.start()
        began = time.monotonic()
        with ThreadPoolExecutor(len(self._tasks), "task") as pool:
            results = list(pool.map(self._run_task, self._tasks))
        seconds = time.monotonic() - began
        self._stop.set()
        director.join(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        triggerer.join(10)
        self._loop.close()
        jobs = Counter({plan.task_id: 0 for plan in self._tasks})
        jobs.update(job["labels"][TASK_LABEL] for job in self._emulator.jobs())
        creates = [
            r for r in self._emulator.requests() if r["method"] == "POST" and r["path"].endswith("Jobs")
        ]
        return Figures(
            results,
            seconds,
            Counter(self._proxy.calls),
            Counter(self._proxy.faults),
            len(creates) - len(self._sensor_jobs),
            jobs,
            self._broken_triggers,
        )

    # -- the jobs ----------------------------------------------------------------------------------

    def _create_jobs_of_sensors(self) -> None:
        """Create the jobs that something else than the tasks creates."""
        from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

        with TuningJobHook(f"{self._prefix}_direct") as hook:
            for plan in self._tasks:
                if plan.kind in (Kind.SENSOR_DEFERRED, Kind.SENSOR_POKE):
                    spec = {"trainingDatasetUri": "gs://bucket/train.jsonl"}
                    labels = {TASK_LABEL: plan.task_id, KEY_LABEL: plan.task_id}
                    job = hook.create_tuning_job(
                        {"baseModel": "gemini-3.5-flash", "supervisedTuningSpec": spec, "labels": labels}
                    )
                    self._sensor_jobs[plan.task_id] = job["name"]
                    self._proxy.own(job["name"], plan.task_id)

    def _direct(self) -> None:
        """Lead each job through its states, as planned."""
        planned = {plan.task_id: plan for plan in self._tasks}
        scripts: dict[str, list[tuple[float, Callable[[], Any]]]] = {}
        while not self._stop.wait(0.25):
            now = time.monotonic()
            for job in self._emulator.jobs():
                name = job["name"]
                if name not in scripts:
                    scripts[name] = self._script(name, planned[job["labels"][TASK_LABEL]], now)
                while scripts[name] and scripts[name][0][0] <= now:
                    scripts[name].pop(0)[1]()

    def _script(self, name: str, plan: Plan, now: float) -> list[tuple[float, Callable[[], Any]]]:
        def put(state: str) -> Callable[[], Any]:
            error = {"code": 3, "message": "Row 17 has no model turn."} if plan.fate is Fate.FAILED else None
            return lambda: self._emulator.set_state(name, state, error if state == plan.fate.value else None)

        script = [(now + 1.0, put("JOB_STATE_RUNNING"))]
        if plan.strange:
            script += [(now + 3.0, put(UNKNOWN_STATE)), (now + 7.0, put("JOB_STATE_RUNNING"))]
        vanished = lambda: self._proxy.vanished.add(name.rpartition("/")[2])  # noqa: E731
        script.append((now + plan.life, vanished if plan.fate is Fate.VANISHED else put(plan.fate.value)))
        return script

    # -- one task ----------------------------------------------------------------------------------

    def _run_task(self, plan: Plan) -> Result:
        ti = TaskInstance(dag_id="soak", run_id="soak", task_id=plan.task_id)
        while True:
            end: BaseException | None = None
            try:
                self._attempt(ti, plan)
            except Exception as error:  # noqa: BLE001 - whatever a task ends with is judged later
                end = error
            # A retry after a job that failed would create another one, which is what Airflow's users want.
            final = end is None or isinstance(end, (AirflowFailException, errors.TuningJobFailedError))
            if final or ti.try_number > RETRIES:
                return Result(plan, end, ti.try_number)
            time.sleep(1.0)
            ti.retry()

    def _attempt(self, ti: TaskInstance, plan: Plan) -> Any:
        """Run one attempt to its end, through every deferral; each piece on a worker has its own operator."""
        operator = self._operator(plan)
        step = partial(operator.execute, ti.context)
        while True:
            try:
                with self._slots if operator.deferrable else nullcontext():
                    return as_task(operator, step)
            except TaskDeferred as deferred:
                operator = self._operator(plan)
                step = partial(operator.resume_execution, *self._wait(deferred), ti.context)

    def _wait(self, deferred: Any) -> tuple[str, dict[str, Any]]:
        """Wait in the triggerer; return how Airflow resumes the task."""
        waiting = asyncio.run_coroutine_threadsafe(_first_event(rebuilt(deferred.trigger)), self._loop)
        try:
            event = waiting.result()
        except Exception as error:  # noqa: BLE001 - Airflow fails the deferral then
            self._broken_triggers.append(error)
            return "__fail__", {"error": "Trigger failure"}
        return deferred.method_name, {**(deferred.kwargs or {}), "event": event.payload}

    def _operator(self, plan: Plan) -> Any:
        common: dict[str, Any] = {
            "task_id": plan.task_id,
            "gcp_conn_id": f"{self._prefix}_{plan.conn_id}",
            "poll_interval": 1.0,
            "timeout": 600.0,
            "request_timeout": REQUEST_TIMEOUT,
            "deferrable": plan.kind in (Kind.CREATE_DEFERRED, Kind.SENSOR_DEFERRED),
        }
        if plan.task_id in self._sensor_jobs:
            return TuningJobSensor(tuning_job_name=self._sensor_jobs[plan.task_id], **common)
        return CreateTuningJobOperator(**BODY, **common)


def _impatient(name: str, poll_interval: float, deadline: float | None, *_: float) -> api_waiting.Wait:
    return api_waiting.Wait(name, poll_interval, deadline, ERROR_BUDGET)


async def _first_event(trigger: Any) -> Any:
    async for event in trigger.run():
        return event
    raise AssertionError("the trigger ended without an event")


def soak(count: int, *, seed: int, shares: Sequence[float]) -> list[Figures]:
    """Run the same tasks once for each share of misbehaving calls, side by side."""
    with ExitStack() as stack:
        environment: dict[str, str] = {}
        runs = []
        for number, share in enumerate(shares):
            emulator = stack.enter_context(Emulator(speed=1, datasets="skip", token_lifetime=TOKEN_LIFETIME))
            proxy = stack.enter_context(Proxy(emulator.url, Misfortune(seed, share)))
            prefix = f"soak_{number}"
            environment.update(_connections(emulator, proxy, prefix))
            runs.append(Soak(emulator, proxy, plans(count, seed), prefix))
        stack.enter_context(mock.patch.dict(os.environ, environment))
        for module, names in SHORTER.items():
            for name in names:
                stack.enter_context(mock.patch.object(module, name, getattr(module, name) / 10))
        for module in (watching, hooks):
            stack.enter_context(mock.patch.object(module, "Wait", _impatient))
        with ThreadPoolExecutor(len(runs), "run") as pool:
            return list(pool.map(Soak.run, runs))


def _connections(emulator: Emulator, proxy: Proxy, prefix: str) -> dict[str, str]:
    key = {
        "type": "service_account",
        "project_id": "test-project",
        "private_key_id": "1",
        "private_key": private_key(),
        "client_email": "soak@test-project.iam.gserviceaccount.com",
        "token_uri": f"{proxy.url}/_emulator/token",
    }
    through = partial(connection, proxy.url, project="test-project")
    connections = {
        "token": through(token="a-token"),
        "key": through(keyfile_dict=json.dumps(key)),
        "direct": connection(emulator.url, project="test-project", token="a-token"),
    }
    return {f"AIRFLOW_CONN_{prefix}_{name}".upper(): value for name, value in connections.items()}
