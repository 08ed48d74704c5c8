"""The models of the Model Registry: what tuning jobs have made."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from airflow_tuning_provider.emulator import registry
from airflow_tuning_provider.emulator.clock import now
from airflow_tuning_provider.emulator.errors import (
    ApiError,
    failed_precondition,
    found_errors,
    invalid_argument,
    not_found,
)
from airflow_tuning_provider.emulator.fieldmask import apply_mask, parse_mask
from airflow_tuning_provider.emulator.filters import Subject, parse_filter
from airflow_tuning_provider.emulator.jobs import Jobs
from airflow_tuning_provider.emulator.lifecycle import JobRecord, view
from airflow_tuning_provider.emulator.longrunning import LongRunning
from airflow_tuning_provider.emulator.names import project_number
from airflow_tuning_provider.emulator.pages import page_size, page_token, read_page_token
from airflow_tuning_provider.emulator.resources import checkpoint_count, checkpoints

_ALIAS = re.compile(r"[a-z](?:[a-zA-Z0-9-]{0,126}[a-z0-9])?")
_DEFAULT = "default"
_EMPTY = "google.protobuf.Empty"
# What a patch may set.
_PATCHED = ("defaultCheckpointId", "displayName", "description", "versionDescription", "labels")

Json = dict[str, Any]


class TunedModels:
    """Get, list, alias, change and delete models."""

    def __init__(self, jobs: Jobs, operations: LongRunning) -> None:
        self._jobs = jobs
        self._store = jobs.store
        self._operations = operations

    def get(self, project: str, location: str, name: str) -> Json:
        """Return a model's version: the default one where the name has none."""
        return self._show(self._find(project, location, name))

    def list(self, project: str, location: str, query: dict[str, str], version: str) -> Json:
        """Return one page of a location's models, each as its default version, newest first."""
        self._jobs.settle_all()
        number, time = project_number(project), now()
        seen: dict[str, JobRecord] = {}
        for job in self._store.newest_first((number, location)):
            if registry.exists(job, time) and job.model not in seen:
                seen[job.model] = self._default(self._versions(number, location, job.model))
        found = sorted(seen.values(), key=lambda job: job.place, reverse=True)
        return self._page(found, query, version, self._show)

    def versions(self, project: str, location: str, name: str, query: dict[str, str], version: str) -> Json:
        """Return one page of a model's versions, newest first."""
        model = name.partition("@")[0]
        found = self._versions(project_number(project), location, model)
        if not found:
            raise _no_model(project, location, name)
        return self._page(found[::-1], query, version, lambda job: self._show(job, versioned=True))

    def checkpoints(self, project: str, location: str, name: str, query: dict[str, str]) -> Json:
        """Return one page of a version's checkpoints: of the latest where the name has none."""
        latest = self._versions(project_number(project), location, name)
        job = latest[-1] if latest else self._find(project, location, name)
        found = checkpoints(job)
        size, start = page_size(query.get("pageSize", "")), query.get("pageToken", "") or "0"
        if not start.isdecimal():
            raise invalid_argument("The page token is invalid.")
        page = found[int(start) : int(start) + size]
        answer: Json = {"checkpoints": page} if page else {}
        if int(start) + size < len(found):
            answer["nextPageToken"] = str(int(start) + size)
        return answer

    def merge_aliases(self, project: str, location: str, name: str, body: Json) -> Json:
        """Give aliases to a version, which another one of the model may lose thereby, or take them away."""
        version = name.partition("@")[2]
        if not version.isdecimal():
            raise invalid_argument(f"The version ID must be in the name of the model version: {name}")
        job = self._find(project, location, name)
        asked = body.get("versionAliases", [])
        if not asked:
            raise found_errors([("version_aliases", "Required field is not set.")])
        for alias in asked:
            if not _ALIAS.fullmatch(alias.removeprefix("-")):
                raise invalid_argument(
                    f"The version alias {alias} is invalid: it must be at most 128 characters and match "
                    "[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]."
                )
        if f"-{_DEFAULT}" in asked:
            raise invalid_argument("The default alias can not be removed; assign it to another version.")
        add = {alias for alias in asked if alias[0] != "-" and f"-{alias}" not in asked}
        remove = {alias[1:] for alias in asked if alias[0] == "-" and alias[1:] not in asked}
        for other in self._versions(job.number, job.location, job.model):
            held = other.registry.get("aliases", [])
            lost = remove if other is job else add
            kept = [alias for alias in held if alias not in lost]
            gained = sorted(add - {_DEFAULT} - set(kept)) if other is job else []
            if (changed := kept + gained) != held:
                self._change(other, aliases=changed)
            if _DEFAULT in add:
                self._change(other, default=other is job)
        return self._show(job)

    def patch(self, project: str, location: str, name: str, body: Json, mask: str) -> Json:
        """Change a version. Without a mask, as Google's own client sends it, what is given is changed."""
        job = self._find(project, location, name)
        fields = [_camel(field.strip()) for field in mask.split(",")] if mask else list(body)
        for field in fields:
            if field.partition(".")[0] not in _PATCHED:
                raise invalid_argument(f"The field {field} in the update mask can not be updated.")
        if "defaultCheckpointId" in fields:
            checkpoint = body.get("defaultCheckpointId", "")
            if not checkpoint.isdecimal() or not 1 <= int(checkpoint) <= checkpoint_count(job):
                raise invalid_argument(f"The checkpoint {checkpoint!r} does not exist in the model version.")
            self._change(job, checkpoint=int(checkpoint))
        known = job.registry.get("fields", {})
        given = {field: body.get(field, {} if field == "labels" else "") for field in fields}
        given.pop("defaultCheckpointId", None)
        if given:
            self._change(job, fields=known | given)
        return self._show(job)

    def delete(self, project: str, location: str, name: str, version: str) -> Json:
        """Delete a model with all its versions, none of which may be deployed."""
        number = project_number(project)
        found = self._versions(number, location, name.partition("@")[0])
        if not found:
            raise _no_model(project, location, name)
        for job in found:
            self._check_not_deployed(job)
        return self._delete(found, version)

    def delete_version(self, project: str, location: str, name: str, version: str) -> Json:
        """Delete a version that is not the only one, and is not deployed."""
        if not name.partition("@")[2]:
            raise invalid_argument(f"The version ID must be in the name of the model version: {name}")
        job = self._find(project, location, name)
        if len(self._versions(job.number, job.location, job.model)) == 1:
            raise failed_precondition(
                f"Deleting the only version in the Model is not allowed. Use DeleteModel instead: {name}"
            )
        self._check_not_deployed(job)
        return self._delete([job], version)

    def _delete(self, jobs: Sequence[JobRecord], version: str) -> Json:
        operation = self._operations.start(
            registry.model_name(jobs[0]), version, "DeleteOperationMetadata", _EMPTY
        )
        for job in jobs:
            self._change(job, deleted=now() + self._operations.seconds)
        return operation

    def _check_not_deployed(self, job: JobRecord) -> None:
        if any(registry.deployed(job, now())):
            raise failed_precondition(
                f"The Model {registry.model_name(job)}@{job.model_version} has deployed models in endpoints. "
                "Undeploy it from all of them before deleting it."
            )

    def _find(self, project: str, location: str, name: str) -> JobRecord:
        model, _, version = name.partition("@")
        found = self._versions(project_number(project), location, model)
        if found and not version:
            return self._default(found)
        for job in found:
            known = [str(job.model_version), *job.registry.get("aliases", [])]
            if version in known or (version == _DEFAULT and job is self._default(found)):
                return job
        raise _no_model(project, location, name)

    def _versions(self, number: str, location: str, model: str) -> Sequence[JobRecord]:
        self._jobs.settle_all()
        time = now()
        found = [j for j in self._store.versions_of(number, location, model) if registry.exists(j, time)]
        return sorted(found, key=lambda job: job.model_version)

    @staticmethod
    def _default(versions: Sequence[JobRecord]) -> JobRecord:
        return next((job for job in versions if job.registry.get("default")), versions[0])

    def _show(self, job: JobRecord, *, versioned: bool = False) -> Json:
        versions = self._versions(job.number, job.location, job.model)
        is_default = job is self._default(versions)
        return registry.model(job, is_default, versions[0], now(), versioned=versioned)

    def _change(self, job: JobRecord, **changes: Any) -> None:
        job.registry = {**job.registry, **changes, "updated": now()}
        self._store.save(job)

    def _page(
        self,
        jobs: Sequence[JobRecord],
        query: dict[str, str],
        version: str,
        show: Callable[[JobRecord], Json],
    ) -> Json:
        return page("models", jobs, query, show, mask=("Model", version))


