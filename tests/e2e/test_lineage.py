"""What OpenLineage is told of a task: the events that Airflow's OpenLineage provider really emits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any
from uuid import UUID

import pytest

from airflow_tuning_provider.emulator.testing import Emulator

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

DAG = """
from airflow.sdk import DAG
from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator

with DAG("lineage", schedule=None):
    CreateTuningJobOperator(
        task_id="tune",
        base_model="gemini-3.5-flash",
        training_dataset_uri="gs://bucket/a/train.jsonl",
        validation_dataset_uri="gs://bucket/a/validation.jsonl",
        epoch_count=3,
        poll_interval=0.2,
    )
"""


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Run the DAG, and return the events about its task."""
    home = tmp_path_factory.mktemp("lineage")
    (home / "dags").mkdir()
    (home / "dags" / "lineage.py").write_text(DAG)
    told = home / "events.jsonl"
    with Emulator(speed=4000, datasets="skip") as server:
        extra = {"project": "test-project", "location": "us-central1", "api_endpoint": server.url}
        account = {"conn_type": "vertex_ai_tuning", "password": "a-token", "extra": extra}
        env = {
            **os.environ,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
            "AIRFLOW__OPENLINEAGE__NAMESPACE": "tests",
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
                {"type": "file", "log_file_path": str(told), "append": True}
            ),
            "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": json.dumps(account),
        }
        for command in (["db", "migrate"], ["dags", "test", "lineage"]):
            subprocess.run(
                [sys.executable, "-m", "airflow", *command], env=env, check=True, capture_output=True
            )
    all_events = map(json.loads, told.read_text().splitlines())
    return [event for event in all_events if event["job"]["name"] == "lineage.tune"]


def facets(event: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all facets of an event."""
    holders = [event["run"], event["job"], *event["inputs"], *event["outputs"]]
    kinds = ("facets", "inputFacets", "outputFacets")
    return [facet for holder in holders for kind in kinds for facet in holder.get(kind, {}).values()]


def test_each_event_has_what_the_specification_requires(events: list[dict[str, Any]]) -> None:
    """https://openlineage.io/spec/2-0-2/OpenLineage.json"""
    assert [event["eventType"] for event in events] == ["START", "START", "COMPLETE"], "deferred in between"
    for event in events:
        UUID(event["run"]["runId"])
        assert event["schemaURL"].endswith("#/$defs/RunEvent")
        for thing in (event["job"], *event["inputs"], *event["outputs"]):
            assert thing["name"]
            assert thing["namespace"]
        for facet in facets(event):
            assert facet["_producer"].startswith("https://")
            assert facet["_schemaURL"].startswith("https://openlineage.io/spec/")


def test_data_sets_go_in_and_a_model_comes_out(events: list[dict[str, Any]]) -> None:
    start, end = events[0], events[-1]
    for event in (start, end):
        assert [(one["namespace"], one["name"]) for one in event["inputs"]] == [
            ("gs://bucket", "a/train.jsonl"),
            ("gs://bucket", "a/validation.jsonl"),
        ]
    assert start["outputs"] == []
    assert end["inputs"][0]["inputFacets"]["inputStatistics"]["rowCount"] > 0
    [model] = end["outputs"]
    assert model["namespace"] == "vertexai"
    assert model["name"].rpartition("/")[0].endswith("/models")
    assert model["facets"]["version"]["datasetVersion"] == "1"


def test_the_run_names_its_tuning_job(events: list[dict[str, Any]]) -> None:
    facet = events[-1]["run"]["facets"]["vertexAiTuning_tuningJob"]
    assert facet["state"] == "JOB_STATE_SUCCEEDED"
    assert facet["baseModel"] == "gemini-3.5-flash"
    assert facet["hyperParameters"]["epoch_count"] == 3
    assert facet["billableTokenCount"] > 0
    assert facet["tuningJob"].rpartition("/")[2] in facet["url"]
