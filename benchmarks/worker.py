"""Worker time that a job takes, and the time from its end to the next task, on a real Airflow.

    python -m benchmarks.worker SECONDS JOBS
    python -m benchmarks.worker fleet JOBS SECONDS

Runs so many jobs through each DAG of ``benchmarks/dags``, side by side, and prints JSON. The jobs take so many
seconds and up to a minute more, spread evenly: a look a minute finds the end of one sooner than that of another.
Where Google's provider is installed, its operator is one of the DAGs' operators. A fleet is so many runs of our
operator at once, whose jobs end at random moments within so many seconds.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from airflow_tuning_provider.emulator.testing import Emulator
from testbed.client import ApiError
from testbed.services import wait_until
from testbed.stack import AirflowStack

_SAMPLE = 0.2
_LOOK = 60.0  # seconds between two looks at a job, ours and Google's


def connection(url: str) -> str:
    """Return a connection that Google's provider understands too: a service account of the emulator."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    keyfile = {
        "type": "service_account",
        "project_id": "bench-project",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": "bench@bench-project.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": f"{url}/_emulator/token",
    }
    extra = {
        "project": "bench-project",
        "location": "us-central1",
        "api_endpoint": url,
        "keyfile_dict": json.dumps(keyfile),
    }
    return json.dumps({"conn_type": "google_cloud_platform", "extra": extra})


class Sampler(threading.Thread):
    """Counts the seconds that the tasks ``tune`` of a DAG spend on a worker."""

    def __init__(self, airflow: AirflowStack, dag_id: str) -> None:
        super().__init__(daemon=True)
        self.airflow, self.dag_id = airflow, dag_id
        self.worker_seconds = 0.0
        self.stop = threading.Event()

    def run(self) -> None:
        """Sample until stopped."""
        last = time.monotonic()
        path = f"/dags/{self.dag_id}/dagRuns/~/taskInstances"
        while not self.stop.wait(_SAMPLE):
            with contextlib.suppress(Exception):
                found = self.airflow.client.request("GET", path, state="running", task_id="tune")
                now = time.monotonic()
                self.worker_seconds += (now - last) * found["total_entries"]
                last = now


LEGS = {
    "poll": ("ended", "seen"),
    "trigger's event": ("seen", "scheduled"),
    "scheduler": ("scheduled", "queued"),
    "worker's start": ("queued", "resumed"),
    "our code": ("resumed", "done"),
    "next task": ("done", "next"),
}
"""Where the seconds go from a job's end to the next task's start."""

SENSORS = ("sensor", "triggered-sensor")


class Run(NamedTuple):
    """A run of a DAG, its job at the emulator, and when that has to end."""

    dag_id: str
    run_id: str
    job: str
    end: float


def begin(airflow: AirflowStack, dag_id: str, **options: Any) -> str:
    """Trigger a run; SQLite may be busy for longer than Airflow waits for it."""
    for pause in (1, 2, 4, 8):
        try:
            return airflow.client.trigger(dag_id, **options)
        except ApiError as error:
            if error.status < 500:
                raise
        time.sleep(pause)
    return airflow.client.trigger(dag_id, **options)


def start(airflow: AirflowStack, emulator: Emulator, dag_id: str, seconds: float) -> Run:
    """Start a run and wait until it waits for its job, which has to end after so many seconds."""
    before = {job["name"] for job in emulator.jobs()}
    if dag_id in SENSORS:
        emulator.seed(
            {"state": "JOB_STATE_RUNNING"}, count=1, project="bench-project", location="us-central1"
        )
    created = lambda: {job["name"] for job in emulator.jobs()} - before  # noqa: E731
    conf = {"job": created().pop()} if dag_id in SENSORS else None
    run_id = begin(airflow, dag_id, conf=conf)
    if dag_id != "empty":
        wait_until(created, timeout=180, what=f"the job of {dag_id}", interval=0.2)
    job = created().pop() if dag_id != "empty" else ""
    return Run(dag_id, run_id, job, time.monotonic() + seconds)


def moments(airflow: AirflowStack, emulator: Emulator, run: Run, ended: float) -> dict[str, float]:
    """Return when the end of a run's job got how far, in epoch seconds."""
    tune = airflow.client.task_instance(run.dag_id, run.run_id, "tune")
    after = airflow.client.task_instance(run.dag_id, run.run_id, "after")
    ended_task, begun = _epoch(tune["end_date"]), _epoch(after["start_date"])
    found = {"ended": ended, "done": ended_task, "next": begun}
    if run.dag_id == "google":
        return found
    looks = [
        _epoch(request["time"])
        for request in emulator.requests()
        if request["method"] == "GET"
        and request["path"].endswith((run.job.rpartition("/")[2], "/tuningJobs"))
    ]
    # A list that comes just before may have been another triggerer's look, or a worker's.
    found["seen"] = min(look for look in looks if look >= ended)
    if run.dag_id != "triggered-sensor":
        found["scheduled"], found["queued"] = _epoch(tune["scheduled_when"]), _epoch(tune["queued_when"])
        own = [
            _epoch(request["time"])
            for request in emulator.requests()
            if request["method"] == "GET" and request["path"].endswith(run.job.rpartition("/")[2])
        ]
        found["resumed"] = max(look for look in own if look <= ended_task)
    return found


