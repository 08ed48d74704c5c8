"""One tuning task for each entry of the run's configuration."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

from tests.proofs.chaos.instruments import ChaosOperator

with DAG("chaos", schedule=None, max_active_tasks=1000, max_active_runs=100):

    @task(retries=3, retry_delay=timedelta(seconds=1))
    def cells(dag_run: Any = None) -> list[dict[str, Any]]:
        """Return the arguments of the tasks."""
        return dag_run.conf["cells"]

    ChaosOperator.partial(
        task_id="tune",
        base_model="gemini-3.5-flash",
        training_dataset_uri="gs://chaos/train.jsonl",
        location="us-central1",
        poll_interval=0.5,
        timeout=600,
        request_timeout=600,  # a task that is stopped does not read its answer
        retries=5,
        retry_delay=timedelta(seconds=1),
    ).expand_kwargs(cells())
