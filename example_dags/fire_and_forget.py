"""Create a tuning job in one DAG, wait for it in another.

``fire_and_forget`` is done as soon as the API has accepted the job, so its run does not stay open for hours.
It announces the job as an asset event. ``fire_and_forget_wait`` is scheduled by that asset: it starts by
itself, watches the job without holding a worker, and passes on the endpoint.

The same works across teams: whoever waits needs the asset, not the DAG that created the job.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Asset, Param, task

from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
from airflow_tuning_provider.sensors.tuning_job import TuningJobSensor

TUNING_JOB = Asset(name="support-router-tuning-job", uri="x-vertex-tuning-job://support-router")
DEFAULT_ARGS = {"retries": 2, "retry_delay": timedelta(minutes=1)}

with DAG(
    dag_id="fire_and_forget",
    description="Create a tuning job and do not wait for it.",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    default_args=DEFAULT_ARGS,
    params={
        "training_dataset_uri": Param("gs://my-tuning-data/support-router/train.jsonl", type="string"),
        "base_model": Param("gemini-3.5-flash", type="string"),
        "poll_interval": Param(60, type="number", description="Seconds between two looks at the job."),
    },
    tags=["tuning", "example"],
):
    create = CreateTuningJobOperator(
        task_id="create",
        base_model="{{ params.base_model }}",
        training_dataset_uri="{{ params.training_dataset_uri }}",
        epoch_count=3,
        tuned_model_display_name="support-router",
        wait_for_completion=False,
    )

    @task(outlets=[TUNING_JOB])
    def announce(job: dict[str, Any], params: dict[str, Any], outlet_events: Any) -> None:
        """Tell the world which job to wait for."""
        outlet_events[TUNING_JOB].extra = {
            "tuning_job_name": job["tuning_job_name"],
            "poll_interval": params["poll_interval"],
        }

    announce(create.output)


with DAG(
    dag_id="fire_and_forget_wait",
    description="Wait for the tuning job that fire_and_forget announced.",
    doc_md=__doc__,
    schedule=[TUNING_JOB],
    catchup=False,
    default_args=DEFAULT_ARGS,
    tags=["tuning", "example"],
):

    @task
    def announced_job(triggering_asset_events: Any) -> dict[str, Any]:
        """Return the latest announcement."""
        return triggering_asset_events[TUNING_JOB][-1].extra

    announced = announced_job()

    wait = TuningJobSensor(
        task_id="wait",
        tuning_job_name=announced["tuning_job_name"],
        poll_interval=announced["poll_interval"],
        timeout=timedelta(hours=12).total_seconds(),
    )

    @task
    def use(job: dict[str, Any]) -> str:
        """Whatever comes next: an evaluation, an approval, a roll-out."""
        return job["endpoint"]

    use(wait.output)
