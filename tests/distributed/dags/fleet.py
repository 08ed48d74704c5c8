"""Many tuning tasks at once: ``fleet`` and ``deadline`` create jobs, ``watch`` waits for jobs that are there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
from airflow_tuning_provider.sensors.tuning_job import TuningJobSensor

SETTINGS = {"retries": 3, "retry_delay": timedelta(seconds=1)}
WATCHERS = 1000  # below [core] max_map_length


@task
def uris(dag_run=None) -> list[str]:
    """Return one data set for each task."""
    return [f"gs://bucket/{number}.jsonl" for number in range(dag_run.conf["count"])]


def tune(**settings: Any) -> None:
    """Add a task for each data set."""
    operator = CreateTuningJobOperator.partial(
        task_id="tune", base_model="gemini-2.5-flash", poll_interval=1, **settings
    )
    operator.expand(training_dataset_uri=uris())


with DAG("fleet", schedule=None, catchup=False, default_args=SETTINGS):
    tune()

# A retry of a task whose job has missed its deadline would create another job, by design.
with DAG("deadline", schedule=None, catchup=False):
    tune(timeout="{{ dag_run.conf['timeout'] }}", retries=0)

with DAG("watch", schedule=None, catchup=False, max_active_tasks=WATCHERS, default_args=SETTINGS):
    TuningJobSensor.partial(task_id="wait", poll_interval=5, start_from_trigger=True).expand(
        tuning_job_name=[f"{{{{ dag_run.conf['jobs'][{number}] }}}}" for number in range(WATCHERS)]
    )
