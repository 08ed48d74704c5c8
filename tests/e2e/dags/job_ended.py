"""Starts whenever a tuning job of the project ends, whoever created it."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_tuning_provider.triggers.ended_jobs import TuningJobEndedTrigger

ENDED = Asset(
    "tuning-jobs-that-are-watched",
    watchers=[
        AssetWatcher(
            name="ended", trigger=TuningJobEndedTrigger(poll_interval=1, labels={"watched": "by-job-ended"})
        )
    ],
)

with DAG("job_ended", schedule=[ENDED], catchup=False):

    @task
    def tell(triggering_asset_events: Any = None) -> list[str]:
        return [event.extra["payload"]["tuning_job_name"] for event in triggering_asset_events[ENDED]]

    tell()
