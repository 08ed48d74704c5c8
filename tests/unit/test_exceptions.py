"""The provider's errors: which class, which words, and how Airflow treats them."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import pytest

from airflow_tuning_provider import exceptions
from airflow_tuning_provider.api.errors import ApiError, ErrorKind
from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.states import JobState

try:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSensorTimeout
except ImportError:
    from airflow.exceptions import (  # type: ignore[no-redef, attr-defined]
        AirflowException,
        AirflowFailException,
        AirflowSensorTimeout,
    )

NAME = "projects/p/locations/us-central1/tuningJobs/1"
CLASSES = [
    item
    for _, item in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(item, exceptions.TuningError)
]

KINDS = {
    ErrorKind.BAD_REQUEST: (exceptions.TuningBadRequestError, False),
    ErrorKind.UNAUTHENTICATED: (exceptions.TuningAuthenticationError, False),
    ErrorKind.NOT_PERMITTED: (exceptions.TuningPermissionError, False),
    ErrorKind.NOT_FOUND: (exceptions.TuningNotFoundError, False),
    ErrorKind.QUOTA: (exceptions.TuningQuotaError, True),
    ErrorKind.UNAVAILABLE: (exceptions.TuningUnavailableError, True),
    ErrorKind.BAD_RESPONSE: (exceptions.TuningUnavailableError, True),
}


def job(state: JobState, **more: Any) -> dict[str, Any]:
    return {"name": NAME, "state": state.value, **more}


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_is_airflows_and_can_be_rebuilt_from_its_message(
    cls: type[exceptions.TuningError],
) -> None:
    """Airflow serialises an exception as class and message; pickle adds the attributes."""
    error = (
        cls("what happened", tuning_job_name=NAME)
        if cls is not exceptions.TuningInvalidInputError
        else cls("x")
    )
    assert isinstance(error, AirflowException)
    assert str(cls(str(error))) == str(error)
    twin = pickle.loads(pickle.dumps(error))
    assert (type(twin), str(twin), vars(twin)) == (cls, str(error), vars(error))


def test_every_error_is_exported() -> None:
    assert {cls.__name__ for cls in CLASSES} <= set(exceptions.__all__)
    assert sorted(exceptions.__all__) == exceptions.__all__
    assert all(hasattr(exceptions, name) for name in exceptions.__all__)


def test_every_kind_has_its_class() -> None:
    assert set(KINDS) == set(ErrorKind)


@pytest.mark.parametrize(("kind", "expected"), KINDS.items())
def test_what_a_retry_cannot_mend_fails_at_once(kind: ErrorKind, expected: tuple[type, bool]) -> None:
    cls, retried = expected
    api_error = ApiError(kind, "the API's words", 418, "STATUS")
    error = exceptions.error_from(
        api_error,
        "create a tuning job",
        principal="me@example.com",
        tuning_job_name=NAME,
        outlook="Nothing was created.",
    )
    assert type(error) is cls
    assert isinstance(error, AirflowFailException) is not retried
    assert kind.transient is retried
    assert error.api_error is api_error
    assert error.tuning_job_name == NAME
    first, *rest = str(error).splitlines()
    assert first == "Could not create a tuning job as me@example.com: 418 STATUS: the API's words"
    assert rest[-1] == "Nothing was created."
    assert all(rest), "no empty lines"


def test_the_least_that_an_error_says() -> None:
    error = exceptions.error_from(ApiError(ErrorKind.UNAVAILABLE, "the connection failed"), "get x")
    assert str(error) == "Could not get x: the connection failed"


@pytest.mark.parametrize("kind", ErrorKind)
def test_an_event_of_a_trigger_raises_the_same_error(kind: ErrorKind) -> None:
    api_error = ApiError(kind, "the API's words", 418, "STATUS")
    event = {"kind": kind.value, "message": "the API's words", "http_status": 418, "rpc_status": "STATUS"}
    one = exceptions.error_from(api_error, "watch x", tuning_job_name=NAME)
    other = exceptions.error_from_event(event, "watch x", tuning_job_name=NAME)
    assert (type(one), str(one), one.tuning_job_name) == (type(other), str(other), other.tuning_job_name)


@pytest.mark.parametrize(
    "event", [{}, {"kind": None}, {"kind": "new"}, {"kind": ["x"]}, {"kind": 7, "message": None}]
)
def test_an_event_of_another_version_may_be_retried(event: dict[str, Any]) -> None:
    assert type(exceptions.error_from_event(event, "watch x")) is exceptions.TuningUnavailableError


JOBS = [
    (JobState.FAILED, 13, exceptions.TuningJobFailedError, True),
    (JobState.FAILED, None, exceptions.TuningJobFailedError, True),
    (JobState.FAILED, 3, exceptions.TuningJobFailedPermanentlyError, False),
    (JobState.EXPIRED, None, exceptions.TuningJobFailedError, True),
    (JobState.CANCELLED, 1, exceptions.TuningJobCancelledError, False),
]


@pytest.mark.parametrize(("state", "code", "cls", "retried"), JOBS)
def test_jobs_that_ended_without_success(
    state: JobState, code: int | None, cls: type[exceptions.TuningError], retried: bool
) -> None:
    error = exceptions.job_error(
        job(state, error={"code": code, "message": "words"}), retry="A retry pays again."
    )
    assert type(error) is cls
    assert isinstance(error, AirflowFailException) is not retried
    assert error.tuning_job_name == NAME
    assert ("A retry pays again." in str(error)) is retried, "only where there will be a retry"
    assert ("The task is not retried" in str(error)) is not retried


@pytest.mark.parametrize(("state", "code", "_cls", "_retried"), JOBS)
def test_a_sensor_is_never_retried(state: JobState, code: int | None, _cls: type, _retried: bool) -> None:
    error = exceptions.job_error(job(state, error={"code": code}), retry="Not retried.", final=True)
    assert isinstance(error, AirflowFailException)
    assert str(error).endswith("\nNot retried.")


@pytest.mark.parametrize(
    "state",
    sorted(set(JobState) - {JobState.FAILED, JobState.EXPIRED, JobState.CANCELLED}),
)
def test_other_jobs_are_no_error(state: JobState) -> None:
    assert exceptions.job_error(job(state, error={"code": 13})) is None


@pytest.mark.parametrize("odd", ["text", 7, ["x"], None])
def test_a_failed_job_with_an_odd_error(odd: Any) -> None:
    error = exceptions.job_error(job(JobState.FAILED, error=odd))
    assert type(error) is exceptions.TuningJobFailedError
    assert not str(error).endswith("\n")


def test_a_sensors_timeout_is_airflows_own() -> None:
    assert issubclass(exceptions.TuningSensorTimeoutError, AirflowSensorTimeout)
    assert issubclass(exceptions.TuningSensorTimeoutError, exceptions.TuningWaitTimeoutError)


def test_invalid_input_is_refused_in_a_whole_sentence() -> None:
    with pytest.raises(exceptions.TuningInvalidInputError) as caught, exceptions.refusing_invalid_input():
        raise InvalidInputError("location", "Mars", "give a location such as 'us-central1'")
    error = caught.value
    assert (
        str(error) == "location='Mars' is not valid: give a location such as 'us-central1'. Nothing was sent."
    )
    assert (error.field, error.value) == ("location", "Mars")
    assert isinstance(error, (ValueError, AirflowFailException))
    assert error.__suppress_context__, "the traceback of the check says nothing more"


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), exceptions.refusing_invalid_input():
        raise ZeroDivisionError
