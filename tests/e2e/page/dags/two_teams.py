"""DAGs of two teams, each with one task that tunes a model."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator

for dag_id in ("ours_weekly", "theirs_weekly", "Both.Ways", "both_WAYS_theirs"):
    with DAG(dag_id, schedule=None, catchup=False) as dag:
        CreateTuningJobOperator(
            task_id="tune",
            base_model="gemini-3.5-flash",
            training_dataset_uri="gs://my-tuning-data/support-router/train.jsonl",
            epoch_count=3,
            tuned_model_display_name=f"model of {dag_id}",
        )
    globals()[dag_id] = dag
