"""A real Airflow and the tuning emulator, and what can be seen of them."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from airflow_tuning_provider.api.identity import DAG_LABEL, MAP_INDEX_LABEL, label_value
from airflow_tuning_provider.emulator.testing import Emulator
from testbed.client import ApiError
from testbed.services import Service, StepError, connection, http_json, tail, wait_until
from testbed.stack import AirflowStack
from tests.proofs.kill.rows import Row

Json = dict[str, Any]

TOKEN = "token-of-the-kill-table"
PROJECT = "kill-table"
PARENT = f"projects/{PROJECT}/locations/us-central1"
# Cancelling takes five seconds.
SPEED = 3
# Thresholds are lowered so that the run need not wait for Airflow's half minutes.
SETTINGS = {
    "AIRFLOW__API__MAXIMUM_PAGE_LIMIT": "1000",
    # Runs are made while nothing happens, and let go a few at a time.
    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "100",
    "AIRFLOW__CORE__PARALLELISM": "32",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_MAX_OVERFLOW": "100",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE": "50",
    "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": "64",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
    # Airflow fails a task whose call of the API server takes longer: five seconds are too few on a busy machine.
    "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "30",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "3",
}
_EXECUTOR_EVENT = re.compile(
    r"Received executor event with state (?:success|failed) for task instance "
    r"TaskInstanceKey\(dag_id='([^']+)'.*?try_number=(\d+), map_index=(-?\d+)\)"
)
_ENDED = ("SUCCEEDED", "FAILED", "CANCELLED", "CANCELLING", "EXPIRED")


@dataclass
class Instance:
    """A task instance of a row, and everything that has been seen of it."""

    row: Row
    index: int
    job_names: list[str] = field(default_factory=list)
    ti: Json = field(default_factory=dict)
    jobs: list[Json] = field(default_factory=list)
    cancels: list[Json] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)

    @property
    def map_index(self) -> int:
        """Airflow's index."""
        return self.index if self.row.where.mapped else -1

    @property
    def state(self) -> str:
        """The task instance's state."""
        return str(self.ti.get("state"))

    @property
    def tries(self) -> int:
        """The task instance's attempts so far."""
        return int(self.ti.get("try_number") or 0)

    @property
    def live_job(self) -> Json | None:
        """The newest job, if it has not ended."""
        return self.jobs[-1] if self.jobs and state_of(self.jobs[-1]) not in _ENDED else None


def state_of(job: Json) -> str:
    """Return a job's state without its prefix."""
    return str(job["state"]).removeprefix("JOB_STATE_")


class Stack(AirflowStack):
    """Airflow on an SQLite database that bears many tasks at a time."""

    def _start_forker(self, timeout: float) -> None:
        super()._start_forker(timeout)
        with contextlib.closing(sqlite3.connect(self.home / "airflow.db")) as database:
            database.execute("PRAGMA journal_mode=WAL")


