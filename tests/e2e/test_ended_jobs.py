"""A DAG that starts when a tuning job of the project ends, on a real Airflow."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
import requests
from airflow.triggers.base import BaseTrigger

from testbed.services import wait_until
from tests.e2e.conftest import TOKEN

if TYPE_CHECKING:
    from .conftest import World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

REMEMBERS = hasattr(BaseTrigger, "on_kill")
"""Airflow 3.3 has a store for what a watcher has told."""


def create(world: World) -> str:
    """Create a job as a person does, outside of Airflow."""
    body = {
        "baseModel": "gemini-3.5-flash",
        "supervisedTuningSpec": {
            "trainingDatasetUri": "gs://my-tuning-data/support-router/train.jsonl",
            "hyperParameters": {"epochCount": 1_000_000},
        },
        "labels": {"watched": "by-job-ended"},
    }
    answer = requests.post(
        f"{world.emulator.url}/v1/projects/demo-project/locations/us-central1/tuningJobs",
        json=body,
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=30,
    )
    answer.raise_for_status()
    return str(answer.json()["name"])


def told(world: World) -> list[str]:
    """Return the jobs whose ends have started a run, in the order of the runs."""
    names: list[str] = []
    for run in world.client.runs("job_ended"):
        if run["state"] == "success":
            names += world.client.xcom("job_ended", run["dag_run_id"], "tell")
    return names


def test_a_dag_starts_when_any_job_ends_also_one_that_ended_while_no_triggerer_ran(world: World) -> None:
    world.airflow.wait_for_dag("job_ended")
    world.client.pause("job_ended", False)
    first, second = create(world), create(world)
    world.emulator.set_state(first, "JOB_STATE_SUCCEEDED")
    wait_until(lambda: first in told(world), what="the end of a job to start a run", timeout=120)

    world.airflow.kill_component("triggerer", signal.SIGKILL)
    world.emulator.set_state(second, "JOB_STATE_FAILED", {"code": 3, "message": "Row 7 is empty."})
    world.airflow.start_component("triggerer")

    wait_until(lambda: second in told(world), what="the end meanwhile to start a run", timeout=120)
    if REMEMBERS:
        assert told(world).count(first) <= 2, "once more at most, where the triggerer died before it was sure"
