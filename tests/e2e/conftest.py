"""One real Airflow, one tuning emulator and one storage emulator for all end-to-end tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_tuning_provider.emulator.testing import Emulator
from testbed.client import AirflowClient
from testbed.services import (
    REPOSITORY,
    StepError,
    connection,
    storage_emulator,
    tail,
    tuning_emulator,
    wait_until,
)
from testbed.stack import AirflowStack

BUCKET = "my-tuning-data"
TOKEN = "token-of-the-end-to-end-tests"
# A job takes about eight seconds.
SPEED = 240


@dataclass
class World:
    """What a test talks to."""

    airflow: AirflowStack
    emulator: Emulator
    storage_url: str

    @property
    def client(self) -> AirflowClient:
        """Airflow's REST API."""
        return self.airflow.client

    def jobs(self) -> dict[str, dict[str, Any]]:
        """Return the emulator's jobs by resource name."""
        return {job["name"]: job for job in self.emulator.jobs()}

    def wait_for_job(self, dag_id: str, run_id: str, task_id: str = "tune") -> dict[str, Any]:
        """Wait until a task has created its job, and return the job."""

        def found() -> dict[str, Any] | None:
            state = (self.client.task_instances(dag_id, run_id).get(task_id) or {}).get("state")
            if state in ("failed", "up_for_retry"):
                log = self.client.task_log(dag_id, run_id, task_id)
                pytest.fail(f"{dag_id}.{task_id} is {state}:\n{log[-3000:]}", pytrace=False)
            url = self.client.xcom(dag_id, run_id, task_id, "tuning_job_url")
            return next(
                (job for job in self.jobs().values() if url and job["name"].split("/")[-1] in url), None
            )

        return wait_until(found, what=f"the job of {dag_id}.{task_id}", interval=0.3)

    def looks_at(self, job_name: str) -> int:
        """Return how often a job has been asked for."""
        path = f"/tuningJobs/{job_name.split('/')[-1]}"
        return sum(one["method"] == "GET" and one["path"].endswith(path) for one in self.emulator.requests())

    def cancellations(self, job_name: str) -> int:
        """Return how often a job's cancellation has been asked for."""
        path = f"/tuningJobs/{job_name.split('/')[-1]}:cancel"
        return sum(one["path"].endswith(path) for one in self.emulator.requests())

    def wait_for_state(self, job_name: str, *states: str) -> str:
        """Wait until a job is in one of ``states``."""

        def state() -> str | None:
            now = self.jobs()[job_name]["state"]
            return now if now in states else None

        return wait_until(state, what=f"{job_name} to be {' or '.join(states)}", interval=0.3)


def training_data() -> bytes:
    """Return a data set of the shape that the API wants, made from the example's messages."""
    lines = (REPOSITORY / "example_dags" / "data" / "support_messages.jsonl").read_text("utf-8").splitlines()
    examples = []
    for row in map(json.loads, lines):
        turns = [("user", row["message"]), ("model", row["queue"])]
        contents = [{"role": role, "parts": [{"text": text}]} for role, text in turns]
        examples.append(json.dumps({"contents": contents}))
    return "\n".join(examples).encode()


def upload(storage_url: str, name: str, content: bytes) -> None:
    """Put an object into the bucket."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    client = storage.Client("tests", AnonymousCredentials(), client_options={"api_endpoint": storage_url})
    client.bucket(BUCKET).blob(name).upload_from_string(content, content_type="application/jsonl")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Start everything once; the tests use runs of their own."""
    home = tmp_path_factory.mktemp("stack")
    with (
        storage_emulator(home, BUCKET) as storage_url,
        tuning_emulator(storage_url, token=TOKEN, speed=SPEED) as emulator,
    ):
        upload(storage_url, "support-router/train.jsonl", training_data())
        airflow = AirflowStack(
            home,
            [REPOSITORY / "example_dags", REPOSITORY / "tests" / "e2e" / "dags"],
            env={
                "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": connection(
                    emulator.url, project="demo-project", token=TOKEN
                ),
                "STORAGE_EMULATOR_HOST": storage_url,
                # Seconds until what a triggerer that was killed had is taken over; 30 by default.
                "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
            },
        )
        try:
            airflow.start()
        except StepError as error:
            pytest.fail(f"{error}\n{tail(error.log) if error.log else ''}", pytrace=False)
        with airflow:
            yield World(airflow, emulator, storage_url)
