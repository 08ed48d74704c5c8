"""What an end is taken for."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_tuning_provider._tasks.waiting import was_cancelled
from airflow_tuning_provider.api.failure import status_error


@pytest.mark.parametrize(
    ("seen", "cancelled"),
    [
        ({"state": "JOB_STATE_CANCELLED"}, True),
        ({"state": "JOB_STATE_FAILED", "error": {"code": 1, "message": "Cancelled."}}, False),
        ({"done": True, "error": {"code": 1}}, True),
        ({"done": True, "error": {"code": "CANCELLED"}}, True),
        ({"done": True, "error": {"code": 13}}, False),
        ({"done": True, "response": {}}, False),
    ],
)
def test_a_jobs_state_says_whether_it_was_cancelled_and_an_operations_error(
    seen: dict[str, Any], cancelled: bool
) -> None:
    assert was_cancelled(seen) is cancelled


@pytest.mark.parametrize("error", [None, {}, {"code": 0}, {"code": "0", "message": ""}, ""])
def test_a_status_of_ok_is_no_failure(error: object) -> None:
    assert status_error({"done": True, "error": error}) is None


@pytest.mark.parametrize("error", [{"code": 13}, {"message": "no"}, "down", ["x"], 5])
def test_any_other_is_one(error: object) -> None:
    assert status_error({"done": True, "error": error}) == error
