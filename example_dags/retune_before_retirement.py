"""Re-tune what serves before Google retires its base model.

A tuned model ends with the base model that it rests on, and a month earlier new access for tuning is blocked. Once a
month ``watch`` looks which champions are 60 days or less from that, warns, and says what to rebase them on. For each
of them ``rebase`` tunes the same data on the newer base model. The hyperparameters of the old model are left behind,
as Google advises: the service recommends new ones.

Nothing is promoted here. Evaluate the new model like any other, then promote it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param
from airflow.timetables.trigger import CronTriggerTimetable

from airflow_tuning_provider.operators.retirement import RetirementWatchOperator
from airflow_tuning_provider.operators.tuning_job import RebaseTunedModelOperator


def settings(found: dict[str, Any]) -> dict[str, Any]:
    """Return what to rebase, and on what; the new model stays in the line of the old one."""
    return {
        "tuning_job_name": found["tuning_job_name"],
        "tuning_job": {
            "base_model": found["rebase_to"],
            "tuned_model_display_name": found["display_name"],
        },
    }


with DAG(
    dag_id="retune_before_retirement",
    description="Re-tune the champions whose base model is about to be retired.",
    doc_md=__doc__,
    # The first of each month. Without start_date, and with run_immediately=0, the first run is the coming one.
    schedule=CronTriggerTimetable("0 6 1 * *", timezone="UTC", run_immediately=timedelta(0)),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(days=2),
    params={
        "warn_days": Param(60, type="integer", minimum=0, description="Days ahead."),
        "poll_interval": Param(60, type="number", description="Seconds between two looks at a job."),
    },
    tags=["tuning", "example", "ops"],
):
    watch = RetirementWatchOperator(
        task_id="watch",
        warn_days="{{ params.warn_days }}",
        # Only what serves: who re-tunes everything pays for everything.
        aliases=["champion"],
        # Dates that are newer than the provider's table: {"gemini-3.5-flash": "2027-11-19"}
        table=None,
        retries=2,
    )

    # One task per model, one at a time: the quota for tuning jobs is small. Where nothing is about to be retired,
    # the task is skipped.
    RebaseTunedModelOperator.partial(
        task_id="rebase",
        poll_interval="{{ params.poll_interval }}",
        timeout=timedelta(hours=24).total_seconds(),
        max_active_tis_per_dagrun=1,
    ).expand_kwargs(watch.output.map(settings))
