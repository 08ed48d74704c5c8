"""The result of a tuning job: small, stable, the same in every mode."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from airflow_tuning_provider.api.inputs import InvalidInputError, as_int
from airflow_tuning_provider.api.names import ModelName

Manifest = dict[str, Any]

# Strict: a time of day alone, for instance, would otherwise mean today's.
_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]{1,9})?"
    r"(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)


def manifest(job: Mapping[str, Any]) -> Manifest:
    """Return what downstream tasks need of a job; every key is always there, ``None`` where unknown.

    :param job: a TuningJob as the API returned it.
    :return: ``tuning_job_name``, ``state``, ``base_model``, ``tuned_model_display_name``,
        ``tuned_model`` (Model Registry name with version), ``tuned_model_version``, ``endpoint`` (what
        ``generateContent`` is called on), ``checkpoints``, ``create_time``, ``start_time``, ``end_time``
        (RFC 3339), ``pending_seconds``, ``running_seconds``, ``example_count``,
        ``billable_token_count`` (one pass over the data; multiply by the epochs for a cost estimate),
        ``truncated_example_count``, ``dropped_example_count``, ``labels``.
    """
    tuned = _mapping(job.get("tunedModel"))
    pre_tuned = _mapping(job.get("preTunedModel"))
    stats = data_stats(job)
    created, started, ended = (parse_time(job.get(key)) for key in ("createTime", "startTime", "endTime"))
    dropped = as_list(stats.get("droppedExampleIndices")) or as_list(stats.get("droppedExampleReasons"))
    return {
        "tuning_job_name": job.get("name"),
        "state": job.get("state"),
        "base_model": job.get("baseModel") or pre_tuned.get("baseModel") or job.get("customBaseModel"),
        "tuned_model_display_name": job.get("tunedModelDisplayName"),
        "tuned_model": tuned.get("model"),
        "tuned_model_version": _version(tuned.get("model")),
        "endpoint": tuned.get("endpoint"),
        "checkpoints": [
            _checkpoint(item) for item in as_list(tuned.get("checkpoints")) if isinstance(item, Mapping)
        ],
        "create_time": job.get("createTime"),
        "start_time": job.get("startTime"),
        "end_time": job.get("endTime"),
        "pending_seconds": _seconds(created, started or ended),
        "running_seconds": _seconds(started, ended),
        "example_count": as_int(stats.get("tuningDatasetExampleCount")),
        "billable_token_count": as_int(stats.get("totalBillableTokenCount")),
        "truncated_example_count": as_int(stats.get("totalTruncatedExampleCount")) or (0 if stats else None),
        "dropped_example_count": len(dropped) if stats else None,
        "labels": dict(_mapping(job.get("labels"))),
    }


def data_stats(job: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the job's data statistics, whatever its kind of tuning; empty if there are none yet."""
    for stats in _mapping(job.get("tuningDataStats")).values():
        if isinstance(stats, Mapping):
            return _mapping(stats.get("trainingDatasetStats")) or stats  # distillation nests them once more
    return {}


def as_list(value: object) -> list[Any]:
    """Return ``value`` if it is a list; anything else that the API's JSON may hold becomes an empty one."""
    return value if isinstance(value, list) else []


def parse_time(value: object) -> float | None:
    """Return a time as epoch seconds, ``None`` if ``value`` is not an RFC 3339 time."""
    match = _RFC3339.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(match[group]) for group in range(1, 7))
    fraction, sign, hours, minutes = match.groups()[6:]
    try:
        # Not fromisoformat: in Python 3.10 it knows neither "Z" nor the nanoseconds that Google may send.
        whole = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc).timestamp()
    except ValueError:
        return None
    offset = int(f"{sign}1") * (int(hours) * 3600 + int(minutes) * 60) if sign else 0
    return whole + float(f"0{fraction or ''}") - offset


def in_words(seconds: float | None) -> str:
    """Return a duration in ``seconds`` as people say it: ``2 min 5 s``."""
    if seconds is None:
        return "unknown time"
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _version(model: object) -> str | None:
    try:
        return ModelName.parse(model, field="tunedModel.model").version
    except InvalidInputError:
        return None


def _checkpoint(item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "checkpoint_id": item.get("checkpointId"),
        "epoch": as_int(item.get("epoch")),
        "step": as_int(item.get("step")),
        "endpoint": item.get("endpoint"),
    }


def _seconds(start: float | None, end: float | None) -> float | None:
    return round(end - start, 3) if start is not None and end is not None else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
