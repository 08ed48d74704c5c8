"""The TuningJob request body: normalised, and checked for its shape only.

Facts: the TuningJob schema of the discovery documents v1 and v1beta1. What a field may hold is Google's to say:
its list grows faster than clients follow, and its refusal costs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_tuning_provider.api.inputs import InvalidInputError, as_int, as_mapping
from airflow_tuning_provider.api.labels import check_labels
from airflow_tuning_provider.api.protojson import normalize

TuningJob = dict[str, Any]
"""A tuning job as the API's own JSON."""

ADAPTER_SIZES = {
    1: "ADAPTER_SIZE_ONE",
    2: "ADAPTER_SIZE_TWO",
    4: "ADAPTER_SIZE_FOUR",
    8: "ADAPTER_SIZE_EIGHT",
    16: "ADAPTER_SIZE_SIXTEEN",
    32: "ADAPTER_SIZE_THIRTY_TWO",
}


def checked(body: object, field: str = "tuning_job") -> TuningJob:
    """Return a whole request body as it is sent: normalised, adapter ranks by name.

    :param body: a TuningJob in camelCase, snake_case or a mixture.
    :param field: how errors call the body.
    :raises InvalidInputError: if it is no JSON object, has a number for an adapter size that is no rank, or
        labels beside which ours could not be put.
    """
    job = normalize(body, field) if isinstance(body, Mapping) else None
    if not job:
        raise InvalidInputError(field, body, "give the TuningJob request body as a non-empty dict")
    for name, parameters in hyper_parameters(job):
        size = parameters.get("adapterSize")
        # On the wire a bare number is the enum's own: 4 means SIXTEEN there, and a rank to everybody else.
        if isinstance(parameters, dict) and (isinstance(size, (int, float)) or as_int(size) is not None):
            parameters["adapterSize"] = adapter_size(size, f"{field}.{name}.hyperParameters.adapterSize")
    if "labels" in job:
        check_labels(job["labels"], f"{field}.labels")
    return job


def adapter_size(value: object, field: str) -> str:
    """Return the enum name for ``value``: a rank (1, 2, 4, 8, 16, 32, also as text) or an enum name.

    :param field: how errors call the value.
    :raises InvalidInputError: for any other size.
    """
    if isinstance(value, str) and re.fullmatch(r"ADAPTER_SIZE_[A-Z_]+", value):
        return value
    if (rank := as_int(value)) in ADAPTER_SIZES:
        return ADAPTER_SIZES[rank]
    ranks = ", ".join(map(str, ADAPTER_SIZES))
    raise InvalidInputError(field, value, f"give one of {ranks}, or a name such as 'ADAPTER_SIZE_FOUR'")


def specs(job: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the name and value of each spec of a job that says how it is tuned."""
    for name, spec in job.items():
        if name.endswith("Spec") and name != "encryptionSpec" and isinstance(spec, Mapping):
            yield name, spec


def hyper_parameters(job: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each spec's name and hyperparameters of a job, where these are the API's and not a partner's own."""
    for name, spec in specs(job):
        if name != "partnerModelTuningSpec":
            yield name, as_mapping(spec.get("hyperParameters"))


def training_dataset(job: Mapping[str, Any]) -> str | None:
    """Return the training dataset's URI of a job, whatever its spec."""
    for _, spec in specs(job):
        uri = spec.get("trainingDatasetUri") or spec.get("promptDatasetUri")
        if isinstance(uri, str):
            return uri
    return None
