"""Ops: cancel the tuning jobs that are still running.

For the day when somebody started forty jobs by mistake, or a DAG was deleted while its jobs ran on. Every job
that the operator creates is labelled with its DAG, so the jobs of one DAG can be told from the rest.

The first run only lists what it would cancel. Look at the log of ``find_jobs``, then run it again with
``dry_run`` off.
"""

from __future__ import annotations

import logging
from typing import Any

import pendulum
from airflow.sdk import DAG, Param, task

from airflow_tuning_provider.operators.tuning_job import CancelTuningJobOperator

log = logging.getLogger(__name__)

ACTIVE_STATES = ("JOB_STATE_QUEUED", "JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_PAUSED")

with DAG(
    dag_id="cancel_running_jobs",
    description="List the tuning jobs that are still running, and cancel them.",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    max_active_runs=1,
    params={
        "dry_run": Param(True, type="boolean", description="Only list what would be cancelled."),
        "dag_id": Param("", type="string", description="Only the jobs of this DAG; empty for every job."),
        "older_than_hours": Param(0, type="number", minimum=0, description="Leave younger jobs alone."),
    },
    tags=["tuning", "example", "ops"],
):

    @task
    def find_jobs(params: dict[str, Any]) -> list[str]:
        """Return the names of the jobs to cancel."""
        from airflow_tuning_provider.api.identity import DAG_LABEL, label_value
        from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

        before = pendulum.now("UTC").subtract(seconds=int(params["older_than_hours"] * 3600))
        found: list[str] = []
        with TuningJobHook() as hook:
            for job in hook.list_tuning_jobs(page_size=1000):
                labels = job.get("labels", {})
                created = pendulum.parse(job["createTime"])
                if (
                    job["state"] in ACTIVE_STATES
                    and created <= before
                    and (not params["dag_id"] or labels.get(DAG_LABEL) == label_value(params["dag_id"]))
                ):
                    log.info("%s %s, created %s, labels %s", job["name"], job["state"], created, labels)
                    found.append(job["name"])
        log.info("%d active jobs%s", len(found), " (dry run)" if params["dry_run"] else " will be cancelled")
        return [] if params["dry_run"] else found

    # One task per job, so that each has its own log, its own link and its own retry. An empty list, as in a
    # dry run, skips the task.
    CancelTuningJobOperator.partial(
        task_id="cancel",
        retries=2,
        max_active_tis_per_dagrun=8,
        # A cancelled job takes a while to end. Nobody has to wait for that here.
        wait_for_completion=False,
    ).expand(tuning_job_name=find_jobs())
