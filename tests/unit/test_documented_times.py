"""What the documentation says of times and limits is what the code does."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from airflow_tuning_provider._tasks import submission
from airflow_tuning_provider.api import endings, waiting
from airflow_tuning_provider.hooks import _base
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
from airflow_tuning_provider.triggers import ended_jobs, tuning_job, watching

REPOSITORY = Path(__file__).parents[2]
MINUTE = 60.0


@pytest.mark.parametrize(
    ("page", "words", "seconds", "stated"),
    [
        (
            "docs/reliability.md",
            "looks for it by its key for three minutes",
            submission.LOOK_SECONDS,
            3 * MINUTE,
        ),
        (
            "docs/reliability.md",
            "until ten minutes have passed since the create",
            submission.PATIENCE_SECONDS,
            10 * MINUTE,
        ),
        ("docs/reliability.md", "for an hour without any good answer", waiting.DEFAULT_ERROR_BUDGET, 3600.0),
        ("docs/reliability.md", "looked at again for five minutes", waiting.SIGHT_SECONDS, 5 * MINUTE),
        ("docs/reliability.md", "the connection is read anew once a minute", _base.RENEW_AFTER, MINUTE),
        (
            "docs/reliability.md",
            "the list is asked for again after ten minutes",
            watching._NO_WALKS_SECONDS,
            10 * MINUTE,
        ),
        ("docs/reliability.md", "within ten seconds of its deferral", tuning_job.SETTLE_SECONDS, 10.0),
        ("README.md", "each start of a triggerer tells the last 15 minutes again", endings.LAG, 15 * MINUTE),
        ("README.md", "a request for each thousand jobs", ended_jobs._PAGE_SIZE, 1000),
    ],
)
def test_times_are_as_documented(page: str, words: str, seconds: float, stated: float) -> None:
    assert words in (REPOSITORY / page).read_text("utf-8")
    assert seconds == stated


@pytest.mark.parametrize(
    ("parameter", "default"),
    [
        ("wait_for_completion", True),
        ("deferrable", True),
        ("poll_interval", 60.0),
        ("timeout", 7 * 24 * 3600.0),
        ("cancel_on_timeout", True),
        ("cancel_on_kill", True),
        ("gcp_conn_id", "google_cloud_default"),
        ("project_id", None),
        ("location", None),
        ("impersonation_chain", None),
        ("api_version", "v1"),
        ("request_timeout", 60.0),
        ("force_new", False),
    ],
)
def test_defaults_of_the_operator_are_as_documented(parameter: str, default: Any) -> None:
    """The table of shared parameters in README.md."""
    task = CreateTuningJobOperator(task_id="tune")
    assert getattr(task, parameter) == default


def test_defaults_of_the_hook_are_as_documented() -> None:
    given = inspect.signature(TuningJobHook).parameters
    assert given["request_timeout"].default == 60.0
    assert given["api_version"].default == "v1"
