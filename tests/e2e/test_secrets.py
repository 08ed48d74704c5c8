"""No secret leaves the connection: not into the metadata database, not into a log, whatever happens to a task.

Tasks succeed, fail in several ways and are killed, with a fixed token and with a service account's key, while
everything logs at DEBUG. Then every file that Airflow has written is searched.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from airflow_tuning_provider.emulator.testing import Emulator
from testbed.services import StepError, connection, tail, wait_until
from testbed.stack import AirflowStack
from tests.integration.servers import private_key

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

TOKEN = f"sentinel-{secrets.token_hex(16)}"
KEY_ID = secrets.token_hex(20)
PRIVATE_KEY = private_key()
ACCOUNT = "sentinel@test-project.iam.gserviceaccount.com"
ISSUED = "ya29.emulator."
"""How the access tokens begin that the emulator issues for the key."""

DAGS = """
from airflow.sdk import DAG
from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
from airflow_tuning_provider.sensors.tuning_job import TuningJobSensor

BODY = {"base_model": "gemini-3.5-flash", "training_dataset_uri": "gs://bucket/train.jsonl", "poll_interval": 1}

with DAG("secrets", schedule=None):
    for conn_id in ("sentinel_token", "sentinel_key"):
        def create(name, **arguments):
            return CreateTuningJobOperator(task_id=f"{name}_{conn_id}", gcp_conn_id=conn_id, **{**BODY, **arguments})

        succeed = create("succeed")
        succeed >> TuningJobSensor(
            task_id=f"watch_{conn_id}", gcp_conn_id=conn_id, poll_interval=1,
            tuning_job_name=f"{{{{ ti.xcom_pull(task_ids='succeed_{conn_id}')['tuning_job_name'] }}}}",
        )
        create("on_a_worker", deferrable=False)
        create("forbidden", location="europe-west4")
        create("refused", base_model="text-bison@001")
        create("garbled", location="europe-west1")
        create("killed_deferred")
        create("killed_running", deferrable=False)

with DAG("no_token", schedule=None):
    CreateTuningJobOperator(task_id="create", gcp_conn_id="sentinel_key", **BODY)
"""
CONNECTIONS = ("sentinel_token", "sentinel_key")
EXPECTED = {
    "succeed": "success",
    "watch": "success",
    "on_a_worker": "success",
    "forbidden": "failed",
    "refused": "failed",
    "garbled": "success",
    "killed_deferred": "failed",
    "killed_running": "failed",
}


@dataclass
class Traces:
    """What is left of a run: places and the text found there."""

    texts: list[tuple[str, str]]
    job_ids: list[str]

    def where(self, pattern: str) -> list[str]:
        """Return the places in which a regular expression is found, with what is around it."""
        expression = re.compile(pattern)
        found = []
        for place, text in self.texts:
            for match in list(expression.finditer(text))[:2]:
                found.append(f"{place}: …{text[max(0, match.start() - 120) : match.end() + 40]}…")
        return found


def connections(emulator: Emulator) -> dict[str, str]:
    key = {
        "type": "service_account",
        "project_id": "test-project",
        "private_key_id": KEY_ID,
        "private_key": PRIVATE_KEY,
        "client_email": ACCOUNT,
        "token_uri": f"{emulator.url}/_emulator/token",
    }
    return {
        "AIRFLOW_CONN_SENTINEL_TOKEN": connection(emulator.url, project="test-project", token=TOKEN),
        "AIRFLOW_CONN_SENTINEL_KEY": connection(
            emulator.url, project="test-project", keyfile_dict=json.dumps(key)
        ),
    }


def database_texts(database: Path, fernet: Fernet, label: str) -> Iterator[tuple[str, str]]:
    """Yield every cell of every table, decrypted and unpacked where it is encrypted or packed."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert {"xcom", "trigger", "task_instance", "rendered_task_instance_fields"} <= set(tables)
        for table in tables:
            cursor = connection.execute(f'SELECT * FROM "{table}"')
            columns = [column[0] for column in cursor.description]
            for row in cursor:
                for column, value in zip(columns, row, strict=True):
                    yield f"{label}, {table}.{column}", _readable(value, fernet)


def _readable(value: Any, fernet: Fernet) -> str:
    if isinstance(value, bytes):
        with suppress(zlib.error):
            value = zlib.decompress(value)
        value = value.decode("utf-8", "replace")
    text = str(value)
    return fernet.decrypt(text.encode()).decode() if text.startswith("gAAAA") else text


def snapshot(airflow: AirflowStack, target: Path) -> Path:
    """Copy the database as it is now."""
    with (
        closing(sqlite3.connect(airflow.home / "airflow.db")) as source,
        closing(sqlite3.connect(target)) as copy,
    ):
        source.backup(copy)
    return target


def job_of(emulator: Emulator, task_id: str) -> str | None:
    """Return the id of a task's job."""
    jobs = (job for job in emulator.jobs() if job["labels"]["airflow-task-id"] == task_id)
    return next((job["name"].rpartition("/")[2] for job in jobs), None)


