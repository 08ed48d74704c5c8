"""Why a job ended without a model, told so that an operator of the pipeline can act on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_tuning_provider.api.console import tuning_job_url
from airflow_tuning_provider.api.inputs import as_int, shorten
from airflow_tuning_provider.api.manifest import as_list, data_stats
from airflow_tuning_provider.api.states import has_ended_in_words
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
    """Return the google.rpc code of a job's or an operation's ``error``."""
    return as_int(error.get("code")) if isinstance(error, Mapping) else None


def code_name(code: int | None) -> str:
    """Return the canonical name of a google.rpc code."""
    return _CODES.get(code or 0, f"code {code}" if code else "no error code")


def is_permanent(error: object) -> bool:
    """Whether running the same job again must fail in the same way.

    :param error: the job's ``error``.
    """
    return error_code(error) in _PERMANENT


def describe(job: Mapping[str, Any], *, retry: str) -> str:
    """Say how a job ended: state, the API's words, dataset, dropped examples, link, what a retry does.

    :param job: the job as the API returned it.
    :param retry: a sentence on what a retry of the task will do; empty for none.
    """
    error = job.get("error") if isinstance(job.get("error"), Mapping) else None
    lines = [f"Tuning job {job.get('name')} {has_ended_in_words(str(job.get('state')))}."]
    if error:
        message = shorten(str(error.get("message") or "no message"), 4000)
        lines.append(f"The API says: {code_name(error_code(error))}: {message}")
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
