"""The same job waited for by Google's own operator, where it is installed."""

from __future__ import annotations

from airflow.sdk import DAG, task

try:
    from airflow.providers.google.cloud.operators.gen_ai import GenAISupervisedFineTuningTrainOperator
except ImportError:
    pass
else:
    with DAG("google", schedule=None):

        @task
        def after() -> None:
            """Stand for whatever comes after the job."""

        tune = GenAISupervisedFineTuningTrainOperator(
            task_id="tune",
            project_id="bench-project",
            location="us-central1",
            source_model="gemini-3.5-flash",
            training_dataset={"gcs_uri": "gs://bucket/train.jsonl"},
        )
        tune >> after()
