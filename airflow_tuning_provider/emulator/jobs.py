"""The tuning jobs: create, get, list and cancel."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from airflow_tuning_provider.emulator import datasets
from airflow_tuning_provider.emulator.backfill import (
    UNREAD_SPECS,
    accept_data,
    back_fill,
    data_kind,
    made_up_data,
    training_uri,
)
from airflow_tuning_provider.emulator.clock import now
from airflow_tuning_provider.emulator.datasets import Dataset, DatasetError
from airflow_tuning_provider.emulator.errors import (
    ApiError,
    failed_precondition,
    not_found,
    quota_exceeded,
)
from airflow_tuning_provider.emulator.fieldmask import Tree
from airflow_tuning_provider.emulator.filters import Subject, parse_filter
from airflow_tuning_provider.emulator.lifecycle import (
    CANCELLING,
    JobRecord,
    as_of,
    end_time,
    pin,
    view,
)
from airflow_tuning_provider.emulator.models import DEFAULT_MODEL, ModelChecks
from airflow_tuning_provider.emulator.names import model_id, new_id, project_number
from airflow_tuning_provider.emulator.pages import Place, page_size, page_token, read_page_token
from airflow_tuning_provider.emulator.resources import shown, tuning_job
from airflow_tuning_provider.emulator.settings import Settings
from airflow_tuning_provider.emulator.store import Store
from airflow_tuning_provider.emulator.validation import check_job, is_dataset_resource, tuning_spec

QUOTA_METRIC = "aiplatform.googleapis.com/global_concurrent_tuning_jobs"
_READERS = 8


@dataclass(frozen=True)
class Lag:
    """How far reads lag behind writes, in seconds of real time; infinity for ever."""

    list_seconds: float = 0.0
    get_seconds: float = 0.0
    list_state_seconds: float = 0.0


class Jobs:
    """The tuning jobs of all projects. Runs on the event loop; only data sets are read in threads."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.settings = settings
        self.models = ModelChecks(settings.retired_models)
        self.lag = Lag()
        # How long a cancellation takes, in seconds of real time; None: as the speed has it.
        self.cancel_seconds: float | None = None
        self._readers = ThreadPoolExecutor(_READERS, "dataset")
        self._reading: dict[str, asyncio.Task[None]] = {}
        # By project, where places are limited: the admitted jobs not known to have ended, and the queue.
        self._open: dict[str, dict[str, JobRecord]] = {}
        self._queued: dict[str, dict[str, JobRecord]] = {}

    def resume(self) -> None:
        """Go on with the jobs of the state file."""
        for job in self.store.jobs():
            if self.settings.concurrent_jobs and not view(job, now()).terminal:
                self._track(job)
            if job.dataset_ready is None:
                self._start_reading(job)

    async def close(self) -> None:
        """Stop reading data sets."""
        for task in list(self._reading.values()):
            task.cancel()
        self._readers.shutdown(wait=False, cancel_futures=True)

    # --- create

    def create(self, project: str, location: str, body: dict[str, Any]) -> JobRecord:
        """Create a job from a parsed body, or raise what Google answers."""
        check_job(body, location)
        number, time = project_number(project), now()
        job = JobRecord(new_id(), number, location, body, time, self.settings.speed)
        self._set_models(job)
        self.models.check_tuning(job.base_model, body)
        job.admitted = self._admit_new(number, time)
        job.list_from = time + self.lag.list_seconds
        job.get_from = time + self.lag.get_seconds
        back_fill(job)
        self.store.add(job)
        if self.settings.concurrent_jobs:
            self._track(job)
        self._start_reading(job)
        return job

    def _set_models(self, job: JobRecord) -> None:
        source = job.body.get("preTunedModel")
        if source is None:
            job.base_model = model_id(job.body["baseModel"])
            job.model = new_id()
            return
        tuned = source["tunedModelName"].rpartition("/")[2].partition("@")[0]
        versions = self.store.versions_of(job.number, job.location, tuned)
        job.base_model = versions[0].base_model if versions else DEFAULT_MODEL
        source["baseModel"] = job.base_model
        display_name = job.body.get("tunedModelDisplayName")
        known = versions[0].body["tunedModelDisplayName"] if versions else None
        if known and display_name in (None, known):
            # The same name makes a new version of the model, another name a new model.
            job.body["tunedModelDisplayName"] = known
            job.model, job.model_version = tuned, len(versions) + 1
        elif display_name is None:
            job.model, job.model_version = tuned, 2
        else:
            job.model = new_id()

    # --- data sets

    def _start_reading(self, job: JobRecord) -> None:
        uri = training_uri(job)
        readable = uri and not is_dataset_resource(uri) and tuning_spec(job.body)[0] not in UNREAD_SPECS
        if self.settings.read_datasets and readable:
            self._reading[job.id] = asyncio.create_task(self._read(job))
        else:
            self._accept(job, made_up_data(job))

    async def _read(self, job: JobRecord) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._accept(job, await loop.run_in_executor(self._readers, _read_both, job))
        except DatasetError as e:
            self._refuse(job, e.status)
        except Exception as e:  # noqa: BLE001 - the job must not stay pending for ever
            self._refuse(job, {"code": 13, "message": f"Internal error encountered: {e}"})
        finally:
            self._reading.pop(job.id, None)

    def _accept(self, job: JobRecord, dataset: Dataset) -> None:
        accept_data(job, dataset, now())
        if dataset.pairs:
            self.store.save_corpus(dataset.digest, dataset.pairs)
        self._save(job)

    def _refuse(self, job: JobRecord, error: dict[str, Any]) -> None:
        job.dataset_error = error
        job.dataset_ready = now()
        self._save(job)

    def _save(self, job: JobRecord) -> None:
        # A reset may have deleted it meanwhile.
        if self.store.job(job.id) is job:
            self.store.save(job)

    # --- places

    def _track(self, job: JobRecord) -> None:
        by_project = self._queued if job.admitted is None else self._open
        by_project.setdefault(job.number, {})[job.id] = job

    def _admit_new(self, number: str, time: float) -> float | None:
        limit = self.settings.concurrent_jobs
        if not limit:
            return time
        self._settle(number, time)
        if len(self._open.get(number, {})) < limit and not self._queued.get(number):
            return time
        if self.settings.over_quota == "reject":
            raise quota_exceeded(QUOTA_METRIC, max(1.0, round(60 / self.settings.speed)))
        return None

    def _settle(self, number: str, time: float) -> None:
        """Give places that have become free to the jobs that wait, as of the moment they became free."""
        limit = self.settings.concurrent_jobs
        if not limit:
            return
        running = self._open.setdefault(number, {})
        waiting = self._queued.setdefault(number, {})
        while waiting:
            free_since = 0.0
            if len(running) >= limit:
                first = min(_ended(running, time), default=None)
                if first is None:
                    return
                free_since = first[0]
                del running[first[1]]
            if len(running) < limit:
                job = waiting.pop(next(iter(waiting)))
                job.admitted = max(job.created, free_since)
                running[job.id] = job
                self.store.save(job)
        for _, id_ in list(_ended(running, time)):
            del running[id_]

    def settle_all(self) -> None:
        """Bring the queue of every project up to date."""
        time = now()
        for number in list(self._queued):
            self._settle(number, time)

    # --- get, list, cancel

    def find(self, project: str, location: str, id_: str) -> JobRecord:
        """Return a job, or raise Google's 404."""
        number = project_number(project)
        self._settle(number, now())
        job = self.store.job(id_)
        if job is None or (job.number, job.location) != (number, location):
            raise _no_job(project, location, id_)
        return job

    def get(
        self, project: str, location: str, id_: str, version: str, mask: Tree | None = None
    ) -> dict[str, Any]:
        """Return a job's resource, once reads see it."""
        job, time = self.find(project, location, id_), now()
        if time < job.get_from:
            raise _no_job(project, location, id_)
        return shown(job, time, version, mask)

    def list(
        self, project: str, location: str, query: dict[str, str], version: str, mask: Tree | None = None
    ) -> dict[str, Any]:
        """Return one page of a location's jobs, newest first."""
        number, time = project_number(project), now()
        self._settle(number, time)
        text = query.get("filter", "")
        parsed = parse_filter(text)
        size = page_size(query.get("pageSize", ""))
        before = read_page_token(query.get("pageToken", ""), text)
        wanted = mask.get("tuningJobs", {}) if mask is not None else None
        page: list[dict[str, Any]] = []
        last: Place = (0.0, 0)
        for job in self.store.newest_first((number, location), parsed.label, before):
            then = max(job.created, time - self.lag.list_state_seconds)
            seen = as_of(job, then) if then < time else job
            if time < job.list_from or (text and not parsed.matches(_subject(seen, then))):
                continue
            if len(page) == size:
                return {"tuningJobs": page, "nextPageToken": page_token(last, text)}
            page.append(shown(seen, then, version, wanted))
            last = job.place
        return {"tuningJobs": page} if page else {}

    def cancel(self, job: JobRecord) -> None:
        """Ask for a job's end; refuse where it has ended."""
        at = view(job, now())
        if at.terminal:
            raise failed_precondition(
                f"The TuningJob {job.name} is in state {at.state} and is not cancellable."
            )
        if at.state != CANCELLING:
            job.cancel_asked = now()
            job.cancel_seconds = self.cancel_seconds
            # It no longer waits for a place.
            self._queued.get(job.number, {}).pop(job.id, None)
            self.store.save(job)

    # --- control

    def seed(self, seeds: Sequence[JobRecord]) -> None:
        """Put in jobs as they are."""
        self.store.add_all(seeds)

    def by_id(self, id_: str) -> JobRecord:
        """Return a job of any project, or raise a 404."""
        job = self.store.job(id_)
        if job is None:
            raise not_found(f"The TuningJob does not exist: {id_}")
        return job

    def set_overlay(self, id_: str, fields: dict[str, Any]) -> JobRecord:
        """Have reads show a job with these fields."""
        job = self.by_id(id_)
        job.overlay = fields
        self.store.save(job)
        return job

    def set_quality(self, id_: str, quality: float | None, pairs: Sequence[tuple[str, str]] | None) -> None:
        """Set how often a job's tuned model is right, and what it answers from.

        :param quality: share of right answers; None: by the hyperparameters
        :param pairs: questions with their answers; None: as the training data have them
        """
        job = self.by_id(id_)
        job.quality = quality
        if pairs is not None:
            job.corpus = hashlib.sha256(json.dumps(pairs).encode()).hexdigest()
            self.store.save_corpus(job.corpus, [*pairs])
        self.store.save(job)

    def set_state(self, id_: str, state: str, error: dict[str, Any] | None) -> JobRecord:
        """Put a job into a state by hand."""
        job = self.by_id(id_)
        pin(job, state, error, now())
        if self.settings.concurrent_jobs:
            self._queued.get(job.number, {}).pop(id_, None)
            self._track(job)
        self.store.save(job)
        return job

    def reset(self) -> None:
        """Delete all jobs, and read and cancel again without delay."""
        self.lag = Lag()
        self.cancel_seconds = None
        for task in list(self._reading.values()):
            task.cancel()
        self._reading.clear()
        self._open.clear()
        self._queued.clear()
        self.store.clear()

    def all(self) -> Iterator[dict[str, Any]]:
        """Iterate over all jobs as resources, oldest first."""
        self.settle_all()
        time = now()
        return (tuning_job(job, time) for job in self.store.jobs())


