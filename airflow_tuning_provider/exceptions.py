"""The provider's errors: one class per decision that a caller can take.

All are :class:`TuningError`, an ``AirflowException``. Those that a retry cannot mend are also
``AirflowFailException``, so that the task fails at once instead of using up its retries.
"""

from __future__ import annotations

from typing import Any

from airflow_tuning_provider._compat import AirflowException, AirflowFailException, AirflowSensorTimeout
from airflow_tuning_provider.api.errors import ApiError


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


class TuningBudgetError(TuningError, AirflowFailException):
    """The job would cost more than it may, or what it would cost cannot be known: raise the limit, or say more."""


class TuningFateUnknownError(TuningError):
    """Whether a job was created could not be found out: look before paying again."""


class TuningRebaseUnknownError(TuningFateUnknownError, AirflowFailException):
    """Whether a rebase was started could not be found out; it is not sent again by itself."""


class TuningJobFailedError(TuningError):
    """The job ended without success; a new job may succeed."""


class TuningJobFailedPermanentlyError(TuningJobFailedError, AirflowFailException):
    """The job ended without success, and the same job would fail again: change the input."""


class TuningJobCancelledError(TuningError, AirflowFailException):
    """Somebody cancelled the job: a person's decision, which a retry must not undo by itself."""


class TuningWaitTimeoutError(TuningError):
    """The job did not end within ``timeout``."""


class TuningDeadlineError(TuningWaitTimeoutError, AirflowFailException):
    """The job's time is up for good: a retry could only pay for another one."""


class TuningSensorTimeoutError(TuningWaitTimeoutError, AirflowSensorTimeout):
    """The sensor's ``timeout`` passed; like every sensor timeout it is not retried."""


class TuningGateError(TuningError, AirflowFailException):
    """The evaluated model does not fulfil what its gate asks: the same model would not the next time either."""


class TuningNotPromotedError(TuningError, AirflowFailException):
    """A model was not made the champion: its evaluation, or the state of its line, does not allow it."""
