"""Many tuning tasks at once: ``fleet`` creates jobs, ``watch`` waits for jobs that are there already."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, task

from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
from airflow_tuning_provider.sensors.tuning_job import TuningJobSensor

SETTINGS = {"retries": 3, "retry_delay": timedelta(seconds=1)}
WATCHERS = 1000  # below [core] max_map_length

with DAG("fleet", schedule=None, catchup=False, default_args=SETTINGS):

    @task
    def uris(dag_run=None) -> list[str]:
        """Return one data set for each task."""
        return [f"gs://bucket/{number}.jsonl" for number in range(dag_run.conf["count"])]

    CreateTuningJobOperator.partial(
        task_id="tune",
        base_model="gemini-2.5-flash",
        poll_interval=1,
        timeout="{{ dag_run.conf.get('timeout', 86400) }}",
    ).expand(training_dataset_uri=uris())

with DAG("watch", schedule=None, catchup=False, max_active_tasks=WATCHERS, default_args=SETTINGS):
    TuningJobSensor.partial(task_id="wait", poll_interval=5, start_from_trigger=True).expand(
        tuning_job_name=[f"{{{{ dag_run.conf['jobs'][{number}] }}}}" for number in range(WATCHERS)]
    )
