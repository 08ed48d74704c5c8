"""The provider's errors: which class, which words, and how Airflow treats them."""

from __future__ import annotations

import inspect
import json
import pickle
from typing import Any

import pytest

from airflow_tuning_provider import _errors, exceptions
from airflow_tuning_provider.api.errors import ApiError, ErrorKind
from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.states import JobState
from airflow_tuning_provider.triggers import events

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


def test_every_kind_has_its_class() -> None:
    assert set(KINDS) == set(ErrorKind)


@pytest.mark.parametrize(("kind", "expected"), KINDS.items())
def test_what_a_retry_cannot_mend_fails_at_once(kind: ErrorKind, expected: tuple[type, bool]) -> None:
    cls, retried = expected
    api_error = ApiError(kind, "the API's words", 418, "STATUS")
    error = _errors.error_from(
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
    error = _errors.error_from(ApiError(ErrorKind.UNAVAILABLE, "the connection failed"), "get x")
    assert str(error) == "Could not get x: the connection failed"


@pytest.mark.parametrize("cls", CLASSES)
def test_an_event_of_a_trigger_raises_the_same_error(cls: type[exceptions.TuningError]) -> None:
    error = cls("the API's words")
    event = json.loads(json.dumps(events.failed(NAME, error)))
    twin = events.error_of(events.parse(event))
    assert (type(twin), str(twin), twin.tuning_job_name) == (cls, str(error), NAME)


@pytest.mark.parametrize("name", [None, "NewError", "ApiError", "AirflowException", "__doc__", ["x"], 7])
def test_an_error_of_another_version_may_be_retried(name: Any) -> None:
    error = events.error_of(events.parse({"status": "error", "error": name, "name": NAME}))
    assert type(error) is exceptions.TuningUnavailableError


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
    error = _errors.job_error(
        job(state, error={"code": code, "message": "words"}), retry="A retry pays again."
    )
    assert type(error) is cls
    assert isinstance(error, AirflowFailException) is not retried
    assert error.tuning_job_name == NAME
    assert ("A retry pays again." in str(error)) is retried, "only where there will be a retry"
    assert ("The task is not retried" in str(error)) is not retried
    assert ("the same job would fail again. Change the input" in str(error)) is (code == 3)


def test_a_model_that_is_there_is_not_paid_for_twice() -> None:
    model = "projects/1/locations/us-central1/models/5@1"
    failed = job(JobState.FAILED, error={"code": 13, "message": "words"}, tunedModel={"model": model})
    error = _errors.job_error(failed, retry="A retry pays again.")
    assert type(error) is exceptions.TuningJobFailedPermanentlyError
    assert f"Tuned model: {model} " in str(error)
    assert str(error).endswith(
        "The task is not retried: its model is there. Clear the task to pay for a new job."
    )
    assert str(_errors.job_error(failed, final=True)).endswith("costs nothing more.")


def test_a_sensors_timeout_is_airflows_own() -> None:
    assert issubclass(exceptions.TuningSensorTimeoutError, AirflowSensorTimeout)
    assert issubclass(exceptions.TuningSensorTimeoutError, exceptions.TuningWaitTimeoutError)


def test_invalid_input_is_refused_in_a_whole_sentence() -> None:
    with pytest.raises(exceptions.TuningInvalidInputError) as caught, _errors.refusing_invalid_input():
        raise InvalidInputError("location", "Mars", "give a location such as 'us-central1'")
    error = caught.value
    assert (
        str(error) == "location='Mars' is not valid: give a location such as 'us-central1'. Nothing was sent."
    )
    assert (error.field, error.value) == ("location", "Mars")
    assert isinstance(error, (ValueError, AirflowFailException))
    assert error.__suppress_context__, "the traceback of the check says nothing more"


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), _errors.refusing_invalid_input():
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "job",
    [
        {"name": NAME, "state": "JOB_STATE_CANCELLED"},
        {"name": NAME, "state": "JOB_STATE_FAILED", "error": {"code": 3, "message": "bad data"}},
        {"name": NAME, "state": "JOB_STATE_FAILED", "error": {"code": 13, "message": "no luck"}},
    ],
)
def test_where_there_is_no_task_none_is_spoken_of(job: dict[str, Any]) -> None:
    """In a plain script, or on the command line, nobody can clear or retry one."""
    error = _errors.job_error(job)
    assert error is not None
    assert "task" not in str(error)
    assert "task" in str(_errors.job_error(job, retry="A retry of the task creates a new job."))
