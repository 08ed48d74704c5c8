"""What Vertex AI checks in a well-formed TuningJob before it accepts it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from airflow_tuning_provider.emulator.errors import found_errors
from airflow_tuning_provider.emulator.schema import MESSAGES, ONEOFS, Field, snake_case

Violation = tuple[str, str]

_REQUIRED = "Required field is not set."
_DATASET_RESOURCE = re.compile(r"projects/[^/]+/locations/[^/]+/datasets/[^/]+")
_GCS_JSONL = re.compile(r"gs://[a-z0-9][a-z0-9._-]*/.+\.jsonl", re.DOTALL)
_KMS_KEY = re.compile(r"projects/[^/]+/locations/([^/]+)/keyRings/[^/]+/cryptoKeys/[^/]+")
_MAX_LABELS = 64
_MAX_LABEL_LENGTH = 64
_MAX_DISPLAY_NAME = 128

TUNING_SPECS = ONEOFS["TuningJob"]["tuning_spec"]


def tuning_spec(job: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name and the value of the job's tuning spec."""
    for name in TUNING_SPECS:
        if name in job:
            return name, job[name]
    return "", {}


def check_job(job: dict[str, Any], location: str) -> None:
    """Raise Google's 400 for a job that Vertex AI would not accept, whatever its model."""
    violations = [
        *_check_sources(job),
        *_check_required("TuningJob", job, "tuning_job"),
        *_check_dataset_uris(job),
        *_check_hyper_parameters(job),
        *_check_labels(job.get("labels", {})),
        *_check_display_name(job.get("tunedModelDisplayName", "")),
        *_check_key(job.get("encryptionSpec", {}).get("kmsKeyName"), location),
        *_check_evaluation(job),
    ]
    if violations:
        raise found_errors(violations)


def _check_sources(job: dict[str, Any]) -> Iterator[Violation]:
    if not job.get("baseModel") and "preTunedModel" not in job:
        yield "tuning_job.base_model", _REQUIRED
    if "preTunedModel" in job and not job["preTunedModel"].get("tunedModelName"):
        yield "tuning_job.pre_tuned_model.tuned_model_name", _REQUIRED
    if not tuning_spec(job)[0]:
        yield "tuning_job.tuning_spec", _REQUIRED


def _check_required(message: str, value: dict[str, Any], path: str) -> Iterator[Violation]:
    for field in MESSAGES[message].values():
        where = f"{path}.{field.snake}"
        if field.required and field.name not in value:
            yield where, _REQUIRED
        elif field.name in value:
            yield from _check_nested(field, value[field.name], where)


def _check_nested(field: Field, value: Any, path: str) -> Iterator[Violation]:
    inner = field.type.strip("[]")
    if inner not in MESSAGES:
        return
    if isinstance(value, list):
        for i, item in enumerate(value):
            yield from _check_required(inner, item, f"{path}[{i}]")
    else:
        yield from _check_required(inner, value, path)


def is_dataset_resource(uri: str) -> bool:
    """Tell a Vertex multimodal dataset's resource name from a URI."""
    return _DATASET_RESOURCE.fullmatch(uri) is not None


def _check_dataset_uris(job: dict[str, Any]) -> Iterator[Violation]:
    name, spec = tuning_spec(job)
    for key in ("trainingDatasetUri", "validationDatasetUri", "promptDatasetUri"):
        uri = spec.get(key)
        if uri and not is_dataset_resource(uri) and not _GCS_JSONL.fullmatch(uri):
            field = snake_case(key)
            yield (
                f"tuning_job.{snake_case(name)}.{field}",
                f"{field} should be a GCS object of type JSONL.",
            )


def _check_hyper_parameters(job: dict[str, Any]) -> Iterator[Violation]:
    name, spec = tuning_spec(job)
    if name == "partnerModelTuningSpec":
        return
    path = f"tuning_job.{snake_case(name)}.hyper_parameters"
    for key, value in spec.get("hyperParameters", {}).items():
        if key == "adapterSize" or (isinstance(value, str) and not value.lstrip("-").isdigit()):
            if value in ("NaN", "Infinity", "-Infinity"):
                yield f"{path}.{snake_case(key)}", f"{snake_case(key)} must be a finite number."
        elif float(value) < 0 or not math.isfinite(float(value)):
            yield f"{path}.{snake_case(key)}", f"{snake_case(key)} must be positive, got {value}."


def _check_labels(labels: dict[str, str]) -> Iterator[Violation]:
    if len(labels) > _MAX_LABELS:
        yield "tuning_job.labels", f"At most {_MAX_LABELS} labels are allowed, got {len(labels)}."
    for key, value in labels.items():
        if not key or not key[0].isalpha() or not _is_label_text(key):
            yield (
                "tuning_job.labels",
                f"Label key '{key}' must start with a lowercase letter, contain only lowercase letters, "
                f"digits, underscores and dashes, and be at most {_MAX_LABEL_LENGTH} characters long.",
            )
        if not _is_label_text(value):
            yield (
                "tuning_job.labels",
                f"Label value '{value}' must contain only lowercase letters, digits, underscores and "
                f"dashes, and be at most {_MAX_LABEL_LENGTH} characters long.",
            )


def _is_label_text(text: str) -> bool:
    # International letters without case are fine; anything that has a lowercase form is not.
    return len(text) <= _MAX_LABEL_LENGTH and all(
        c in "_-" or (c.isalnum() and c == c.lower() and not c.istitle()) for c in text
    )


def _check_display_name(name: str) -> Iterator[Violation]:
    if len(name) > _MAX_DISPLAY_NAME:
        yield (
            "tuning_job.tuned_model_display_name",
            f"tuned_model_display_name must be at most {_MAX_DISPLAY_NAME} characters long, got {len(name)}.",
        )


def _check_key(key: str | None, location: str) -> Iterator[Violation]:
    if not key:
        return
    match = _KMS_KEY.fullmatch(key)
    if match is None or match[1] != location:
        yield (
            "tuning_job.encryption_spec.kms_key_name",
            f"kms_key_name must be a Cloud KMS key in the job's region, {location}.",
        )


def _check_evaluation(job: dict[str, Any]) -> Iterator[Violation]:
    name, spec = tuning_spec(job)
    path = f"tuning_job.{snake_case(name)}.evaluation_config"
    config = spec.get("evaluationConfig", {})
    count = config.get("autoraterConfig", {}).get("samplingCount")
    if count is not None and not 1 <= count <= 32:
        yield (
            f"{path}.autorater_config.sampling_count",
            f"sampling_count must be between 1 and 32, got {count}.",
        )
    output = config.get("outputConfig")
    if output is not None:
        prefix = output.get("gcsDestination", {}).get("outputUriPrefix", "")
        if not prefix.startswith("gs://"):
            yield (
                f"{path}.output_config.gcs_destination.output_uri_prefix",
                "output_uri_prefix should be a GCS URI." if prefix else _REQUIRED,
            )
