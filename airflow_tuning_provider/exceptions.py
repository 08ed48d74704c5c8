"""The provider's errors: one class per decision that a caller can take.

All are :class:`TuningError`, an ``AirflowException``. Those that a retry cannot mend are also
``AirflowFailException``, so that the task fails at once instead of using up its retries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from airflow_tuning_provider.api import failure
from airflow_tuning_provider.api.errors import ApiError, ErrorKind
from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.states import Outcome, outcome

try:
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSensorTimeout,
        AirflowSkipException,
        TaskDeferralError,
        TaskDeferralTimeout,
    )
except ImportError:  # Airflow 3.1 keeps them in the core package only
    from airflow.exceptions import (  # type: ignore[no-redef, attr-defined]
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSensorTimeout,
        AirflowSkipException,
        TaskDeferralError,
        TaskDeferralTimeout,
    )

__all__ = [
    "AirflowNotFoundException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "TaskDeferralError",
    "TaskDeferralTimeout",
    "TuningAuthenticationError",
    "TuningBadRequestError",
    "TuningError",
    "TuningFateUnknownError",
    "TuningInvalidInputError",
    "TuningJobCancelledError",
    "TuningJobFailedError",
    "TuningJobFailedPermanentlyError",
    "TuningNotFoundError",
    "TuningPermissionError",
    "TuningQuotaError",
    "TuningSensorTimeoutError",
    "TuningUnavailableError",
    "TuningWaitTimeoutError",
    "error_from",
    "error_from_event",
    "job_error",
    "refusing_invalid_input",
    "timed_out",
]


class TuningError(AirflowException):
    """Root of the provider's errors.

    :param message: what happened, to which job, whether it may still cost money, what a retry will do.
    :param tuning_job_name: the job concerned, if known.
    :param api_error: the failed call, if a call failed.
    """

    def __init__(
        self, message: str, *, tuning_job_name: str | None = None, api_error: ApiError | None = None
    ) -> None:
        super().__init__(message)
        self.tuning_job_name = tuning_job_name
        self.api_error = api_error


class TuningBadRequestError(TuningError, AirflowFailException):
    """The API refused the request (HTTP 400): change the input."""


class TuningInvalidInputError(TuningBadRequestError, ValueError):
    """A parameter was refused before anything was sent: change the input.

    :param message: what is not valid, and what is allowed.
    :param field: the parameter or body path at fault.
    :param value: its value.
    """

    # The message alone must do: Airflow and pickle rebuild an exception from its arguments.
    def __init__(self, message: str, *, field: str | None = None, value: Any = None) -> None:
        super().__init__(message)
        self.field = field
        self.value = value


class TuningAuthenticationError(TuningError, AirflowFailException):
    """The credentials were refused (HTTP 401, or the token could not be had): mend the connection."""


class TuningPermissionError(TuningError, AirflowFailException):
    """The principal may not do this (HTTP 403): grant the role."""


class TuningNotFoundError(TuningError, AirflowFailException):
    """The resource does not exist in this project and location (HTTP 404)."""


class TuningQuotaError(TuningError):
    """A quota is used up (HTTP 429): wait, or ask for more."""


class TuningUnavailableError(TuningError):
    """The API could not be reached, or gave no usable answer, for longer than is tolerated."""


class TuningFateUnknownError(TuningError):
    """Whether a job was created could not be found out: look before paying again."""


class TuningJobFailedError(TuningError):
    """The job ended without success; a new job may succeed."""


class TuningJobFailedPermanentlyError(TuningJobFailedError, AirflowFailException):
    """The job ended without success, and the same job would fail again: change the input."""


class TuningJobCancelledError(TuningError, AirflowFailException):
    """Somebody cancelled the job: a person's decision, which a retry must not undo by itself."""


class TuningWaitTimeoutError(TuningError):
    """The job did not end within ``timeout``."""


class TuningSensorTimeoutError(TuningWaitTimeoutError, AirflowSensorTimeout):
    """The sensor's ``timeout`` passed; like every sensor timeout it is not retried."""


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
    parts = [f"Could not {what}{who}: {error}", _ADVICE.get(error.kind, ""), outlook]
    return _CLASSES[error.kind](
        "\n".join(part for part in parts if part), tuning_job_name=tuning_job_name, api_error=error
    )


def error_from_event(event: Mapping[str, Any], what: str, **kwargs: Any) -> TuningError:
    """Return the exception for a failed call that a trigger reported, of the class it had there.

    :param event: the trigger's event: ``kind``, ``message``, ``http_status``, ``rpc_status``.
    :param what: the call in words.
    :param kwargs: further arguments of :func:`error_from`.
    """
    try:
        kind = ErrorKind(event.get("kind"))
    except ValueError:
        kind = ErrorKind.UNAVAILABLE
    error = ApiError(kind, str(event.get("message", "")), event.get("http_status"), event.get("rpc_status"))
    return error_from(error, what, **kwargs)


def job_error(job: Mapping[str, Any], *, retry: str = "", final: bool = False) -> TuningError | None:
    """Return the exception for a job that ended without success, ``None`` for any other job.

    :param job: the job as the API returned it.
    :param retry: a sentence on what a retry of the task will do.
    :param final: whether a retry of the task cannot help, as for a sensor: an ended job stays ended.
    """
    ended = outcome(str(job.get("state")))
    if ended in (Outcome.WAITING, Outcome.SUCCEEDED):
        return None
    name = job.get("name")
    if ended is Outcome.CANCELLED:
        if not final:
            retry = "The task is not retried: somebody cancelled the job. Clear the task to create a new one."
        return TuningJobCancelledError(failure.describe(job, retry=retry), tuning_job_name=name)
    permanent = failure.is_permanent(job.get("error"))
    if permanent and not final:
        retry = (
            "The task is not retried: the same job would fail again. Change the input, then clear the task."
        )
    error_class = TuningJobFailedPermanentlyError if permanent or final else TuningJobFailedError
    return error_class(failure.describe(job, retry=retry), tuning_job_name=name)


def timed_out(name: str) -> TuningWaitTimeoutError:
    """Return the exception for a wait for ``name`` whose time is up; the job itself is not touched."""
    message = f"{name} did not end in time; it goes on and may cost money."
    return TuningWaitTimeoutError(message, tuning_job_name=name)


@contextmanager
def refusing_invalid_input() -> Iterator[None]:
    """Turn the core's ``InvalidInputError`` into the task's permanent failure."""
    try:
        yield
    except InvalidInputError as error:
        raise TuningInvalidInputError(
            f"{error}. Nothing was sent.", field=error.field, value=error.value
        ) from None
