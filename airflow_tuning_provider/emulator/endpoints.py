"""The endpoints that serve tuned models: one for each checkpoint of a job."""

from __future__ import annotations

from typing import Any

from airflow_tuning_provider.emulator import registry
from airflow_tuning_provider.emulator.clock import now
from airflow_tuning_provider.emulator.errors import ApiError, failed_precondition, found_errors, not_found
from airflow_tuning_provider.emulator.fieldmask import apply_mask, parse_mask
from airflow_tuning_provider.emulator.filters import Subject, parse_filter
from airflow_tuning_provider.emulator.jobs import Jobs
from airflow_tuning_provider.emulator.lifecycle import JobRecord, view
from airflow_tuning_provider.emulator.longrunning import LongRunning
from airflow_tuning_provider.emulator.names import project_number
from airflow_tuning_provider.emulator.pages import page_size, page_token, read_page_token
from airflow_tuning_provider.emulator.resources import checkpoint_count, endpoint_name

Json = dict[str, Any]


class Endpoints:
    """Get, list, undeploy from and delete endpoints."""

    def __init__(self, jobs: Jobs, operations: LongRunning) -> None:
        self._jobs = jobs
        self._store = jobs.store
        self._operations = operations

    def get(self, project: str, location: str, id_: str) -> Json:
        """Return an endpoint."""
        job, checkpoint = self._find(project, location, id_)
        return registry.endpoint(job, checkpoint, now())

    def list(self, project: str, location: str, query: dict[str, str], version: str) -> Json:
        """Return one page of a location's endpoints, newest first."""
        text, size = query.get("filter", ""), page_size(query.get("pageSize", ""))
        parsed, before = parse_filter(text), read_page_token(query.get("pageToken", ""), text)
        wanted, time = parse_mask(query.get("readMask", ""), "Endpoint", version), now()
        self._jobs.settle_all()
        here = f"projects/{project_number(project)}/locations/{location}/"
        found = []
        for job in sorted(self._store.jobs(), key=lambda job: job.place, reverse=True):
            if not parsed.matches(_subject(job, time)):
                continue
            for checkpoint in range(checkpoint_count(job), 0, -1):
                # A job's endpoints are its neighbours in the list: the place of each is the job's and its number.
                place = (job.created, job.sequence * 100 + checkpoint)
                if (
                    endpoint_name(job, checkpoint).startswith(here)
                    and registry.has_endpoint(job, checkpoint, time)
                    and (before is None or place < before)
                ):
                    found.append((place, job, checkpoint))
        answer: Json = {}
        if found:
            shown = [registry.endpoint(job, checkpoint, time) for _, job, checkpoint in found[:size]]
            answer["endpoints"] = [apply_mask(wanted, endpoint) for endpoint in shown]
        if len(found) > size:
            answer["nextPageToken"] = page_token(found[size - 1][0], text)
        return answer

    def undeploy(self, project: str, location: str, id_: str, body: Json, version: str) -> Json:
        """Take the model off an endpoint."""
        job, checkpoint = self._find(project, location, id_)
        asked = body.get("deployedModelId")
        if not asked:
            raise found_errors([("deployed_model_id", "Required field is not set.")])
        known = registry.deployed_model_id(job, checkpoint)
        if asked != known or not registry.serves(job, checkpoint, now()):
            raise not_found(f"The DeployedModel does not exist in the Endpoint: {asked}")
        operation = self._operations.start(
            endpoint_name(job, checkpoint), version, "UndeployModelOperationMetadata", "UndeployModelResponse"
        )
        self._change(job, "undeployed", checkpoint)
        return operation

    def delete(self, project: str, location: str, id_: str, version: str) -> Json:
        """Delete an endpoint that has no model."""
        job, checkpoint = self._find(project, location, id_)
        name = endpoint_name(job, checkpoint)
        if registry.serves(job, checkpoint, now()):
            raise failed_precondition(
                f"The Endpoint {name} has deployed or being-deployed DeployedModel(s). Undeploy them first."
            )
        empty = "google.protobuf.Empty"
        operation = self._operations.start(name, version, "DeleteOperationMetadata", empty)
        self._change(job, "gone", checkpoint)
        return operation

    def _find(self, project: str, location: str, id_: str) -> tuple[JobRecord, int]:
        self._jobs.settle_all()
        found = self._store.endpoint(id_)
        name = f"projects/{project_number(project)}/locations/{location}/endpoints/{id_}"
        if (
            found is None
            or endpoint_name(*found) != name
            or not registry.has_endpoint(found[0], found[1], now())
        ):
            raise _no_endpoint(project, location, id_)
        return found

    def _change(self, job: JobRecord, what: str, checkpoint: int) -> None:
        times = {**job.registry.get(what, {}), str(checkpoint): now() + self._operations.seconds}
        job.registry = {**job.registry, what: times}
        self._store.save(job)


def _subject(job: JobRecord, time: float) -> Subject:
    at = view(job, time)
    return Subject(at.state, registry.display_name(job), at.updated, at.updated, registry.labels(job))


def _no_endpoint(project: str, location: str, id_: str) -> ApiError:
    return not_found(f"The Endpoint does not exist: projects/{project}/locations/{location}/endpoints/{id_}")
