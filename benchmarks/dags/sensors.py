"""The same job waited for by our sensor, which resumes on a worker, or starts and ends in the triggerer."""

from __future__ import annotations

from airflow.sdk import DAG, task

from airflow_tuning_provider.sensors.tuning_job import TuningJobSensor

for dag_id, start_from_trigger in (("sensor", False), ("triggered-sensor", True)):
    with DAG(dag_id, schedule=None, params={"job": "none"}):

        @task
        def after() -> None:
            """Stand for whatever comes after the job."""

        tune = TuningJobSensor(
            task_id="tune",
            tuning_job_name="{{ params.job }}",
            project_id="bench-project",
            location="us-central1",
            start_from_trigger=start_from_trigger,
        )
        tune >> after()
