"""Our own share of the time that a worker spends on a job: what creating and resuming take beyond Airflow's part.

    python -m benchmarks.share

Runs the two stretches that a deferrable create has on a worker, each in a process that has what Airflow's task
runner loads anyway, against an emulator, and prints the milliseconds of each step as JSON. The connection
comes from the environment: where it comes from Airflow's API server, that is one more question for each stretch.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from benchmarks.measure import ROOT

STEPS = (
    "import of the operator",
    "import of the HTTP client",
    "connection and key",
    "access token",
    "calls",
    "rest",
)


class Clock:
    """Milliseconds of wall-clock time of each step; what one step does within another counts once."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys(STEPS, 0.0)
        self._since = time.perf_counter()
        self._processor = time.process_time()
        self._now = ["rest"]

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count what is done meanwhile to a step."""
        self._tick()
        self._now.append(name)
        try:
            yield
        finally:
            self._tick()
            self._now.pop()

    def stop(self) -> dict[str, float]:
        """Return what each step took, and all of them."""
        self._tick()
        processor = (time.process_time() - self._processor) * 1000
        return {**self.spent, "all": sum(self.spent.values()), "processor": processor}

    def _tick(self) -> None:
        now = time.perf_counter()
        self.spent[self._now[-1]] += (now - self._since) * 1000
        self._since = now

    def wrap(self, owner: Any, name: str, step: str) -> None:
        """Count each call of a function to a step."""
        real = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            with self.step(step):
                return real(*args, **kwargs)

        setattr(owner, name, counted)


def stretch(event: dict[str, Any] | None) -> dict[str, Any]:
    """Create and defer, or resume with an event; return the times, and the deferral's event if there is one."""
    # What a worker has loaded before it comes to a task's own code.
    for name in ("airflow.sdk.execution_time.task_runner", "airflow.sdk.execution_time.supervisor"):
        importlib.import_module(name)
    from airflow.sdk.bases.operator import ExecutorSafeguard

    ExecutorSafeguard.test_mode = True
    clock = Clock()
    with clock.step("import of the operator"):
        from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
    operator = CreateTuningJobOperator(
        task_id="tune", base_model="gemini-3.5-flash", training_dataset_uri="gs://bucket/train.jsonl"
    )
    with clock.step("import of the HTTP client"):
        from airflow_tuning_provider.hooks import _base, credentials, transport
        from airflow_tuning_provider.hooks import adapter as _  # noqa: F401

        importlib.import_module("google.auth.transport.requests")
    clock.wrap(_base.auth, "build_credentials", "connection and key")
    clock.wrap(credentials, "refresh", "access token")
    clock.wrap(transport.Transport, "_send", "calls")
    ti = SimpleNamespace(
        dag_id="bench", run_id="run", task_id="tune", map_index=-1, try_number=1, max_tries=0,
        xcom_push=lambda **_: None, xcom_pull=lambda **_: None,
    )  # fmt: skip
    context: Any = {"ti": ti, "task": operator}
    deferred = None
    if event is None:
        try:
            operator.execute(context)
        except BaseException as error:  # a deferral is none of the usual ones
            if not hasattr(error, "trigger"):
                raise
            deferred = error.trigger.serialize()[1]
    else:
        operator.execute_complete(context, event)
    return {"times": clock.stop(), "trigger": deferred}


def measure() -> dict[str, Any]:
    """Run both stretches against an emulator; return their times and how many requests each sent."""
    from airflow_tuning_provider.emulator.testing import Emulator
    from benchmarks.worker import connection

    with Emulator(speed=1, datasets="skip") as emulator:
        environment = {**os.environ, "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": connection(emulator.url)}
        before = emulator.last_request()
        created = _in_a_process(None, environment)
        between = emulator.last_request()
        name = created["trigger"]["tuning_job_name"]
        emulator.set_state(name, "JOB_STATE_SUCCEEDED")
        event = {"status": "ended", "name": name, "resume": created["trigger"]["resume"]}
        resumed = _in_a_process(event, environment)
        after = emulator.last_request()
    return {
        "create": {**created["times"], "requests": between - before},
        "resume": {**resumed["times"], "requests": after - between},
    }


def _in_a_process(event: dict[str, Any] | None, environment: dict[str, str]) -> Any:
    command = [sys.executable, "-m", "benchmarks.share", "stretch", json.dumps(event)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Measure, or run the one stretch that the command line names."""
    if sys.argv[1:2] == ["stretch"]:
        logging.disable(logging.ERROR)
        answer = stretch(json.loads(sys.argv[2]))
    else:
        answer = measure()
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