class World:
    """Airflow, the emulator, and a snapshot of both.

    :param home: directory for everything.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.emulator = Emulator(token=TOKEN, speed=SPEED, datasets="skip").start()
        self._second: Service | None = None
        self.airflow = Stack(
            home,
            [Path(__file__).parent / "dags"],
            env={
                "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": connection(
                    self.emulator.url, project=PROJECT, token=TOKEN
                ),
                **SETTINGS,
            },
        )
        self._seen = 0
        self._pinned: set[str] = set()
        self.requests: list[Json] = []
        self._scheduler_log = 0
        self._ended_processes: set[tuple[str, int, int]] = set()

    def __enter__(self) -> World:
        try:
            self.airflow.start()
        except BaseException:
            self.emulator.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._second is not None:
                self._second.stop(10)
            self.airflow.stop()
        finally:
            self.emulator.stop()

    # -- the emulator ------------------------------------------------------------------------------

    def create_job(self, label: str) -> str:
        """Create a job for a sensor to wait for, and return its name."""
        body = {
            "baseModel": "gemini-3.5-flash",
            "supervisedTuningSpec": {"trainingDatasetUri": "gs://bucket/train.jsonl"},
            "labels": {"kill-table": label_value(label)},
        }
        status, job = http_json(
            "POST", f"{self.emulator.url}/v1/{PARENT}/tuningJobs", body, {"Authorization": f"Bearer {TOKEN}"}
        )
        assert status == 200, job
        return str(job["name"])

    def set_state(self, job_name: str, state: str) -> None:
        """Put a job into a state, in which it stays."""
        self.emulator.set_state(job_name, f"JOB_STATE_{state}")

    # -- Airflow -----------------------------------------------------------------------------------

    def request(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Call Airflow's REST API, again where SQLite was busy: Airflow has changed nothing then."""
        for _ in range(20):
            try:
                return self.airflow.client.request(method, path, body, **query)
            except ApiError as error:
                if error.status != 500:
                    raise
            except TimeoutError:
                if method != "GET":
                    raise
            time.sleep(0.5)
        return self.airflow.client.request(method, path, body, **query)

    def run_path(self, row: Row) -> str:
        """Return the path of a row's DAG run in Airflow's REST API."""
        return f"/dags/{row.dag_id}/dagRuns/run"

    def ti_path(self, instance: Instance) -> str:
        """Return the path of a task instance in Airflow's REST API."""
        index = f"/{instance.map_index}" if instance.row.where.mapped else ""
        return f"{self.run_path(instance.row)}/taskInstances/task{index}"

    def logs(self, instance: Instance, try_number: int = 1) -> Iterator[tuple[str, str]]:
        """Yield name and content of an attempt's log files: the worker's, and one for each triggerer."""
        folder = self.home / "logs" / "tasks" / f"dag_id={instance.row.dag_id}"
        mapped = f"map_index={instance.index}/" if instance.row.where.mapped else ""
        for path in folder.glob(f"*/task_id=task/{mapped}attempt={try_number}.log*"):
            yield path.name, path.read_text(errors="replace")

    def watched_by(self, instance: Instance) -> int:
        """Return how many triggerers have told this attempt's log that its job is running."""
        told = '"Running'
        logs = self.logs(instance, max(instance.tries, 1))
        return sum(".trigger." in name and told in text for name, text in logs)

    def on_kills(self, instance: Instance) -> int:
        """Return how often Airflow has called ``on_kill`` of this task instance's triggers."""
        tries = range(1, max(instance.tries, 1) + 1)
        return sum(
            text.count("invoking on_kill") for number in tries for _, text in self.logs(instance, number)
        )

    def process_ended(self, instance: Instance) -> bool:
        """Return whether the scheduler has heard that this attempt's process has ended.

        A deferred task that is resumed before that is failed by Airflow, which happens on busy machines only.
        """
        with self.airflow.log_path("scheduler").open("rb") as log:
            log.seek(self._scheduler_log)
            lines = log.read().rpartition(b"\n")[0]
        self._scheduler_log += len(lines)
        for dag_id, try_number, map_index in _EXECUTOR_EVENT.findall(lines.decode("utf-8", "replace")):
            self._ended_processes.add((dag_id, int(try_number), int(map_index)))
        return (instance.row.dag_id, instance.tries, instance.map_index) in self._ended_processes

    def revive_triggerer(self) -> None:
        """Start the triggerer again where it has ended by itself: Airflow's does where SQLite stays locked."""
        try:
            self.airflow.require("triggerer")
        except StepError as error:
            print(error, error.log and tail(error.log), sep="\n", flush=True)
            self.airflow.start_component("triggerer")

    @contextlib.contextmanager
    def stalled_triggerer(self) -> Iterator[None]:
        """Stop the triggerer's processes, but not while they hold a lock of the database."""
        leader = psutil.Process(self.airflow.pids["triggerer"])
        processes = [leader, *leader.children(recursive=True)]

        def stopped() -> bool:
            _signal(processes, signal.SIGSTOP)
            if self._database_is_free():
                return True
            _signal(processes, signal.SIGCONT)
            return False

        try:
            wait_until(stopped, timeout=30, what="a moment to stall the triggerer", interval=0.05)
            yield
        finally:
            _signal(processes, signal.SIGCONT)

    def _database_is_free(self) -> bool:
        database = sqlite3.connect(self.home / "airflow.db", timeout=2, isolation_level=None)
        try:
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return False
        finally:
            database.close()
        return True

    def start_second_triggerer(self) -> None:
        """Start another triggerer beside the first one."""
        arguments = ["triggerer", "--skip-serve-logs"]
        log = self.airflow.log_path("second-triggerer")
        self._second = Service("second triggerer", "airflow", arguments, log=log, env=self.airflow._env)

    # -- looking -----------------------------------------------------------------------------------

    def look(self, instances: list[Instance]) -> None:
        """Take a snapshot; jobs that have begun are held in ``RUNNING`` from now on."""
        fresh = self.emulator.requests(self._seen)
        if fresh:
            self._seen = fresh[-1]["seq"]
        self.requests += fresh
        jobs: dict[str, Json] = {job["name"]: job for job in self.emulator.jobs()}
        for name, job in jobs.items():
            if name not in self._pinned:
                self._pinned.add(name)
                if state_of(job) not in _ENDED:
                    self.set_state(name, "RUNNING")
        answer = self.request("GET", "/dags/~/dagRuns/~/taskInstances", limit=1000)
        tis = {(ti["dag_id"], ti["map_index"]): ti for ti in answer["task_instances"]}
        by_job: dict[str, list[Json]] = {}
        for request in self.requests:
            job_id = request["path"].rpartition("/")[2].partition(":")[0]
            by_job.setdefault(job_id, []).append(request)
        for instance in instances:
            instance.ti = tis.get((instance.row.dag_id, instance.map_index), {})
            instance.jobs = [job for job in jobs.values() if self._belongs(job, instance)]
            ours = [
                request for job in instance.jobs for request in by_job.get(job["name"].rpartition("/")[2], ())
            ]
            instance.cancels = [request for request in ours if request["path"].endswith(":cancel")]
            instance.looks = [_epoch(request["time"]) for request in ours if request["method"] == "GET"]

    @staticmethod
    def _belongs(job: Json, instance: Instance) -> bool:
        labels = job.get("labels", {})
        if instance.job_names:
            return job["name"] in instance.job_names
        index = str(instance.index) if instance.row.where.mapped else None
        return (
            labels.get(DAG_LABEL) == label_value(instance.row.dag_id) and labels.get(MAP_INDEX_LABEL) == index
        )

    def refresh_until(
        self, instances: list[Instance], condition: Callable[[], Any], *, timeout: float, what: str
    ) -> None:
        """Take snapshots until something is so."""

        def look() -> Any:
            self.look(instances)
            return condition()

        wait_until(look, timeout=timeout, what=what, interval=1.0)


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _epoch(moment: Any) -> float:
    if isinstance(moment, (int, float)):
        return float(moment)
    return datetime.fromisoformat(str(moment).replace("Z", "+00:00")).timestamp()


def overlap(jobs: list[Json]) -> bool:
    """Whether two of the jobs were alive at the same time."""
    spans = sorted(
        (_epoch(job["createTime"]), _epoch(job["endTime"]) if job.get("endTime") else time.time())
        for job in jobs
    )
    return any(later[0] < earlier[1] for earlier, later in itertools.pairwise(spans))
