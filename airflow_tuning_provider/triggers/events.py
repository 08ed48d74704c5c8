"""The events that end a wait: the same from a trigger and from a blocking loop, so that one handler takes both.

An event travels through the metadata database and survives upgrades: it is small, plain JSON and names no secret.
It brings back what the attempt knew when it began to wait (``resume``), as nothing else of it does: under
``dag.test()``, for instance, a resumption gets the event alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_tuning_provider import exceptions
from airflow_tuning_provider.exceptions import TuningError, TuningUnavailableError

Event = dict[str, Any]

ENDED, TIMEOUT, ERROR, PAUSED = "ended", "timeout", "error", "paused"


MAY_APPEAR = (
    "No job was found now; one may appear, and cost money. Look at the project's tuning jobs, or let "
    "CancelOrphanedTuningJobsOperator do so."
)
"""What is to be said where a task is killed whose create was not answered."""


def ended(name: str) -> Event:
    """Say that a job has ended or that an operation is done."""
    return {"status": ENDED, "name": name}


def timed_out(name: str, *, cancelled: bool) -> Event:
    """Say that the deadline has come first.

    :param cancelled: whether its cancellation was asked for, and accepted.
    """
    return {"status": TIMEOUT, "name": name, "cancelled": cancelled}


def failed(name: str, error: TuningError) -> Event:
    """Say that nothing can be seen any more, and why."""
    return {"status": ERROR, "name": name, "error": type(error).__name__, "message": str(error)}


def paused() -> Event:
    """Say that a pause is over."""
    return {"status": PAUSED, "name": None}


def parse(event: object) -> Event:
    """Return an event with ``status`` and ``name``.

    :raises TuningUnavailableError: if it is none of those above.
    """
    if isinstance(event, Mapping) and event.get("status") in (ENDED, TIMEOUT, ERROR, PAUSED):
        # Two names of earlier versions.
        name = event.get("name") or event.get("tuning_job_name") or event.get("operation_name")
        if name or event["status"] in (ERROR, PAUSED):
            return {**event, "name": name}
    raise TuningUnavailableError(
        f"The task was resumed with an event that this provider does not know: {event!r}. The job is not "
        "affected; a retry of the task joins it."
    )


def error_of(event: Event) -> TuningError:
    """Return the exception that an event of the status ``error`` tells of, of the class that it had."""
    found = getattr(exceptions, str(event.get("error")), None)
    kind = found if isinstance(found, type) and issubclass(found, TuningError) else TuningUnavailableError
    error = kind(str(event.get("message")))
    error.tuning_job_name = event["name"]
    return error
