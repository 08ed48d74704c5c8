"""DAGs of two teams, each with one task that tunes a model. Two of the ids become one label value."""

from __future__ import annotations

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator

for dag_id in ("ours_weekly", "theirs_weekly", "shared_weekly", "Shared.Weekly"):
    with DAG(dag_id, schedule=None, catchup=False) as dag:
        EmptyOperator(task_id="before") >> CreateTuningJobOperator(
            task_id="tune",
            base_model="gemini-3.5-flash",
            training_dataset_uri="gs://my-tuning-data/support-router/train.jsonl",
            epoch_count=3,
            tuned_model_display_name=f"model of {dag_id}",
        )
    globals()[dag_id] = dag