def page(
    key: str,
    jobs: Sequence[JobRecord],
    query: dict[str, str],
    show: Callable[[JobRecord], Json],
    *,
    mask: tuple[str, str],
) -> Json:
    """Return one page of resources that come of jobs, which are given newest first.

    :param mask: the message and the API version that ``readMask`` is read for
    """
    text, size = query.get("filter", ""), page_size(query.get("pageSize", ""))
    parsed, before = parse_filter(text), read_page_token(query.get("pageToken", ""), text)
    wanted = parse_mask(query.get("readMask", ""), *mask)
    matching = [
        job
        for job in jobs
        if (before is None or job.place < before) and (not text or parsed.matches(_subject(job)))
    ]
    answer: Json = {}
    if matching:
        answer[key] = [apply_mask(wanted, show(job)) for job in matching[:size]]
    if len(matching) > size:
        answer["nextPageToken"] = page_token(matching[size - 1].place, text)
    return answer


def _subject(job: JobRecord) -> Subject:
    at = view(job, now())
    return Subject(at.state, registry.display_name(job), at.updated, at.updated, registry.labels(job))


def _camel(field: str) -> str:
    return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), field)


def _no_model(project: str, location: str, name: str) -> ApiError:
    return not_found(f"The Model does not exist: projects/{project}/locations/{location}/models/{name}")
