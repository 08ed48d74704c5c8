"""The Airflow and the emulator that things are killed in."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_tuning_provider.emulator.testing import Emulator
from testbed.services import REPOSITORY, connection, tail
from testbed.stack import AirflowStack
from tests.proofs.chaos.instruments import DIRECTORY

DAG_ID = "chaos"
TASK_ID = "tune"
PROJECT = "chaos-project"
TOKEN = "token-of-the-chaos"
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

    forker = "tests.proofs.chaos.components"

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
    emulator: Emulator
    meeting_place: Path

    def reset(self) -> None:
        """Forget all jobs and requests."""
        self.emulator.reset()
        path = f"/projects/{LOSSY_PROJECT}/.*/tuningJobs$"
        self.emulator.fault(method="POST", path_regex=path, drop="after_processing", times=-1)

    def tasks(self, run_id: str) -> list[dict[str, Any]]:
        """Return the tuning tasks of a run, mapped ones only."""
        path = f"/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances"
        found = self.airflow.client.request("GET", path, limit=100, task_id=TASK_ID)["task_instances"]
        return [task for task in found if task["task_id"] == TASK_ID and task["map_index"] >= 0]


@contextlib.contextmanager
def world(directory: Path, tasks_at_a_time: int) -> Iterator[World]:
    """Run everything below a directory."""
    meeting_place = directory / "meeting-place"
    meeting_place.mkdir()
    home = directory / "airflow"
    with Emulator(token=TOKEN, speed=_SPEED, datasets="skip") as emulator:
        env = {
            **_FAST,
            "AIRFLOW__CORE__PARALLELISM": str(tasks_at_a_time + 2),
            "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": connection(emulator.url, project=PROJECT, token=TOKEN),
            "PYTHONPATH": str(REPOSITORY),
            DIRECTORY: str(meeting_place),
        }
        with ChaosStack(home, [Path(__file__).parent / "dags"], env=env) as airflow:
            airflow.wait_for_dag(DAG_ID)
            yield World(airflow, emulator, meeting_place)
