"""Why a job ended without a model, told so that an operator of the pipeline can act on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_tuning_provider.api.console import tuned_model_url, tuning_job_url
from airflow_tuning_provider.api.inputs import as_int, as_list, as_mapping, as_text, shorten
from airflow_tuning_provider.api.manifest import data_stats
from airflow_tuning_provider.api.states import JobState, has_ended_in_words
from airflow_tuning_provider.api.tuning_job import training_dataset

# google.rpc.Code: https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
_CODES = {
    1: "CANCELLED", 2: "UNKNOWN", 3: "INVALID_ARGUMENT", 4: "DEADLINE_EXCEEDED", 5: "NOT_FOUND",
    6: "ALREADY_EXISTS", 7: "PERMISSION_DENIED", 8: "RESOURCE_EXHAUSTED", 9: "FAILED_PRECONDITION",
    10: "ABORTED", 11: "OUT_OF_RANGE", 12: "UNIMPLEMENTED", 13: "INTERNAL", 14: "UNAVAILABLE",
    15: "DATA_LOSS", 16: "UNAUTHENTICATED",
}  # fmt: skip
_PERMANENT = frozenset({3, 5, 6, 7, 9, 11, 12, 16})
_SHOWN_REASONS = 5


def error_code(error: object) -> int | None:
    """Return the google.rpc code of a job's or an operation's ``error``, also if it is given by name."""
    code = as_mapping(error).get("code")
    named = (number for number, name in _CODES.items() if name == code)
    return next(named, None) or as_int(code)


def status_error(operation: Mapping[str, Any]) -> object | None:
    """Return why an operation has failed, ``None`` if it has not.

    An empty google.rpc.Status, and one with the code 0, says OK:
    https://github.com/googleapis/googleapis/blob/master/google/rpc/status.proto
    """
    error = operation.get("error")
    return None if not error or (isinstance(error, Mapping) and as_int(error.get("code")) == 0) else error


def code_name(code: int | None) -> str:
    """Return the canonical name of a google.rpc code."""
    return _CODES.get(code or 0, f"code {code}" if code else "no error code")


def uploaded_model(job: Mapping[str, Any]) -> str | None:
    """Return the model of a job that failed only after the model was there, ``None`` for any other job.

    The service reports so a model that it could not deploy: tuned, uploaded to the Model Registry, and paid for.

    :param job: the job as the API returned it.
    """
    model = as_text(as_mapping(job.get("tunedModel")).get("model"))
    return model if job.get("state") == JobState.FAILED.value else None


def is_permanent(job: Mapping[str, Any]) -> bool:
    """Whether a retry must not run a failed job again: it would fail in the same way, or its model is there.

    :param job: the job as the API returned it.
    """
    return uploaded_model(job) is not None or error_code(job.get("error")) in _PERMANENT


def describe(job: Mapping[str, Any], *, retry: str) -> str:
    """Say how a job ended: state, the API's words, model, dataset, dropped examples, link, what a retry does.

    :param job: the job as the API returned it.
    :param retry: a sentence on what a retry of the task will do; empty for none.
    """
    error = job.get("error")
    lines = [f"Tuning job {job.get('name')} {has_ended_in_words(str(job.get('state')))}."]
    if isinstance(error, Mapping) and error:
        message = shorten(str(error.get("message") or "no message"), 4000)
        lines.append(f"The API says: {code_name(error_code(error))}: {message}")
    elif error:
        lines.append(f"The API says: {shorten(str(error), 4000)}")
    if model := uploaded_model(job):
        endpoint = as_text(as_mapping(job.get("tunedModel")).get("endpoint"))
        use = (
            f"call {endpoint}"
            if endpoint
            else "deploy it from the Model Registry to an endpoint, and call that"
        )
        lines.append(f"Tuned model: {model} {tuned_model_url(model) or ''}".rstrip())
        lines.append(f"It has been tuned and paid for: {use}.")
    if uri := training_dataset(job):
        lines.append(f"Training dataset: {uri}")
    reasons = as_list(data_stats(job).get("droppedExampleReasons"))
    if reasons:
        more = f" (and {len(reasons) - _SHOWN_REASONS} more)" if len(reasons) > _SHOWN_REASONS else ""
        shown = "; ".join(shorten(str(reason)) for reason in reasons[:_SHOWN_REASONS])
        lines.append(f"Dropped examples: {shown}{more}")
    if url := tuning_job_url(job.get("name")):
        lines.append(f"Console: {url}")
    lines.append("It has ended and costs nothing more.")
    if retry:
        lines.append(retry)
    return "\n".join(lines)