def run_everything(airflow: AirflowStack, emulator: Emulator, copy: Path) -> None:
    """Let tasks succeed, fail and be killed."""
    client = airflow.client
    emulator.fault(method="POST", path_regex="/locations/europe-west4/tuningJobs$", status=403, times=-1)
    emulator.fault(path_regex="/locations/europe-west1/tuningJobs", truncate_body="json", times=4)
    for dag_id in ("secrets", "no_token"):
        airflow.wait_for_dag(dag_id)
    run_id = client.trigger("secrets")
    for conn_id in CONNECTIONS:
        for name, state in (("killed_deferred", "deferred"), ("killed_running", "running")):
            task_id = f"{name}_{conn_id}"
            job = wait_until(lambda task=task_id: job_of(emulator, task), what=f"the job of {task_id}")
            emulator.set_state(job, "JOB_STATE_RUNNING")
            client.wait_for_task("secrets", run_id, task_id, state)
    wait_until(
        lambda: re.search(
            "Running.* · projects/", client.task_log("secrets", run_id, "killed_deferred_sentinel_key")
        ),
        what="the triggerer to watch the job",
    )
    snapshot(airflow, copy)
    for conn_id in CONNECTIONS:
        for name in ("killed_deferred", "killed_running"):
            client.set_task_state("secrets", run_id, f"{name}_{conn_id}", "failed")
    assert client.wait_for_run("secrets", run_id) == "failed"
    instances = client.task_instances("secrets", run_id)
    assert {task_id: one["state"] for task_id, one in instances.items()} == {
        f"{name}_{conn_id}": state for name, state in EXPECTED.items() for conn_id in CONNECTIONS
    }

    def cancelled() -> bool:
        states = [job["state"] for job in emulator.jobs() if "killed" in job["labels"]["airflow-task-id"]]
        return states == ["JOB_STATE_CANCELLED"] * 4

    wait_until(cancelled, what="the killed tasks' jobs to be cancelled")

    refusal = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
    emulator.fault(path_regex="/_emulator/token$", status=400, body=refusal, times=-1)
    run_id = client.trigger("no_token")
    assert client.wait_for_run("no_token", run_id) == "failed"
    assert "no access token could be had" in client.task_log("no_token", run_id, "create")


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Traces:
    """Run everything on an Airflow of its own, stop it, and collect what it has written."""
    home = tmp_path_factory.mktemp("secrets")
    (home / "dags").mkdir()
    (home / "dags" / "secret_dags.py").write_text(DAGS)
    copy = home / "while-deferred.db"
    with Emulator(speed=240, datasets="skip", token=TOKEN) as emulator:
        airflow = AirflowStack(
            home,
            [home / "dags"],
            env={
                **connections(emulator),
                "AIRFLOW__CORE__PARALLELISM": "8",
                "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
                "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
            },
        )
        try:
            with airflow:
                run_everything(airflow, emulator, copy)
        except StepError as error:
            pytest.fail(f"{error}\n{tail(error.log) if error.log else ''}", pytrace=False)
        job_ids = [job["name"].rpartition("/")[2] for job in emulator.jobs()]
        used = {request["path"] for request in emulator.requests()}
        assert any(path.endswith(":cancel") for path in used)
    fernet = Fernet(airflow._env["AIRFLOW__CORE__FERNET_KEY"].encode())
    files = [path for path in home.rglob("*") if path.is_file()]
    texts = [(str(path.relative_to(home)), path.read_bytes().decode("utf-8", "replace")) for path in files]
    texts += database_texts(home / "airflow.db", fernet, "database at the end")
    texts += database_texts(copy, fernet, "database while deferred")
    return Traces(texts, job_ids)


def test_the_search_finds_what_is_there(traces: Traces) -> None:
    somewhere = "|".join(traces.job_ids)
    places = "\n".join(traces.where(somewhere))
    for place in ("logs/tasks/", "airflow.db", "xcom.value", "database while deferred, trigger.kwargs"):
        assert place in places, place
    assert traces.where("Could not create"), "the failures have been told"
    assert traces.where("The task was killed"), "the kills have been told"
    assert any(
        "rendered_task_instance_fields" in place and "sentinel_key" in text for place, text in traces.texts
    )


def test_no_fixed_token_is_left_anywhere(traces: Traces) -> None:
    assert traces.where(TOKEN) == []
    assert traces.where(base64.b64encode(TOKEN.encode()).decode().rstrip("=")[:-2]) == []


def test_no_key_is_left_anywhere(traces: Traces) -> None:
    lines = [line for line in PRIVATE_KEY.splitlines() if not line.startswith("---")]
    assert len(lines) > 10
    for secret in (KEY_ID, "BEGIN PRIVATE KEY", *lines):
        assert traces.where(re.escape(secret)) == []


def test_no_issued_access_token_is_left_anywhere(traces: Traces) -> None:
    assert traces.where(re.escape(ISSUED)) == []


def test_no_assertion_signed_with_the_key_is_left_anywhere(traces: Traces) -> None:
    jwt = re.compile(r"eyJ[\w-]+\.(eyJ[\w-]+)\.[\w-]{40,}")
    for place, text in traces.texts:
        for payload in jwt.findall(text):
            claims = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode("utf-8", "replace")
            assert ACCOUNT not in claims, place


def test_the_database_does_not_know_the_connections(traces: Traces) -> None:
    assert [place for place, _ in traces.texts if ", connection." in place] == []
