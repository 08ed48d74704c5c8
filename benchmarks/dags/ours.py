"""A job waited for by our operator."""

from __future__ import annotations

from airflow.sdk import DAG, task

from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator

with DAG("ours", schedule=None):

    @task
    def after() -> None:
        """Stand for whatever comes after the job."""

    tune = CreateTuningJobOperator(
        task_id="tune", base_model="gemini-3.5-flash", training_dataset_uri="gs://bucket/train.jsonl"
    )
    tune >> after()
