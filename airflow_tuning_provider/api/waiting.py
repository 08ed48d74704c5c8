"""The course of one wait for a job or an operation, advanced by what is seen; it does no I/O and has no clock.

The hook and the triggerer's shared poll drive it with their own ways to call and to sleep, so they tell the same
story, tolerate the same faults and end at the same moment.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any

from airflow_tuning_provider.api.errors import ApiError
from airflow_tuning_provider.api.inputs import as_int
from airflow_tuning_provider.api.manifest import data_stats, in_words, parse_time
from airflow_tuning_provider.api.names import is_operation
from airflow_tuning_provider.api.polling import next_delay
from airflow_tuning_provider.api.retry import RetryPolicy
from airflow_tuning_provider.api.states import JobState, as_headline, is_known, outcome
from airflow_tuning_provider.api.states import in_words as state_in_words

DEFAULT_ERROR_BUDGET = 3600.0
"""Seconds of uninterrupted transient errors after which a wait is given up; the job goes on."""

SIGHT_SECONDS = 300.0
"""Seconds of uninterrupted refusals (no permission, not found, no token, no connection) after which a wait is given
up. Failing to see is no end: reads lag behind a create, permissions flap, secrets rotate."""

HEARTBEAT = 300.0
"""Seconds between log lines while nothing changes."""


class End(Enum):
    """How a wait can end."""

    ENDED = "ended"
    TIMED_OUT = "timed_out"
    GIVEN_UP = "given_up"


@dataclass(frozen=True)
class Step:
    """What to do after a look at the job.

    :param delay: seconds until the next look, ``None`` if the wait is over.
    :param end: how the wait ended, ``None`` if it goes on.
    :param news: what the task log should say: pairs of ``logging`` level and text.
    """

    delay: float | None = None
    end: End | None = None
    news: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class View:
    """A job or an operation as a waiter sees it.

    :param state: its state.
    :param words: the state in words.
    :param ended: whether it has ended.
    :param progress: how far it is, where the API tells.
    :param known: whether this version of the provider knows the state.
    """

    state: str
    words: str
    ended: bool
    progress: str = ""
    known: bool = True


def view_job(job: Mapping[str, Any]) -> View:
    """See a tuning job."""
    return _view_of(str(job.get("state")), _progress(job))


# Thousands of jobs share a few states: looks that tell nothing new should leave no new objects behind.
@lru_cache(maxsize=1024)
def _view_of(state: str, progress: str) -> View:
    ended = outcome(state).ended
    return View(state, state_in_words(state), ended, "" if ended else progress, is_known(state))


def view_operation(operation: Mapping[str, Any]) -> View:
    """See a long-running operation."""
    done = operation.get("done") is True
    return View("DONE", "done", True) if done else View("RUNNING", "under way", False)


def view(name: str, seen: Mapping[str, Any]) -> View:
    """See a tuning job or a long-running operation: ``seen`` is what ``name`` names."""
    return view_operation(seen) if is_operation(name) else view_job(seen)


@dataclass
class Wait:
    """One wait.

    :param name: name of the job or the operation that is waited for.
    :param poll_interval: upper bound of the seconds between looks.
    :param deadline: epoch seconds at which to stop waiting, ``None`` for never.
    :param error_budget: seconds of uninterrupted transient errors that are tolerated.
    :param heartbeat: seconds between log lines while nothing changes.
    """

    name: str
    poll_interval: float
    deadline: float | None = None
    error_budget: float = DEFAULT_ERROR_BUDGET
    heartbeat: float = field(default_factory=lambda: HEARTBEAT)
    _began: float | None = None
    _created: tuple[object, float | None] = (None, None)
    _seen: View | None = None
    _since: float = 0.0
    _told: float = 0.0
    _failures: int = 0
    _failing_since: float = 0.0
    _refused_since: float | None = None
    _retry: RetryPolicy = field(default_factory=lambda: RetryPolicy(max_delay=60.0))

    def advance(self, seen: Mapping[str, Any] | ApiError, *, now: float, tick: float, random: float) -> Step:
        """Take note of a look, whatever came of it.

        :param seen: what was waited for as it is now, or why it could not be looked at.
        :param now: the current time in epoch seconds, for the deadline and the job's age only.
        :param tick: seconds of a clock that nobody sets, for everything that lasts.
        :param random: a number in [0, 1), drawn by the caller.
        """
        if self._began is None:
            self._began = tick
        if isinstance(seen, ApiError):
            return self._failed(seen, now=now, tick=tick, random=random)
        return self._saw(seen, now=now, tick=tick, random=random)

    def _saw(self, seen: Mapping[str, Any], *, now: float, tick: float, random: float) -> Step:
        found = view(self.name, seen)
        news = (*self._recovered(tick), *self._story(seen, found, now, tick))
        if found.ended:
            return Step(end=End.ENDED, news=news)
        if self.deadline is not None and now >= self.deadline:
            return Step(end=End.TIMED_OUT, news=news)
        created = self._creation(seen.get("createTime"))
        # An operation has no creation time: it is as old as the wait for it.
        age = tick - (self._began or tick) if created is None else now - created
        delay = next_delay(max(age, 0.0), self.poll_interval, random=random, remaining=self._remaining(now))
        return Step(delay=delay, news=news)

    def _failed(self, error: ApiError, *, now: float, tick: float, random: float) -> Step:
        if self.deadline is not None and now >= self.deadline:
            return Step(end=End.TIMED_OUT)
        self._failures += 1
        if self._failures == 1:
            self._failing_since = tick
        failing = tick - self._failing_since
        if error.kind.transient:
            self._refused_since = None
            tolerated = failing < self.error_budget
        else:
            if self._refused_since is None:
                self._refused_since = tick
            tolerated = tick - self._refused_since < SIGHT_SECONDS
        if not tolerated:
            return Step(end=End.GIVEN_UP)
        delay = max(self._retry.backoff(self._failures, random), error.retry_after or 0.0)
        remaining = self._remaining(now)
        delay = min(delay, self.poll_interval if remaining is None else min(self.poll_interval, remaining))
        news: tuple[tuple[int, str], ...] = ()
        if self._failures == 1 or tick - self._told >= self.heartbeat:
            self._told = tick
            often = f" {self._failures} times in a row, for {in_words(failing)}" if self._failures > 1 else ""
            why = str(error).rstrip(".")
            text = f"Could not look{often}: {why}. Looking again: the job is not affected · {self.name}"
            news = ((logging.WARNING, text),)
        return Step(delay=delay, news=news)

    def rest(self, *, now: float, tick: float) -> tuple[float, bool]:
        """Return for how many seconds another sight of the same state has nothing to tell.

        :param now: the current time in epoch seconds.
        :param tick: seconds of a clock that nobody sets.
        :return: the seconds, and whether it has to be looked at then: it is the deadline.
        """
        beat = max(self._told + self.heartbeat - tick, 0.0)
        left = self._remaining(now)
        return (beat, False) if left is None or left > beat else (left, True)

    def _creation(self, text: object) -> float | None:
        if text != self._created[0]:
            self._created = text, parse_time(text)
        return self._created[1]

    def _remaining(self, now: float) -> float | None:
        return None if self.deadline is None else max(self.deadline - now, 0.0)

    def _recovered(self, tick: float) -> list[tuple[int, str]]:
        if not self._failures:
            return []
        looks = f"{self._failures} failed look{'s' if self._failures > 1 else ''}"
        text = f"The API answers again after {looks} in {in_words(tick - self._failing_since)}."
        self._failures = 0
        self._refused_since = None
        return [(logging.INFO, text)]

    def _story(self, seen: Mapping[str, Any], view: View, now: float, tick: float) -> list[tuple[int, str]]:
        """Say what is new: the verb first and the long name last, as windows are narrow."""
        before, self._seen = self._seen, view
        if before is None or view.state != before.state:
            spent = ""
            if before is not None:
                left, entered = _entered(seen, before.state), _entered(seen, view.state)
                # The API's times where it tells both: then the durations of a job agree, whoever tells them.
                known = left is not None and entered is not None and entered >= left
                lasted = entered - left if known else tick - self._since  # type: ignore[operator]
                spent = (
                    f" after {in_words(lasted)} {before.words}"
                    if before.known
                    else f" after {in_words(lasted)}"
                )
            self._since = self._told = tick
            headline = as_headline(view.words)
            if view.known:
                return [(logging.INFO, f"{headline}{spent}{view.progress} · {self.name}")]
            return [(logging.WARNING, f"{headline}{',' if spent else ''}{spent}; waiting on · {self.name}")]
        if tick - self._told >= self.heartbeat:
            self._told = tick
            entered = _entered(seen, view.state)
            lasted = now - entered if entered is not None and now >= entered else tick - self._since
            return [
                (logging.INFO, f"Still {view.words} after {in_words(lasted)}{view.progress} · {self.name}")
            ]
        return []


def _entered(job: Mapping[str, Any], state: str) -> float | None:
    """Return when a job came into a state, where its time stamps tell."""
    if state in (JobState.QUEUED.value, JobState.PENDING.value):
        return parse_time(job.get("createTime"))
    if state == JobState.RUNNING.value:
        return parse_time(job.get("startTime"))
    return parse_time(job.get("endTime")) if outcome(state).ended else None


_PHASES = {
    "TUNING_JOB_STATE_WAITING_FOR_QUOTA": "waiting for quota",
    "TUNING_JOB_STATE_PROCESSING_DATASET": "processing the dataset",
    "TUNING_JOB_STATE_WAITING_FOR_CAPACITY": "waiting for capacity",
    "TUNING_JOB_STATE_TUNING": "tuning",
    "TUNING_JOB_STATE_POST_PROCESSING": "post-processing",
}


def _progress(job: Mapping[str, Any]) -> str:
    """Say how far the job is, where the API tells (v1beta1 only)."""
    parts = []
    phase = _PHASES.get(str(job.get("tuningJobState")))
    if phase:
        parts.append(phase)
    metadata = job.get("tuningJobMetadata")
    if isinstance(metadata, Mapping):
        epochs, steps = (as_int(metadata.get(key)) for key in ("completedEpochCount", "completedStepCount"))
        total = as_int(data_stats(job).get("tuningStepCount"))
        if steps:
            parts.append(f"step {steps} of {total}" if total else f"step {steps}")
        elif epochs:
            parts.append(f"{epochs} epoch{'' if epochs == 1 else 's'} done")
    return f", {', '.join(parts)}" if parts else ""