def _no_job(project: str, location: str, id_: str) -> ApiError:
    name = f"projects/{project}/locations/{location}/tuningJobs/{id_}"
    return not_found(f"The TuningJob does not exist: {name}")


def _ended(running: dict[str, JobRecord], time: float) -> Iterator[tuple[float, str]]:
    """Yield the end and the id of the jobs that have ended by now."""
    for job in running.values():
        end = end_time(job)
        if end is not None and end <= time:
            yield end, job.id


def _read_both(job: JobRecord) -> Dataset:
    """Read the training data, and check the validation data where there are any."""
    kind = data_kind(job)
    dataset = datasets.read(training_uri(job), kind)
    validation_uri = tuning_spec(job.body)[1].get("validationDatasetUri")
    if validation_uri and not is_dataset_resource(validation_uri):
        validation = datasets.read(validation_uri, kind, keep_pairs=False)
        if len(validation) > datasets.MAX_VALIDATION_EXAMPLES:
            raise DatasetError(
                "INVALID_ARGUMENT",
                f"The validation dataset has {len(validation)} examples; "
                f"at most {datasets.MAX_VALIDATION_EXAMPLES} are allowed.",
            )
    return dataset


def _subject(job: JobRecord, time: float) -> Subject:
    at = view(job, time)
    body = job.body
    return Subject(at.state, body["tunedModelDisplayName"], job.created, at.updated, body.get("labels", {}))
