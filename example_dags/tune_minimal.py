"""Tune a Gemini model: the smallest DAG that is worth running.

One task creates the tuning job and waits for it. While it waits it is deferred: it costs a row in the
triggerer, not a worker. A retry finds the job that an earlier try created, so it never pays twice.

Before the first run, upload a data set (``retrain_weekly`` shows how to make one) and change the two defaults
below that name your bucket and the model. The project, the location and the credentials come from the
connection ``google_cloud_default``.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator

with DAG(
    dag_id="tune_minimal",
    description="Create a tuning job and wait for it.",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    params={
        "training_dataset_uri": Param("gs://my-tuning-data/support-router/train.jsonl", type="string"),
        "base_model": Param("gemini-3.5-flash", type="string"),
        "poll_interval": Param(60, type="number", description="Seconds between two looks at the job."),
    },
    tags=["tuning", "example"],
):
    CreateTuningJobOperator(
        task_id="tune",
        base_model="{{ params.base_model }}",
        training_dataset_uri="{{ params.training_dataset_uri }}",
        epoch_count=3,
        tuned_model_display_name="support-router",
        poll_interval="{{ params.poll_interval }}",
        # A wait without end is a bill without end: give up, and cancel the job, after this long.
        timeout=timedelta(hours=12).total_seconds(),
    )
