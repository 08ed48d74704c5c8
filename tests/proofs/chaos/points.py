"""What is tried: every point of a job's life, in both modes, with every process killed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum


class Point(str, Enum):
    """Where a task is when something is killed."""

    BEFORE_LOOKUP = "before-lookup"
    AFTER_LOOKUP = "after-lookup"
    REQUEST_SENT = "request-sent"
    RESPONSE_LOST = "response-lost"
    AFTER_RESPONSE = "after-response"
    NAME_RECORDED = "name-recorded"
    DEFERRED = "deferred"
    POLLING = "polling"
    EVENT_FIRED = "event-fired"
    RESUMING = "resuming"
    RESULT_STORED = "result-stored"


class Mode(str, Enum):
    """How a task waits for its job."""

    DEFERRABLE = "deferrable"
    BLOCKING = "blocking"


class Target(str, Enum):
    """What is killed with SIGKILL."""

    TASK = "task"
    TRIGGERER = "triggerer"
    SCHEDULER = "scheduler"


_NOT_BLOCKING = {Point.DEFERRED, Point.EVENT_FIRED, Point.RESUMING}
_IN_TRIGGERER = {Point.POLLING, Point.EVENT_FIRED}


@dataclass(frozen=True)
class Cell:
    """One row of the table."""

    point: Point
    mode: Mode
    target: Target

    def __str__(self) -> str:
        return f"{self.point.value}/{self.mode.value}/{self.target.value}"

    @property
    def not_applicable(self) -> str | None:
        """Why there is nothing to try, None if there is."""
        if self.mode is Mode.BLOCKING and self.point in _NOT_BLOCKING:
            return "a blocking task is never deferred"
        if self.mode is Mode.DEFERRABLE and self.target is Target.TASK and self.point in _IN_TRIGGERER:
            return "a deferred task has no process"
        return None


def cells() -> Iterator[Cell]:
    """Return all rows of the table, in the order of a job's life."""
    for mode in Mode:
        for target in Target:
            for point in Point:
                yield Cell(point, mode, target)
