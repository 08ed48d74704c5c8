"""The Airflow and the emulator that things are killed in."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.__main__ import connection
from testbed.services import REPOSITORY, http_json, start_tuning_emulator, tail
from testbed.stack import AirflowStack
from tests.proofs.chaos.instruments import DIRECTORY

DAG_ID = "chaos"
TASK_ID = "tune"
PROJECT = "chaos-project"
LOSSY_PROJECT = "chaos-lossy"
"""A project in which no create is ever answered."""
JOB_SECONDS = 7
_SPEED = (120 + 1800) / JOB_SECONDS

# Airflow notices the death of a component, or of a task, by heartbeats that stay away: seconds here, not minutes.
# Not too few: a scheduler that is late on a busy machine takes itself for dead, and starts its tasks again.
_FAST = {
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": "64",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
    # Dozens of tasks start at a time, on few cores.
    "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "30",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
}


class ChaosStack(AirflowStack):
    """An Airflow in which a killed component leaves behind what it would leave behind."""

    def _start_forker(self, timeout: float) -> None:
        read, write = os.pipe()
        with self.log_path("components").open("ab") as output:
            self._forker = subprocess.Popen(
                [sys.executable, "-m", "tests.proofs.chaos.components", str(write)],
                cwd=REPOSITORY,
                env=self._env,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[write],
                start_new_session=True,
            )
        os.close(write)
        self._answers = read
        self._expect("ready", timeout)

    def revive(self) -> None:
        """Start again what has ended by itself, on a very busy machine for instance, as a service manager would."""
        self._receive(0)
        for name in self.components:
            if name not in self.pids:
                print(
                    f"The {name} has ended by itself:\n{tail(self.log_path(name))}",
                    file=sys.stderr,
                    flush=True,
                )
                self.start_component(name)


@dataclass(frozen=True)
class World:
    """What a phase works with."""

    airflow: ChaosStack
    url: str
    meeting_place: Path

    def reset(self) -> None:
        """Forget all jobs and requests."""
        self.control("POST", "reset", {})
        path = f"/projects/{LOSSY_PROJECT}/.*/tuningJobs$"
        self.control(
            "POST", "faults", {"method": "POST", "path_regex": path, "drop": "after_processing", "times": -1}
        )

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Make a control request to the emulator."""
        status, answer = http_json(method, f"{self.url}/_emulator/{path}", body)
        if status != 200:
            raise RuntimeError(f"{method} {path}: {status} {answer}")
        return answer

    def jobs(self) -> list[dict[str, Any]]:
        """Return all jobs, oldest first."""
        return self.control("GET", "jobs")["jobs"]

    def requests(self) -> list[dict[str, Any]]:
        """Return the API requests since the last reset."""
        return self.control("GET", "requests?since=0")["requests"]

    def set_state(self, job: dict[str, Any], state: str) -> None:
        """Put a job into a state, in which it stays."""
        self.control("POST", f"jobs/{job['name'].rpartition('/')[2]}/state", {"state": state})

    def tasks(self, run_id: str) -> list[dict[str, Any]]:
        """Return the tuning tasks of a run, mapped ones only."""
        path = f"/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances"
        found = self.airflow.client.request("GET", path, limit=100, task_id=TASK_ID)["task_instances"]
        return [task for task in found if task["task_id"] == TASK_ID and task["map_index"] >= 0]

    def result(self, run_id: str, map_index: int) -> Any:
        """Return what a task has returned."""
        path = f"/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/{TASK_ID}/xcomEntries/return_value"
        query = {"map_index": map_index, "deserialize": "false", "stringify": "false"}
        return self.airflow.client.request("GET", path, **query)["value"]

    def log(self, run_id: str, map_index: int, try_number: int) -> str:
        """Return the log of one attempt."""
        path = f"/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/{TASK_ID}/logs/{try_number}"
        query = {"map_index": map_index, "full_content": "true"}
        content = self.airflow.client.request("GET", path, **query)["content"]
        return "\n".join(_line(item) for item in content)


def _line(item: Any) -> str:
    if isinstance(item, str):
        return item
    errors = [str(one.get("exc_value")) for one in item.get("error_detail") or []]
    return " ".join(filter(None, [item.get("timestamp"), item.get("level"), item.get("event"), *errors]))


@contextlib.contextmanager
def world(directory: Path, tasks_at_a_time: int) -> Iterator[World]:
    """Run everything below a directory."""
    meeting_place = directory / "meeting-place"
    meeting_place.mkdir()
    token = secrets.token_hex(24)
    emulator, url = start_tuning_emulator(
        directory,
        token=token,
        speed=_SPEED,
        concurrent_jobs=100_000,
        extra_arguments=("--datasets", "skip"),
    )
    try:
        home = (directory / "airflow").resolve()
        env = {
            **_FAST,
            # SQLite's five seconds are too few where dozens of processes share two cores. Nor should it be many:
            # the API server's event loop can wait for a lock that one of its own threads holds.
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}?timeout=20",
            "AIRFLOW__CORE__PARALLELISM": str(tasks_at_a_time + 2),
            "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": connection(url, token),
            "PYTHONPATH": str(REPOSITORY),
            DIRECTORY: str(meeting_place),
        }
        dags = Path(__file__).parent / "dags"
        with ChaosStack(home, [dags], env=env) as airflow:
            airflow.wait_for_dag(DAG_ID)
            yield World(airflow, url, meeting_place)
    finally:
        emulator.stop()
