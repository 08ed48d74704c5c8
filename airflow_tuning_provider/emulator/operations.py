"""Rebasing a tuned model, and the long-running operation that it is."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

from airflow_tuning_provider.emulator.clock import now, rfc3339
from airflow_tuning_provider.emulator.errors import ApiError, found_errors, invalid_argument, not_found
from airflow_tuning_provider.emulator.jobs import Jobs
from airflow_tuning_provider.emulator.lifecycle import SUCCESS, JobRecord, view
from airflow_tuning_provider.emulator.models import rebase_target
from airflow_tuning_provider.emulator.names import new_id, project_number
from airflow_tuning_provider.emulator.resources import tuning_job
from airflow_tuning_provider.emulator.validation import TUNING_SPECS

# A path without an API version; the operation is then given as it was made.
OPERATIONS_ALIAS = "ui"
TYPES = "type.googleapis.com/google.cloud.aiplatform."
LONGEST_WAIT = 60.0
POLL = 0.05


class Operations:
    """The rebase operations. Each has a tuning job of its own, and ends with it."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self.store = jobs.store

    def rebase(self, project: str, location: str, body: dict[str, Any], version: str) -> dict[str, Any]:
        """Start to tune a tuned model's data anew on another base model."""
        source = self._source(project, location, body.get("tunedModelRef", {}))
        new = copy.deepcopy(source.body) | body.get("tuningJob", {})
        new.pop("preTunedModel", None)
        specs = [name for name in body.get("tuningJob", {}) if name in TUNING_SPECS]
        for name in [name for name in new if name in TUNING_SPECS and specs and name not in specs]:
            del new[name]
        if not body.get("tuningJob", {}).get("baseModel"):
            new["baseModel"] = rebase_target(source.base_model)
        job = self.jobs.create(project, location, new)
        id_ = new_id()
        name = f"{job.name}/operations/{id_}"
        self.store.save_operation(id_, {"name": name, "job": job.id, "version": version, "created": now()})
        return self._resource(self.store.operations[id_], version)

    def _source(self, project: str, location: str, ref: dict[str, Any]) -> JobRecord:
        if not ref:
            raise found_errors([("tuned_model_ref", "Required field is not set.")])
        number = project_number(project)
        if "tuningJob" in ref:
            return self.jobs.find(project, location, ref["tuningJob"].rpartition("/")[2])
        if "pipelineJob" in ref:
            raise not_found(f"The PipelineJob does not exist: {ref['pipelineJob']}")
        model, _, version = ref["tunedModel"].rpartition("/")[2].partition("@")
        versions = self.store.versions_of(number, location, model)
        chosen = [job for job in versions if not version or version == str(job.model_version)]
        if not chosen:
            raise not_found(f"The Model does not exist: {ref['tunedModel']}")
        return chosen[-1]

    def _find(self, project: str, location: str, job: str, id_: str) -> dict[str, Any]:
        name = f"projects/{project_number(project)}/locations/{location}/tuningJobs/{job}/operations/{id_}"
        record = self.store.operations.get(id_)
        if record is None or record["name"] != name:
            raise _no_operation(name)
        return record

    def get(self, project: str, location: str, job: str, id_: str, version: str) -> dict[str, Any]:
        """Return an operation."""
        return self._resource(self._find(project, location, job, id_), version)

    def list(self, project: str, location: str, job_id: str, version: str) -> dict[str, Any]:
        """Return the operations of a job."""
        job = self.jobs.find(project, location, job_id)
        found = [r for r in self.store.operations.values() if r["job"] == job.id]
        resources = [self._resource(record, version) for record in found]
        return {"operations": resources} if resources else {}

    def cancel(self, project: str, location: str, job: str, id_: str) -> None:
        """Cancel an operation, and its job with it; one that is done stays as it is."""
        record = self._find(project, location, job, id_)
        tuning = self.store.job(record["job"])
        if tuning is not None and not view(tuning, now()).terminal:
            self.jobs.cancel(tuning)

    def delete(self, project: str, location: str, job: str, id_: str) -> None:
        """Forget an operation; its job stays."""
        self._find(project, location, job, id_)
        self.store.save_operation(id_, None)

    async def wait(
        self, project: str, location: str, job: str, id_: str, timeout: str, version: str
    ) -> dict[str, Any]:
        """Return the operation when it is done, or after the time-out as it is then."""
        deadline = now() + min(seconds(timeout), LONGEST_WAIT)
        resource = self.get(project, location, job, id_, version)
        while not resource.get("done") and now() < deadline:
            await asyncio.sleep(POLL)
            resource = self.get(project, location, job, id_, version)
        return resource

    def _resource(self, record: dict[str, Any], version: str) -> dict[str, Any]:
        job = self.store.job(record["job"])
        if job is None:
            raise _no_operation(record["name"])
        if version == OPERATIONS_ALIAS:
            version = record["version"]
        at = view(job, now())
        resource: dict[str, Any] = {
            "name": record["name"],
            "metadata": {
                "@type": f"{TYPES}{version}.RebaseTunedModelOperationMetadata",
                "genericMetadata": {
                    "createTime": rfc3339(record["created"]),
                    "updateTime": rfc3339(max(record["created"], at.updated)),
                },
            },
        }
        if not at.terminal:
            return resource
        resource["done"] = True
        if at.state in SUCCESS:
            # v1's fields in either version: Google's v1beta1 client cannot yet unpack the newer ones.
            result = tuning_job(job, now(), "v1")
            resource["response"] = {"@type": f"{TYPES}{version}.TuningJob", **result}
        else:
            resource["error"] = at.error or {"code": 13, "message": "Internal error encountered."}
        return resource


def _no_operation(name: str) -> ApiError:
    return not_found(f"The Operation does not exist: {name}")


def seconds(text: str) -> float:
    """Return a duration of the query as seconds; the longest where there is none."""
    if not text:
        return LONGEST_WAIT
    try:
        return max(0.0, float(text.removesuffix("s")))
    except ValueError as e:
        raise invalid_argument(
            f"Invalid value at 'timeout' (type.googleapis.com/google.protobuf.Duration), \"{text}\""
        ) from e
