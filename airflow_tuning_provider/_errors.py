"""Which exception tells of what: a failed call, a job that ended without success, input that is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from airflow_tuning_provider.api import failure
from airflow_tuning_provider.api.errors import ApiError, ErrorKind
from airflow_tuning_provider.api.inputs import InvalidInputError, as_text
from airflow_tuning_provider.api.states import Outcome, outcome
from airflow_tuning_provider.exceptions import (
    TuningAuthenticationError,
    TuningBadRequestError,
    TuningError,
    TuningInvalidInputError,
    TuningJobCancelledError,
    TuningJobFailedError,
    TuningJobFailedPermanentlyError,
    TuningNotFoundError,
    TuningPermissionError,
    TuningQuotaError,
    TuningUnavailableError,
    TuningWaitTimeoutError,
)

_CLASSES: dict[ErrorKind, type[TuningError]] = {
    ErrorKind.BAD_REQUEST: TuningBadRequestError,
    ErrorKind.UNAUTHENTICATED: TuningAuthenticationError,
    ErrorKind.NOT_PERMITTED: TuningPermissionError,
    ErrorKind.NOT_FOUND: TuningNotFoundError,
    ErrorKind.QUOTA: TuningQuotaError,
    ErrorKind.UNAVAILABLE: TuningUnavailableError,
    ErrorKind.BAD_RESPONSE: TuningUnavailableError,
}
_ADVICE: dict[ErrorKind, str] = {
    ErrorKind.UNAUTHENTICATED: "Check the credentials of the Airflow connection.",
    ErrorKind.NOT_PERMITTED: (
        "Grant the principal the role roles/aiplatform.user, and access to the dataset's bucket."
    ),
    ErrorKind.NOT_FOUND: "Check the name, its project and its location.",
    ErrorKind.QUOTA: "Wait, or ask Google for more of this quota.",
}


def _advice(error: ApiError) -> str:
    return _ADVICE.get(error.kind, "") if error.advice is None else error.advice


def error_from(
    error: ApiError,
    what: str,
    *,
    principal: str | None = None,
    tuning_job_name: str | None = None,
    outlook: str = "",
) -> TuningError:
    """Return the exception for a failed call.

    :param error: the failed call.
    :param what: the call in words.
    :param principal: who asked, if known.
    :param tuning_job_name: the job concerned.
    :param outlook: whether the job may still cost money, and what a retry will do.
    """
    who = f" as {principal}" if principal else ""
    parts = [f"Could not {what}{who}: {error}", _advice(error), outlook]
    return _CLASSES[error.kind](
        "\n".join(part for part in parts if part), tuning_job_name=tuning_job_name, api_error=error
    )


def job_error(job: Mapping[str, Any], *, retry: str = "", final: bool = False) -> TuningError | None:
    """Return the exception for a job that ended without success, ``None`` for any other job.

    :param job: the job as the API returned it.
    :param retry: a sentence on what a retry of the task will do; empty where there is no task.
    :param final: whether a retry of the task cannot help, as for a sensor: an ended job stays ended.
    """
    ended = outcome(str(job.get("state")))
    if ended in (Outcome.WAITING, Outcome.SUCCEEDED):
        return None
    name = as_text(job.get("name"))
    if ended is Outcome.CANCELLED:
        if retry and not final:
            retry = "The task is not retried: somebody cancelled the job. Clear the task to create a new one."
        return TuningJobCancelledError(failure.describe(job, retry=retry), tuning_job_name=name)
    permanent = failure.is_permanent(job)
    if permanent and retry and not final:
        retry = (
            "The task is not retried: its model is there. Clear the task to pay for a new job."
            if failure.uploaded_model(job)
            else "The task is not retried: the same job would fail again. Change the input, then clear the task."
        )
    error_class = TuningJobFailedPermanentlyError if permanent or final else TuningJobFailedError
    return error_class(failure.describe(job, retry=retry), tuning_job_name=name)


def timed_out(name: str) -> TuningWaitTimeoutError:
    """Return the exception for a wait for ``name`` whose time is up; the job itself is not touched."""
    message = f"{name} did not end in time; it goes on and may cost money."
    return TuningWaitTimeoutError(message, tuning_job_name=name)


def given_up(name: str, error: ApiError) -> TuningUnavailableError:
    """Return the exception for a wait for ``name`` that cannot be watched any longer; it may be later, by a retry.

    :param error: what the last look failed with; nothing that only looks says that a job has ended.
    """
    message = (
        f"{name} could not be looked at for longer than is tolerated; it goes on and may cost money. The last look: "
        f"{error}"
    )
    if advice := _advice(error):
        message += f"\n{advice}"
    # Of the class's own kind, so that whoever is told by an event raises the same class.
    return TuningUnavailableError(
        message, tuning_job_name=name, api_error=replace(error, kind=ErrorKind.UNAVAILABLE)
    )


@contextmanager
def refusing_invalid_input() -> Iterator[None]:
    """Turn the core's ``InvalidInputError`` into the task's permanent failure."""
    try:
        yield
    except InvalidInputError as error:
        raise TuningInvalidInputError(
            f"{error}. Nothing was sent.", field=error.field, value=error.value
        ) from None