def legs(found: dict[str, float]) -> dict[str, float]:
    """Return the seconds of each leg that is known, and the whole way."""
    known = {
        name: found[to] - found[begin] for name, (begin, to) in LEGS.items() if {begin, to} <= found.keys()
    }
    if "scheduled" not in found and "seen" in found:
        known["trigger's event"] = found["done"] - found["seen"]
    return {**known, "all": found["next"] - found["ended"]}


@contextlib.contextmanager
def running(parallelism: int) -> Iterator[tuple[AirflowStack, Emulator]]:
    """Run an Airflow with the benchmark's DAGs beside an emulator.

    :param parallelism: tasks that may run at a time.
    """
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        emulator = stack.enter_context(Emulator(speed=1, datasets="skip"))
        airflow = AirflowStack(
            place,
            [Path(__file__).parent / "dags"],
            env={
                "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": connection(emulator.url),
                "GOOGLE_VERTEX_BASE_URL": emulator.url,
                "PYTHONPATH": str(Path.cwd()),
                "AIRFLOW__CORE__PARALLELISM": str(parallelism),
                "AIRFLOW__CORE__MAX_ACTIVE_RUNS_PER_DAG": "1000",
                "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "1000",
                "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
                "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "300",
            },
        )
        stack.enter_context(airflow)
        yield airflow, emulator


def measure(seconds: float, phases: int) -> dict[str, Any]:
    """Run every DAG with jobs of so many seconds and more, which end at different times after a look."""
    google = importlib.util.find_spec("airflow.providers.google") is not None
    found = ["empty", "ours", *SENSORS, *(["google"] if google else [])]
    with running(2 * phases + 1) as (airflow, emulator):
        for dag_id in found:
            airflow.wait_for_dag(dag_id, timeout=180)
        # Each sample is a question for the API server: not of those that are not compared.
        samplers = {dag_id: Sampler(airflow, dag_id) for dag_id in found if dag_id not in SENSORS}
        for sampler in samplers.values():
            sampler.start()
        lengths = [seconds + _LOOK * phase / phases for phase in range(phases)]
        runs = [start(airflow, emulator, dag_id, length) for length in lengths for dag_id in found]
        ended = {}
        for run in sorted((run for run in runs if run.job), key=lambda run: run.end):
            time.sleep(max(run.end - time.monotonic(), 0))
            emulator.set_state(run.job, "JOB_STATE_SUCCEEDED")
            ended[run] = time.time()
        ways: dict[str, list[dict[str, float]]] = {dag_id: [] for dag_id in found}
        for run in runs:
            airflow.client.wait_for_run(run.dag_id, run.run_id, timeout=300)
            if run.job:
                ways[run.dag_id].append(legs(moments(airflow, emulator, run, ended[run])))
        for sampler in samplers.values():
            sampler.stop.set()
            sampler.join()
    return {
        dag_id: {
            "worker_seconds": samplers[dag_id].worker_seconds / phases if dag_id in samplers else None,
            "job_seconds": statistics.mean(lengths),
            "legs": {name: statistics.mean(way[name] for way in known) for name in known[0]} if known else {},
        }
        for dag_id, known in ways.items()
    }


def fleet(count: int, seconds: float) -> dict[str, Any]:
    """Let many runs of our operator wait at once, and their jobs end at random moments within so many seconds."""
    with running(4) as (airflow, emulator):
        airflow.wait_for_dag("ours", timeout=180)
        for number in range(count):
            begin(airflow, "ours", run_id=f"fleet-{number}")
        wait_until(
            lambda: len(emulator.jobs()) == count, timeout=60 + 20 * count, what="the jobs", interval=1
        )
        time.sleep(30)  # until all of them are waited for
        chance = random.Random(1)
        plan = sorted((chance.uniform(0, seconds), str(job["name"])) for job in emulator.jobs())
        run_of = {str(job["name"]): str(job["labels"]["airflow-run-id"]) for job in emulator.jobs()}
        began, ended = time.monotonic(), {}
        for moment, name in plan:
            time.sleep(max(began + moment - time.monotonic(), 0))
            emulator.set_state(name, "JOB_STATE_SUCCEEDED")
            ended[name] = time.time()
        delays = []
        for name, moment in ended.items():
            airflow.client.wait_for_run("ours", run_of[name], timeout=600)
            after = airflow.client.task_instance("ours", run_of[name], "after")
            delays.append(_epoch(after["start_date"]) - moment)
    return {"mean": statistics.mean(delays), "largest": max(delays), "jobs": len(delays)}


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


if __name__ == "__main__":
    if sys.argv[1] == "fleet":
        answer = fleet(int(sys.argv[2]), float(sys.argv[3]))
    else:
        answer = measure(float(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.write(json.dumps(answer) + "\n")
