"""The command line on an Airflow with a database: a connection from there, and orphans by its task instances."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_tuning_provider.api.identity import TaskIdentity
from airflow_tuning_provider.emulator.testing import Emulator

pytestmark = [pytest.mark.e2e, pytest.mark.matrix, pytest.mark.timeout(600)]

BODY = {
    "baseModel": "gemini-3.5-flash",
    "supervisedTuningSpec": {"trainingDatasetUri": "gs://bucket/train.jsonl"},
}
DAG = """
from airflow.sdk import DAG, task

with DAG("retrain", schedule=None):

    @task(retries=0)
    def tune():
        raise ValueError("no")

    tune()
"""


def run(home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    env |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__VERTEX_AI_TUNING__DEPLOYMENT": "tests",
    }
    return subprocess.run(
        [sys.executable, "-m", *command], env=env, capture_output=True, text=True, timeout=300, check=False
    )


def orphans(home: Path, *options: str) -> tuple[list[dict[str, Any]], str]:
    command = ("airflow_tuning_provider", "orphans", "-c", "vertex", "--min-age", "0", "-o", "json", *options)
    ran = run(home, *command)
    assert ran.returncode == 0, ran.stderr
    found: list[dict[str, Any]] = json.loads(ran.stdout)
    return found, ran.stderr


def test_orphans_are_found_by_airflow_s_own_database_and_cancelled_when_told_so(tmp_path: Path) -> None:
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "retrain.py").write_text(DAG)
    assert run(tmp_path, "airflow", "db", "migrate").returncode == 0
    assert run(tmp_path, "airflow", "dags", "test", "retrain").returncode == 1, "its task fails"
    with sqlite3.connect(tmp_path / "airflow.db") as database:
        ((run_id, state),) = database.execute("select run_id, state from task_instance").fetchall()
    assert state == "failed"
    with Emulator(datasets="skip") as emulator:
        extra = {"project": "test-project", "location": "us-central1", "api_endpoint": emulator.url}
        connection = json.dumps({"conn_type": "vertex_ai_tuning", "password": "a-token", "extra": extra})
        assert (
            run(tmp_path, "airflow", "connections", "add", "vertex", "--conn-json", connection).returncode
            == 0
        )

        def job(identity: TaskIdentity) -> str:
            labels = identity.labels(BODY, max_tries=0)
            (name,) = emulator.seed(job={**BODY, "state": "JOB_STATE_RUNNING", "labels": labels})
            return name

        orphan = job(TaskIdentity("retrain", run_id, "tune", deployment="tests"))
        unknown = job(TaskIdentity("retrain", "another run", "tune", deployment="tests"))
        job(TaskIdentity("retrain", run_id, "tune", deployment="another Airflow"))

        found, told = orphans(tmp_path)
        assert {row["name"]: row["orphan"] for row in found} == {orphan: True, unknown: False}
        assert (
            "2 jobs under way, 1 of them without a task that waits. Dry run: nothing was cancelled." in told
        )
        assert {job["state"] for job in emulator.jobs()} == {"JOB_STATE_RUNNING"}

        found, told = orphans(tmp_path, "--cancel", "--yes")
        assert [row["name"] for row in found if row["cancelled"]] == [orphan]
        assert "cancelled 1." in told
        going_on = {job["name"] for job in emulator.jobs() if job["state"] == "JOB_STATE_RUNNING"}
        assert orphan not in going_on
        assert len(going_on) == 2
