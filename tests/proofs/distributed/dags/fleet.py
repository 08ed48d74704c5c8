"""Many tuning tasks at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator

SETTINGS = {"retries": 3, "retry_delay": timedelta(seconds=1)}


@task
def uris(dag_run=None) -> list[str]:
    """Return one data set for each task."""
    return [f"gs://bucket/{number}.jsonl" for number in range(dag_run.conf["count"])]


def tune(poll_interval: int = 1, **settings: Any) -> None:
    """Add a task for each data set."""
    operator = CreateTuningJobOperator.partial(
        task_id="tune", base_model="gemini-3.5-flash", poll_interval=poll_interval, **settings
    )
    operator.expand(training_dataset_uri=uris())


with DAG("fleet", schedule=None, catchup=False, default_args=SETTINGS):
    tune()

with DAG("deadline", schedule=None, catchup=False, default_args=SETTINGS):
    tune(timeout="{{ dag_run.conf['timeout'] }}")

with DAG("load", schedule=None, catchup=False, default_args=SETTINGS):
    tune(poll_interval=5)
