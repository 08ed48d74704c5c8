"""Sensors that start in the triggerer, where the name of the job is another task's output: as it is and mapped."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task

from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
from airflow_tuning_provider.sensors.tuning_job import TuningJobSensor

CREATE: dict[str, Any] = {
    "base_model": "gemini-3.5-flash",
    "training_dataset_uri": "gs://my-tuning-data/support-router/train.jsonl",
    "wait_for_completion": False,
}
WAIT: dict[str, Any] = {"start_from_trigger": True, "poll_interval": 1, "timeout": 120}

with DAG("start_in_triggerer", schedule=None):
    create = CreateTuningJobOperator(task_id="create", epoch_count=1, **CREATE)
    wait = TuningJobSensor(task_id="wait", tuning_job_name=create.output["tuning_job_name"], **WAIT)

    @task
    def use(manifest: dict[str, Any]) -> str:
        """Use the result as it is after every other way to wait."""
        return manifest["endpoint"]

    use(wait.output)

    each = CreateTuningJobOperator.partial(task_id="create_each", **CREATE).expand(epoch_count=[1, 2])

    @task
    def names(manifests: Any) -> list[str]:
        """Return the names of the jobs."""
        return [manifest["tuning_job_name"] for manifest in manifests]

    TuningJobSensor.partial(task_id="wait_each", **WAIT).expand(tuning_job_name=names(each.output))
