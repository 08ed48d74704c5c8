"""What each JobState means for someone who waits: one table, asked by every path.

The states are those of ``google.cloud.aiplatform.v1.JobState``
(https://cloud.google.com/vertex-ai/docs/reference/rest/v1/JobState).
"""

from __future__ import annotations

from enum import Enum


class Outcome(Enum):
    """What a state means to a waiter."""

    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def ended(self) -> bool:
        """Whether the job has reached its end and costs nothing more."""
        return self is not Outcome.WAITING


class JobState(str, Enum):
    """The states a tuning job is known to take."""

    UNSPECIFIED = "JOB_STATE_UNSPECIFIED"
    QUEUED = "JOB_STATE_QUEUED"
    PENDING = "JOB_STATE_PENDING"
    RUNNING = "JOB_STATE_RUNNING"
    SUCCEEDED = "JOB_STATE_SUCCEEDED"
    FAILED = "JOB_STATE_FAILED"
    CANCELLING = "JOB_STATE_CANCELLING"
    CANCELLED = "JOB_STATE_CANCELLED"
    PAUSED = "JOB_STATE_PAUSED"
    EXPIRED = "JOB_STATE_EXPIRED"
    UPDATING = "JOB_STATE_UPDATING"
    PARTIALLY_SUCCEEDED = "JOB_STATE_PARTIALLY_SUCCEEDED"


_TABLE: dict[str, tuple[Outcome, str]] = {
    JobState.UNSPECIFIED.value: (Outcome.WAITING, "in no stated state"),
    JobState.QUEUED.value: (Outcome.WAITING, "queued"),
    JobState.PENDING.value: (Outcome.WAITING, "pending"),
    JobState.RUNNING.value: (Outcome.WAITING, "running"),
    JobState.PAUSED.value: (Outcome.WAITING, "paused"),
    JobState.UPDATING.value: (Outcome.WAITING, "being updated"),
    JobState.CANCELLING.value: (Outcome.WAITING, "being cancelled"),
    JobState.SUCCEEDED.value: (Outcome.SUCCEEDED, "succeeded"),
    JobState.PARTIALLY_SUCCEEDED.value: (Outcome.SUCCEEDED, "partially succeeded"),
    JobState.FAILED.value: (Outcome.FAILED, "failed"),
    JobState.CANCELLED.value: (Outcome.CANCELLED, "cancelled"),
    JobState.EXPIRED.value: (Outcome.EXPIRED, "expired"),
}


def is_known(state: str) -> bool:
    """Whether ``state`` is one that this version of the provider knows."""
    return state in _TABLE


def outcome(state: str) -> Outcome:
    """Classify a state. An unknown one means waiting: a new state must never end a healthy wait."""
    return _TABLE.get(state, (Outcome.WAITING, ""))[0]


def in_words(state: str) -> str:
    """Describe a state as the task log tells it."""
    known = _TABLE.get(state)
    return known[1] if known else f"in state {state}, which this provider does not know"


def as_headline(words: str) -> str:
    """Return ``words`` with a capital, as a line of the task log begins."""
    return words[:1].upper() + words[1:]


def has_ended_in_words(state: str) -> str:
    """Say of a job that ended in ``state`` how it did: ``has failed``, ``has been cancelled``."""
    words = in_words(state)
    return f"has been {words}" if state == JobState.CANCELLED.value else f"has {words}"


def may_be_joined(state: str) -> bool:
    """Whether a new attempt may wait for a job in this state: under way, and not being cancelled."""
    return outcome(state) is Outcome.WAITING and state != JobState.CANCELLING.value
