"""A job is an orphan only where its task instance is known, has ended, and nobody wanted the job kept."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_tuning_provider import _supervisor
from airflow_tuning_provider.api import orphans
from airflow_tuning_provider.api.identity import TaskIdentity
from airflow_tuning_provider.api.orphans import Finding

NOW = 1_800_000_000.0
OLD = "2026-01-01T00:00:00Z"
STATES = {"retrain": {"run": {"tune": "failed", "map_3": "failed", "busy": "running"}}}


def job(task_id: str = "tune", *, map_index: int = -1, keep: bool = False, **more: Any) -> dict[str, Any]:
    identity = TaskIdentity("retrain", "run", task_id, map_index, more.pop("deployment", ""))
    labels = identity.labels({"baseModel": "m"}, max_tries=0, keep=keep)
    return {
        "name": f"projects/p/locations/l/tuningJobs/{task_id}",
        "state": "JOB_STATE_RUNNING",
        "createTime": OLD,
        "labels": labels,
        **more,
    }


def judge(*jobs: dict[str, Any], deployment: str = "", min_age: float = 0.0) -> list[Finding]:
    ended = _supervisor.ENDED_TASK_STATES
    return orphans.judge(jobs, STATES, ended=ended, deployment=deployment, now=NOW, min_age=min_age)


@pytest.mark.parametrize(
    ("found", "orphan", "reason"),
    [
        (job(), True, "nothing waits for the job"),
        (job("map", map_index=3), True, "nothing waits for the job"),
        (job("busy"), False, "waits for it"),
        (job("unheard-of"), False, "was deleted"),
        (job(keep=True), False, "outlive its task"),
        (job(createTime="2027-01-15T07:59:00Z"), False, "younger"),
        (job(createTime=None), False, "younger"),
    ],
    ids=["ended", "mapped", "busy", "unknown", "kept", "young", "no-age"],
)
def test_verdict(found: dict[str, Any], orphan: bool, reason: str) -> None:
    (finding,) = judge(found, min_age=3600)
    assert (finding.orphan, finding.name) == (orphan, found["name"])
    assert reason in finding.reason


@pytest.mark.parametrize("state", ["JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLING"])
def test_job_that_costs_nothing_more_is_no_finding(state: str) -> None:
    assert judge(job(state=state)) == []


def test_jobs_of_others_are_no_findings() -> None:
    assert judge({"name": "n", "state": "JOB_STATE_RUNNING"}) == []
    assert judge(job(deployment="staging")) == []
    assert judge(job(), deployment="production") == []
    assert [finding.orphan for finding in judge(job(deployment="staging"), deployment="staging")] == [True]
