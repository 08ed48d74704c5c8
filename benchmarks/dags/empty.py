"""A deferrable operator that does nothing: what is left is Airflow's own part of a worker's time."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, BaseOperator

from benchmarks.one_loop_per_job import EmptyTrigger


class EmptyOperator(BaseOperator):
    """Defers for some seconds, then ends."""

    def execute(self, context: Any) -> None:
        """Defer."""
        self.defer(trigger=EmptyTrigger(seconds=20), method_name="execute_complete")

    def execute_complete(self, context: Any, event: Any) -> None:
        """End."""


with DAG("empty", schedule=None):
    EmptyOperator(task_id="tune")
