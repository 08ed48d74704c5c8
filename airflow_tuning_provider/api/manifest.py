"""The result of a tuning job: small, stable, the same in every mode."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypedDict

import pendulum

from airflow_tuning_provider.api.inputs import InvalidInputError, as_int, as_list, as_mapping, as_text
from airflow_tuning_provider.api.names import ModelName
from airflow_tuning_provider.api.tuning_job import specs

# pendulum alone takes a time of day for today's, a date for its midnight, and a time without offset for UTC.
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
    r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)


class Checkpoint(TypedDict):
    """A checkpoint of the tuned model."""

    checkpoint_id: str | None
    """Its id, such as ``"2"``."""
    epoch: int | None
    """Passes over the data after which it was saved."""
    step: int | None
    """Training steps after which it was saved."""
    endpoint: str | None
    """What it is called on, if it is deployed."""


class Manifest(TypedDict):
    """What downstream tasks need of a job. Every key is always there, ``None`` where unknown."""

    tuning_job_name: str | None
    """``projects/P/locations/L/tuningJobs/ID``."""
    state: str | None
    """The API's JobState, such as ``JOB_STATE_SUCCEEDED``."""
    base_model: str | None
    """The model that was tuned, or what the model tuned further was made from."""
    hyper_parameters: dict[str, Any]
    """The effective ones as the server filled them in, in snake_case: ``epoch_count``, ``adapter_size`` …"""
    tuned_model_display_name: str | None
    """Name of the tuned model."""
    tuned_model: str | None
    """Model Registry name with its version: ``projects/P/locations/L/models/ID@VERSION``."""
    tuned_model_version: str | None
    """That version."""
    endpoint: str | None
    """What ``generateContent`` is called on: the endpoint of the default checkpoint."""
    checkpoints: list[Checkpoint]
    """The checkpoints that were kept."""
    create_time: str | None
    """When the job was created, RFC 3339."""
    start_time: str | None
    """When it first ran, RFC 3339."""
    end_time: str | None
    """When it ended, RFC 3339."""
    pending_seconds: float | None
    """Seconds from its creation to its start, or to its end if it never ran."""
    running_seconds: float | None
    """Seconds from its start to its end."""
    example_count: int | None
    """Examples in the training dataset."""
    billable_token_count: int | None
    """Billable tokens of one pass over the data; times the epochs for an estimate of the cost."""
    truncated_example_count: int | None
    """Examples that were cut because they were too long."""
    dropped_example_count: int | None
    """Examples that were left out."""
    labels: dict[str, str]
    """The job's labels, ours among them."""


def manifest(job: Mapping[str, Any]) -> Manifest:
    """Return the result of a job, whatever the server made of its fields.

    :param job: a TuningJob as the API returned it.
    """
    tuned = as_mapping(job.get("tunedModel"))
    stats = data_stats(job)
    created, started, ended = (parse_time(job.get(key)) for key in ("createTime", "startTime", "endTime"))
    dropped = as_list(stats.get("droppedExampleIndices")) or as_list(stats.get("droppedExampleReasons"))
    sources = (
        job.get("baseModel"),
        as_mapping(job.get("preTunedModel")).get("baseModel"),
        job.get("customBaseModel"),
    )
    return {
        "tuning_job_name": as_text(job.get("name")),
        "state": as_text(job.get("state")),
        "base_model": next(filter(None, map(as_text, sources)), None),
        "hyper_parameters": _hyper_parameters(job),
        "tuned_model_display_name": as_text(job.get("tunedModelDisplayName")),
        "tuned_model": as_text(tuned.get("model")),
        "tuned_model_version": _version(tuned.get("model")),
        "endpoint": as_text(tuned.get("endpoint")),
        "checkpoints": [
            _checkpoint(item) for item in as_list(tuned.get("checkpoints")) if isinstance(item, Mapping)
        ],
        "create_time": as_text(job.get("createTime")),
        "start_time": as_text(job.get("startTime")),
        "end_time": as_text(job.get("endTime")),
        "pending_seconds": _seconds(created, started or ended),
        "running_seconds": _seconds(started, ended),
        "example_count": as_int(stats.get("tuningDatasetExampleCount")),
        "billable_token_count": as_int(stats.get("totalBillableTokenCount")),
        "truncated_example_count": as_int(stats.get("totalTruncatedExampleCount")) or (0 if stats else None),
        "dropped_example_count": len(dropped) if stats else None,
        "labels": {
            key: value for key, value in as_mapping(job.get("labels")).items() if isinstance(value, str)
        },
    }


def data_stats(job: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the job's data statistics, whatever its kind of tuning; empty if there are none yet."""
    for stats in as_mapping(job.get("tuningDataStats")).values():
        if isinstance(stats, Mapping):
            return as_mapping(stats.get("trainingDatasetStats")) or stats  # distillation nests them once more
    return {}


def parse_time(value: object) -> float | None:
    """Return a time as epoch seconds, ``None`` if ``value`` is not an RFC 3339 time."""
    if not isinstance(value, str) or not _RFC3339.fullmatch(value):
        return None
    try:
        moment = pendulum.parse(value.upper(), exact=True)
    except ValueError:  # no such day, or no such time of it
        return None
    return moment.timestamp() if isinstance(moment, pendulum.DateTime) else None


def in_words(seconds: float | None) -> str:
    """Return a duration in ``seconds`` as people say it: ``2 min 5 s``."""
    if seconds is None:
        return "unknown time"
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, rest_of_day = divmod(hours, 24)
    if days > 1:
        parts = ((days, "days"), (rest_of_day, "h"))
    elif hours:
        parts = ((hours, "h"), (minutes, "min"))
    else:
        parts = ((minutes, "min"), (rest, "s"))
    return " ".join(f"{value} {unit}" for value, unit in parts if value) or "0 s"


def _hyper_parameters(job: Mapping[str, Any]) -> dict[str, Any]:
    given = (as_mapping(spec.get("hyperParameters")) for _, spec in specs(job))
    return {_snake(name): _int64(value) for name, value in next(filter(None, given), {}).items()}


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def _int64(value: Any) -> Any:
    whole = as_int(value) if isinstance(value, str) else None  # as proto JSON has it
    return value if whole is None else whole


def _version(model: object) -> str | None:
    try:
        return ModelName.parse(model, field="tunedModel.model").version
    except InvalidInputError:
        return None


def _checkpoint(item: Mapping[str, Any]) -> Checkpoint:
    return {
        "checkpoint_id": as_text(item.get("checkpointId")),
        "epoch": as_int(item.get("epoch")),
        "step": as_int(item.get("step")),
        "endpoint": as_text(item.get("endpoint")),
    }


def _seconds(start: float | None, end: float | None) -> float | None:
    return round(end - start, 3) if start is not None and end is not None else None
