"""The example DAGs parse anywhere, quickly, and say what they do; their data is fit for tuning."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.integration.tasks.conftest import TaskInstance, as_task

EXAMPLES = Path(__file__).parents[2] / "example_dags"
DAG_IDS = {
    "tune_minimal",
    "retrain_weekly",
    "fire_and_forget",
    "fire_and_forget_wait",
    "cancel_running_jobs",
    "sweep_sentiment",
    "serve_sentiment",
    "roll_back",
    "roll_out",
    "clean_up_models",
    "retune_before_retirement",
    "promote_with_approval",
}
# What talks to Google is imported when a task runs, not each time the DAG processor looks at the file.
HEAVY = ("requests", "google.auth", "google.cloud.storage")

PARSE = """
import json, os, pathlib, socket, sys

def no_network(*_, **__):
    raise OSError("a DAG file must not use the network")

socket.getaddrinfo = no_network
socket.socket.connect = no_network

try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:  # Airflow 3.1
    from airflow.models.dagbag import DagBag

def parse(folder):
    bag = DagBag(folder)
    return {
        "errors": {str(path): str(error) for path, error in bag.import_errors.items()},
        "dags": {
            dag.dag_id: {
                "tasks": sorted(dag.task_ids),
                "catchup": dag.catchup,
                "max_active_runs": dag.max_active_runs,
                "start_date": str(dag.start_date),
                "doc": dag.doc_md,
                "tags": sorted(dag.tags),
            }
            for dag in bag.dags.values()
        },
    }

plain = parse(sys.argv[1])  # what Airflow imports for any DAG
assert plain["dags"], plain
before = set(sys.modules)
result = parse(sys.argv[2])
result["heavy"] = sorted(
    name for name in set(sys.modules) - before if name.startswith(tuple(json.loads(sys.argv[3])))
)
print("RESULT" + json.dumps(result))
"""

PLAIN_DAG = """
from airflow.sdk import DAG, Asset, Param, task

with DAG("plain", schedule=None, params={"one": Param(1, type="integer")}):

    @task
    def one():
        return 1

    one()
"""


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Parse the examples in a fresh interpreter: no credentials, no connections, no network."""
    home = tmp_path_factory.mktemp("airflow")
    plain = home / "plain"
    plain.mkdir()
    (plain / "plain.py").write_text(PLAIN_DAG)
    env = {key: os.environ[key] for key in ("PATH", "LANG", "LC_ALL", "SYSTEMROOT") if key in os.environ}
    env |= {
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
    }
    done = subprocess.run(
        [sys.executable, "-c", PARSE, str(plain), str(EXAMPLES), json.dumps(HEAVY)],
        env=env,
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    marked = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert marked, done.stdout + done.stderr
    return json.loads(marked[0].removeprefix("RESULT"))


def test_every_example_parses_without_credentials_and_network(parsed: dict[str, Any]) -> None:
    assert parsed["errors"] == {}
    assert set(parsed["dags"]) == DAG_IDS


def test_parsing_an_example_imports_no_http_or_google_library(parsed: dict[str, Any]) -> None:
    assert parsed["heavy"] == []


@pytest.mark.parametrize("dag_id", sorted(DAG_IDS))
def test_no_example_costs_money_by_being_unpaused(parsed: dict[str, Any], dag_id: str) -> None:
    dag = parsed["dags"][dag_id]
    assert dag["catchup"] is False
    assert dag["start_date"] == "None"


@pytest.mark.parametrize("dag_id", sorted(DAG_IDS))
def test_every_example_is_explained_and_tagged(parsed: dict[str, Any], dag_id: str) -> None:
    assert len(parsed["dags"][dag_id]["doc"]) > 200
    assert {"example", "tuning"} <= set(parsed["dags"][dag_id]["tags"])


def test_retrain_weekly_has_the_promised_steps(parsed: dict[str, Any]) -> None:
    dag = parsed["dags"]["retrain_weekly"]
    steps = "prepare tune evaluate decide approve promote"
    assert dag["tasks"] == sorted(steps.split())
    assert dag["max_active_runs"] == 1


# -- the data of retrain_weekly -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def retrain() -> ModuleType:
    spec = importlib.util.spec_from_file_location("retrain_weekly_under_test", EXAMPLES / "retrain_weekly.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    lines = (EXAMPLES / "data" / "support_messages.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_there_are_hundreds_of_different_messages(rows: list[dict[str, str]]) -> None:
    messages = [row["message"] for row in rows]
    assert len(messages) >= 300
    assert len({" ".join(message.lower().split()) for message in messages}) == len(messages)
    openings = Counter(" ".join(message.split()[:3]) for message in messages)
    most_common = openings.most_common(1)[0][1]
    assert most_common < len(messages) * 0.03, "messages are written, not generated from a few patterns"


def test_every_queue_is_in_the_instruction(retrain: ModuleType, rows: list[dict[str, str]]) -> None:
    queues = {row["queue"] for row in rows}
    assert len(queues) == 8
    assert all(queue in retrain.prepare.system_instruction for queue in queues)


def test_every_queue_is_in_every_set(
    retrain: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrain.prepare, "destination", tmp_path.as_uri())
    monkeypatch.setattr(retrain.prepare, "base_model", "gemini-3.5-flash")
    manifest = as_task(retrain.prepare, lambda: retrain.prepare.execute(TaskInstance().context))
    assert manifest["counts"]["train"] >= 300
    assert manifest["counts"]["held_out"] >= 50
    assert manifest["counts"]["validation"] >= 30
    assert not any(manifest["missing_classes"].values())
    assert not manifest["dropped"]
