"""Jobs that a test puts in directly: no quota, no checks, no data read."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from airflow_tuning_provider.emulator.backfill import accept_data, back_fill, made_up_data
from airflow_tuning_provider.emulator.clock import now, parse_rfc3339
from airflow_tuning_provider.emulator.errors import invalid_argument
from airflow_tuning_provider.emulator.lifecycle import JobRecord, pin
from airflow_tuning_provider.emulator.models import DEFAULT_MODEL
from airflow_tuning_provider.emulator.names import model_id, new_id, project_number
from airflow_tuning_provider.emulator.protojson import parse
from airflow_tuning_provider.emulator.schema import camel_case
from airflow_tuning_provider.emulator.validation import tuning_spec

_PARENT = re.compile(r"projects/([^/]+)/locations/([^/]+)")
_MAX_COUNT = 1_000_000
_SPEC = {"trainingDatasetUri": "gs://bucket/train.jsonl"}


@dataclass(frozen=True)
class Seed:
    """A checked request for seeds."""

    project: str
    location: str
    job: dict[str, Any]
    count: int

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Seed:
        """Read a control request; refuse a bad one by the name of the field."""
        parent, job, count = body.get("parent"), body.get("job", {}), body.get("count", 1)
        match = _PARENT.fullmatch(parent) if isinstance(parent, str) else None
        if match is None:
            raise invalid_argument(f"parent: must be projects/PROJECT/locations/LOCATION, got {parent!r}.")
        if not isinstance(job, dict):
            raise invalid_argument(f"job: must be a TuningJob, got {job!r}.")
        if isinstance(count, bool) or not isinstance(count, int) or not 0 < count <= _MAX_COUNT:
            raise invalid_argument(f"count: must be a whole number from 1 to {_MAX_COUNT}, got {count!r}.")
        return cls(match[1], match[2], job, count)

    def records(self, speed: float) -> list[JobRecord]:
        """Return the jobs, all alike but for their ids."""
        given = {camel_case(key): value for key, value in self.job.items()}
        body = parse("TuningJob", self.job, "v1beta1", "job")
        if "preTunedModel" not in body:
            body.setdefault("baseModel", DEFAULT_MODEL)
        if not tuning_spec(body)[0]:
            body["supervisedTuningSpec"] = dict(_SPEC)
        created = _created(given.pop("createTime", None))
        number = project_number(self.project)
        first = JobRecord("", number, self.location, body, created, speed, admitted=created)
        first.base_model = model_id(body.get("baseModel", DEFAULT_MODEL))
        back_fill(first)
        accept_data(first, made_up_data(first), created)
        if given.get("state") is not None:
            pin(first, _state(given.pop("state")), _error(given.pop("error", None)), created)
        # What only the service sets otherwise: shown as given.
        first.overlay = {key: value for key, value in given.items() if value is None or key not in body}
        return [replace(first, id=new_id(), model=new_id()) for _ in range(self.count)]


def _created(value: Any) -> float:
    if value is None:
        return now()
    try:
        return parse_rfc3339(value)
    except (TypeError, ValueError, OverflowError) as e:
        raise invalid_argument(f"job.createTime: must be an RFC 3339 time, got {value!r}.") from e


def _state(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise invalid_argument(f"job.state: must be a job state such as JOB_STATE_RUNNING, got {value!r}.")
    return value


def _error(value: Any) -> dict[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise invalid_argument(f"job.error: must be an object with code and message, got {value!r}.")
    return value
