"""Render a job record as the TuningJob resource that the API gives."""

from __future__ import annotations

import math
from typing import Any

from airflow_tuning_provider.emulator.clock import rfc3339
from airflow_tuning_provider.emulator.fieldmask import Tree
from airflow_tuning_provider.emulator.lifecycle import SUCCESS, JobRecord, View, tuning_job_state, view
from airflow_tuning_provider.emulator.names import derived_id, endpoint_location
from airflow_tuning_provider.emulator.protojson import prune
from airflow_tuning_provider.emulator.validation import tuning_spec

# A job of fewer epochs has a checkpoint for each; a longer one about this many, evenly spread.
MAX_CHECKPOINTS = 10


def tuning_job(
    job: JobRecord, now: float, version: str = "v1beta1", mask: Tree | None = None
) -> dict[str, Any]:
    """Return the resource at a moment, as the given API version shows it; unset fields are left out.

    :param mask: which fields are wanted: what is costly is not rendered in vain
    """
    at = view(job, now)
    resource: dict[str, Any] = {"name": job.name}
    resource |= prune("TuningJob", job.body, version)
    resource |= {"state": at.state, "createTime": rfc3339(job.created)}
    if at.started is not None:
        resource["startTime"] = rfc3339(at.started)
        resource["experiment"] = _experiment(job)
    if at.ended is not None:
        resource["endTime"] = rfc3339(at.ended)
    resource["updateTime"] = rfc3339(at.updated)
    if at.error:
        resource["error"] = at.error
    if at.state in SUCCESS and (mask is None or "tunedModel" in mask):
        resource["tunedModel"] = tuned_model(job, mask and mask["tunedModel"])
    if at.started is not None and job.stats and _stats_visible(job, version):
        resource["tuningDataStats"] = job.stats
    if version == "v1beta1":
        _add_beta(resource, job, at)
    return resource


def shown(job: JobRecord, now: float, version: str, mask: Tree | None = None) -> dict[str, Any]:
    """Return the resource as get and list show it: with what a test has laid over it."""
    resource = tuning_job(job, now, version, mask)
    return merge_patch(resource, job.overlay) if job.overlay else resource


def merge_patch(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7396): objects are merged, null removes, anything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def _stats_visible(job: JobRecord, version: str) -> bool:
    return version != "v1" or not ({"distillationDataStats", "reinforcementTuningDataStats"} & set(job.stats))


def _add_beta(resource: dict[str, Any], job: JobRecord, at: View) -> None:
    fine = tuning_job_state(job, at)
    if fine:
        resource["tuningJobState"] = fine
    if at.started is not None:
        done = {
            "completedEpochCount": int(at.progress * job.epochs),
            "completedStepCount": int(at.progress * job.steps),
        }
        resource["tuningJobMetadata"] = {key: str(count) for key, count in done.items() if count}


def _experiment(job: JobRecord) -> str:
    stamp = "".join(c for c in rfc3339(job.created) if c.isdigit())
    store = f"projects/{job.number}/locations/{job.location}/metadataStores/default"
    return f"{store}/contexts/tuning-experiment-{stamp}"


def tuned_model(job: JobRecord, mask: Tree | None = None) -> dict[str, Any]:
    """Return the job's result: the model with its version, the default endpoint and the checkpoints."""
    result: dict[str, Any] = {
        "model": f"projects/{job.number}/locations/{job.location}/models/{job.model}@{job.model_version}",
        "endpoint": endpoint_name(job, default_checkpoint(job)),
    }
    if mask is None or "checkpoints" in mask:
        result["checkpoints"] = [
            {**checkpoint, "endpoint": endpoint_name(job, int(checkpoint["checkpointId"]))}
            for checkpoint in checkpoints(job)
        ]
    return result


def checkpoint_count(job: JobRecord) -> int:
    """Return how many checkpoints, and with them endpoints, the job leaves."""
    if tuning_spec(job.body)[1].get("exportLastCheckpointOnly"):
        return 1
    return max(1, min(job.epochs, MAX_CHECKPOINTS))


def endpoint_id(job_id: str, checkpoint: int) -> str:
    """Return the id of the endpoint that serves a job's checkpoint."""
    return derived_id("endpoint", job_id, str(checkpoint))


def default_checkpoint(job: JobRecord) -> int:
    """Return the checkpoint that the tuned model stands for: the last, unless another was chosen."""
    return int(job.registry.get("checkpoint", checkpoint_count(job)))


def endpoint_name(job: JobRecord, checkpoint: int) -> str:
    """Return the name of the endpoint that serves a job's checkpoint."""
    where = endpoint_location(job.location, job.base_model)
    return f"projects/{job.number}/locations/{where}/endpoints/{endpoint_id(job.id, checkpoint)}"


def checkpoints(job: JobRecord) -> list[dict[str, Any]]:
    """Return the checkpoints that a job leaves."""
    count = checkpoint_count(job)
    return [
        {
            "checkpointId": str(i),
            "epoch": str(max(1, math.ceil(job.epochs * i / count))),
            "step": str(max(1, math.ceil(job.steps * i / count))),
        }
        for i in range(1, count + 1)
    ]
