"""The example DAGs, and the operator for orphans, on a bad day."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from airflow_tuning_provider import exceptions as errors
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.operators.orphans import CancelOrphanedTuningJobsOperator
from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
from tests.integration.tasks.conftest import (
    LONG,
    TaskInstance,
    as_task,
    cancels,
    eventually,
    is_permanent,
    live,
)

EXAMPLES = Path(__file__).parents[3] / "example_dags"


def lose(ti: TaskInstance, **kwargs: Any) -> None:
    ti.lose(CreateTuningJobOperator(task_id=ti.task_id, poll_interval=0.2, **LONG, **kwargs))


def example(name: str) -> Any:
    """Load an example DAG's file anew, as the tests change its tasks."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("dag_id", ["Retrain.Weekly", "retrain", "A" * 100], ids=["dots", "plain", "long"])
def test_running_jobs_of_a_dag_are_found_whatever_its_name(server: Emulator, dag_id: str) -> None:
    lose(TaskInstance(dag_id=dag_id))
    lose(TaskInstance(dag_id="Retrain_Daily"))
    params = {"dry_run": False, "dag_id": dag_id, "older_than_hours": 0}
    assert example("cancel_running_jobs").find_jobs.function(params=params) == live(server)[:1]


def test_weekly_retraining_that_is_marked_failed_leaves_no_job(server: Emulator) -> None:
    dag = example("retrain_weekly")
    for field, value in {
        **LONG,
        "validation_dataset_uri": None,
        "dataset_manifest": None,
        "max_cost": None,
        "poll_interval": 0.2,
    }.items():
        setattr(dag.tune, field, value)
    ti = TaskInstance(dag_id="retrain_weekly")
    ti.kill(dag.tune)
    assert eventually(lambda: live(server) == [])


def test_job_of_another_airflow_with_the_same_dag_is_no_orphan(
    server: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a deployment's name nobody can tell whose job it is."""
    monkeypatch.delenv("AIRFLOW__VERTEX_AI_TUNING__DEPLOYMENT", raising=False)
    lose(TaskInstance())  # the other Airflow's task waits for it
    ended_here = TaskInstance(task_id="tune", state="failed")
    orphans = CancelOrphanedTuningJobsOperator(
        task_id="orphans", dag_ids=["retrain"], min_age=0, dry_run=False
    )
    with pytest.raises(errors.TuningInvalidInputError, match="deployment") as caught:
        as_task(orphans, lambda: orphans.execute(ended_here.context))
    assert is_permanent(caught.value)
    assert cancels(server) == []


def test_report_without_a_name_is_allowed(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__VERTEX_AI_TUNING__DEPLOYMENT", raising=False)
    lose(TaskInstance())
    ended = TaskInstance(task_id="tune", state="failed")
    orphans = CancelOrphanedTuningJobsOperator(task_id="orphans", dag_ids=["retrain"], min_age=0)
    assert as_task(orphans, lambda: orphans.execute(ended.context))["orphans"] == live(server)
