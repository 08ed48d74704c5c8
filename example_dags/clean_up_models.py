"""Ops: delete the tuned models that have lost, with their endpoints.

A retraining pipeline makes a new model each time, and each checkpoint of it has an endpoint. What is no longer needed
goes: never the champion, never the model that a roll-back returns to, nothing that a person has given an alias, and
nothing that a tuning job goes on from.

The first run only lists what it would delete. Look at the log of ``clean_up``, then run it again with ``dry_run`` off.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Asset, Param

from airflow_tuning_provider.operators.cleanup import CleanUpTunedModelsOperator

MODEL = Asset(name="support-router", uri="x-vertex-tuned-model://support-router")

with DAG(
    dag_id="clean_up_models",
    description="List the tuned models that have lost, and delete them.",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    params={
        "display_name": Param("support-router", type="string", description="Display name of the models."),
        "dry_run": Param(True, type="boolean", description="Only list what would be deleted."),
        "keep_latest": Param(2, type="integer", minimum=0, description="Keep so many of the newest losers."),
        "min_age_days": Param(7, type="number", minimum=0, description="Leave younger models alone."),
        "checkpoints": Param(False, type="boolean", description="Also spare checkpoints of what is kept."),
    },
    tags=["tuning", "example", "ops"],
):
    CleanUpTunedModelsOperator(
        task_id="clean_up",
        tuned_model_display_name="{{ params.display_name }}",
        inlets=[MODEL],
        keep_latest="{{ params.keep_latest }}",
        min_age="{{ params.min_age_days * 86400 }}",
        checkpoints="{{ params.checkpoints }}",
        dry_run="{{ params.dry_run }}",
        retries=2,
    )
