"""What the Model Registry knows of a job's model: a version, its aliases, what of it is deployed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_tuning_provider.emulator.clock import rfc3339
from airflow_tuning_provider.emulator.lifecycle import SUCCESS, JobRecord, view
from airflow_tuning_provider.emulator.names import derived_id
from airflow_tuning_provider.emulator.resources import (
    checkpoint_count,
    checkpoints,
    default_checkpoint,
    endpoint_name,
)

# A job's ``registry`` holds, each only where something was done: "aliases", "default" (whether it was made the
# default version), "checkpoint" (the default one), "fields" (what a patch has set), "updated", "deleted", and, by
# checkpoint, when its model was "undeployed" and its endpoint "gone".


def exists(job: JobRecord, now: float) -> bool:
    """Whether a job has a model in the registry."""
    return view(job, now).state in SUCCESS and now < float(job.registry.get("deleted", "inf"))


def serves(job: JobRecord, checkpoint: int, now: float) -> bool:
    """Whether an endpoint still has its model."""
    return now < float(job.registry.get("undeployed", {}).get(str(checkpoint), "inf"))


def has_endpoint(job: JobRecord, checkpoint: int, now: float) -> bool:
    """Whether a checkpoint's endpoint exists."""
    made = view(job, now).state in SUCCESS and 1 <= checkpoint <= checkpoint_count(job)
    return made and now < float(job.registry.get("gone", {}).get(str(checkpoint), "inf"))


def deployed(job: JobRecord, now: float) -> Iterator[int]:
    """Iterate over the checkpoints that are deployed."""
    for checkpoint in range(1, checkpoint_count(job) + 1):
        if has_endpoint(job, checkpoint, now) and serves(job, checkpoint, now):
            yield checkpoint


def deployed_model_id(job: JobRecord, checkpoint: int) -> str:
    """Return the id by which an endpoint knows its model: ten digits."""
    return derived_id("deployed", job.id, str(checkpoint))[:10]


def display_name(job: JobRecord) -> str:
    """Return the model's display name."""
    name: str = job.registry.get("fields", {}).get("displayName", job.body["tunedModelDisplayName"])
    return name


def labels(job: JobRecord) -> dict[str, str]:
    """Return the model's labels: the job's, unless others were set."""
    found: dict[str, str] = job.registry.get("fields", {}).get("labels", job.body.get("labels", {}))
    return found


def model_name(job: JobRecord) -> str:
    """Return the model's name, without a version."""
    return f"projects/{job.number}/locations/{job.location}/models/{job.model}"


def model(job: JobRecord, default: bool, first: JobRecord, now: float, *, versioned: bool) -> dict[str, Any]:
    """Return a version of a model as the API shows it.

    :param default: whether it is the model's default version
    :param first: the model's oldest version
    :param versioned: whether the name has the version, as in a list of versions
    """
    name, created = model_name(job), view(job, now).updated
    aliases = ["default"] * default + list(job.registry.get("aliases", []))
    resource: dict[str, Any] = {
        "name": f"{name}@{job.model_version}" if versioned else name,
        "displayName": display_name(job),
        "versionId": str(job.model_version),
        "createTime": rfc3339(view(first, now).updated),
        "versionCreateTime": rfc3339(created),
        "updateTime": rfc3339(job.registry.get("updated", created)),
        "versionUpdateTime": rfc3339(job.registry.get("updated", created)),
        "etag": derived_id("etag", job.id, str(job.registry.get("updated", 0))),
        "checkpoints": checkpoints(job),
        "defaultCheckpointId": str(default_checkpoint(job)),
    }
    resource |= {key: value for key, value in job.registry.get("fields", {}).items() if key != "labels"}
    if aliases:
        resource["versionAliases"] = aliases
    if labels(job):
        resource["labels"] = labels(job)
    references = [
        {
            "endpoint": endpoint_name(job, i),
            "deployedModelId": deployed_model_id(job, i),
            "checkpointId": str(i),
        }
        for i in deployed(job, now)
    ]
    if references:
        resource["deployedModels"] = references
    return resource


def endpoint(job: JobRecord, checkpoint: int, now: float) -> dict[str, Any]:
    """Return a checkpoint's endpoint as the API shows it."""
    created = view(job, now).updated
    resource: dict[str, Any] = {
        "name": endpoint_name(job, checkpoint),
        "displayName": display_name(job),
        "createTime": rfc3339(created),
        "updateTime": rfc3339(created),
    }
    if labels(job):
        resource["labels"] = labels(job)
    if serves(job, checkpoint, now):
        id_ = deployed_model_id(job, checkpoint)
        resource["trafficSplit"] = {id_: 100}
        resource["deployedModels"] = [
            {
                "id": id_,
                "model": model_name(job),
                "modelVersionId": str(job.model_version),
                "displayName": display_name(job),
                "createTime": rfc3339(created),
                "checkpointId": str(checkpoint),
            }
        ]
    return resource
