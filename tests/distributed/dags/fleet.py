"""Many tuning tasks at once: ``watch`` waits for jobs that are there, the other DAGs create them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
from airflow_tuning_provider.sensors.tuning_job import TuningJobSensor

SETTINGS = {"retries": 3, "retry_delay": timedelta(seconds=1)}
WATCHERS = 1000


@task
def uris(dag_run=None) -> list[str]:
    """Return one data set for each task."""
    return [f"gs://bucket/{number}.jsonl" for number in range(dag_run.conf["count"])]


def tune(poll_interval: int = 1, **settings: Any) -> None:
    """Add a task for each data set."""
    operator = CreateTuningJobOperator.partial(
        task_id="tune", base_model="gemini-2.5-flash", poll_interval=poll_interval, **settings
    )
    operator.expand(training_dataset_uri=uris())


with DAG("fleet", schedule=None, catchup=False, default_args=SETTINGS):
    tune()

# A retry of a task whose job has missed its deadline would create another job, by design.
with DAG("deadline", schedule=None, catchup=False):
    tune(timeout="{{ dag_run.conf['timeout'] }}", retries=0)

with DAG("load", schedule=None, catchup=False, default_args=SETTINGS):
    tune(poll_interval=5)

# Not mapped: Airflow starts mapped tasks on a worker even with start_from_trigger.
with DAG("watch", schedule=None, catchup=False, max_active_tasks=WATCHERS, default_args=SETTINGS):
    for number in range(WATCHERS):
        TuningJobSensor(
            task_id=f"wait_{number}",
            tuning_job_name=f"{{{{ dag_run.conf['jobs'][{number}] }}}}",
            poll_interval=5,
            start_from_trigger=True,
        )
