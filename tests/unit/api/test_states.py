"""What each state means."""

from __future__ import annotations

import pytest

from airflow_tuning_provider.api.states import (
    JobState,
    Outcome,
    has_ended_in_words,
    in_words,
    is_known,
    may_be_joined,
    outcome,
)

TABLE = {
    JobState.UNSPECIFIED: (Outcome.WAITING, True),
    JobState.QUEUED: (Outcome.WAITING, True),
    JobState.PENDING: (Outcome.WAITING, True),
    JobState.RUNNING: (Outcome.WAITING, True),
    JobState.PAUSED: (Outcome.WAITING, True),
    JobState.UPDATING: (Outcome.WAITING, True),
    JobState.CANCELLING: (Outcome.WAITING, False),
    JobState.SUCCEEDED: (Outcome.SUCCEEDED, False),
    JobState.PARTIALLY_SUCCEEDED: (Outcome.SUCCEEDED, False),
    JobState.FAILED: (Outcome.FAILED, False),
    JobState.CANCELLED: (Outcome.CANCELLED, False),
    JobState.EXPIRED: (Outcome.EXPIRED, False),
}


def test_the_table_is_complete() -> None:
    assert set(TABLE) == set(JobState)


@pytest.mark.parametrize(("state", "expected"), TABLE.items(), ids=lambda item: str(item))
def test_states(state: JobState, expected: tuple[Outcome, bool]) -> None:
    assert is_known(state.value)
    assert (outcome(state.value), may_be_joined(state.value)) == expected
    assert outcome(state.value).ended is (expected[0] is not Outcome.WAITING)
    assert in_words(state.value)


@pytest.mark.parametrize("state", ["JOB_STATE_DREAMING", "", "None", "SUCCEEDED", "job_state_failed"])
def test_an_unknown_state_waits_and_may_be_joined(state: str) -> None:
    assert not is_known(state)
    assert outcome(state) is Outcome.WAITING
    assert may_be_joined(state)
    assert in_words(state) == f"in state {state}, which this provider does not know"


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (JobState.SUCCEEDED, "has succeeded"),
        (JobState.PARTIALLY_SUCCEEDED, "has partially succeeded"),
        (JobState.FAILED, "has failed"),
        (JobState.EXPIRED, "has expired"),
        (JobState.CANCELLED, "has been cancelled"),
    ],
)
def test_ends_in_words(state: JobState, text: str) -> None:
    assert has_ended_in_words(state.value) == text
