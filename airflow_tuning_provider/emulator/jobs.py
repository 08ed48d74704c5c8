"""The tuning jobs: create, get, list and cancel."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from airflow_tuning_provider.emulator import datasets
from airflow_tuning_provider.emulator.clock import now
from airflow_tuning_provider.emulator.datasets import Dataset, DatasetError
from airflow_tuning_provider.emulator.errors import (
    ApiError,
    failed_precondition,
    invalid_argument,
    not_found,
    quota_exceeded,
)
from airflow_tuning_provider.emulator.filters import Subject, parse_filter
from airflow_tuning_provider.emulator.lifecycle import (
    CANCELLING,
    JobRecord,
    end_time,
    pin,
    view,
)
from airflow_tuning_provider.emulator.names import model_id, new_id, project_number
from airflow_tuning_provider.emulator.resources import tuning_job
from airflow_tuning_provider.emulator.settings import Settings
from airflow_tuning_provider.emulator.stats import default_epochs, step_count, tuning_data_stats
from airflow_tuning_provider.emulator.store import Store
from airflow_tuning_provider.emulator.validation import check_job, is_dataset_resource, tuning_spec

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
QUOTA_METRIC = "aiplatform.googleapis.com/global_concurrent_tuning_jobs"
# Where a continuous tuning starts from a model that this server does not know.
_UNKNOWN_BASE = "gemini-2.5-flash"
_DEFAULT_ADAPTER = "ADAPTER_SIZE_FOUR"
_READERS = 8
_KINDS = {
    "preferenceOptimizationSpec": datasets.PREFERENCE,
    "distillationSpec": datasets.PROMPTS,
    "reinforcementTuningSpec": datasets.PROMPTS,
}
# Their data have formats of their own, which are not checked.
_UNREAD_SPECS = ("veoTuningSpec", "veoLoraTuningSpec", "partnerModelTuningSpec")
_ADAPTER_SPECS = ("supervisedTuningSpec", "preferenceOptimizationSpec")


class Jobs:
    """The tuning jobs of all projects. Runs on the event loop; only data sets are read in threads."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.settings = settings
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
        admitted = self._admit_new(number, time)
        job = JobRecord(new_id(), number, location, body, time, self.settings.speed, admitted=admitted)
        self._set_models(job)
        _back_fill(job)
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
        job.base_model = versions[0].base_model if versions else _UNKNOWN_BASE
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
        name, spec = tuning_spec(job.body)
        uri = _training_uri(spec)
        readable = uri and not is_dataset_resource(uri) and name not in _UNREAD_SPECS
        if self.settings.read_datasets and readable:
            self._reading[job.id] = asyncio.create_task(self._read(job, name, spec))
        else:
            self._accept(job, name, datasets.synthetic(uri, _KINDS.get(name, datasets.SUPERVISED)))

    async def _read(self, job: JobRecord, name: str, spec: dict[str, Any]) -> None:
        kind = _KINDS.get(name, datasets.SUPERVISED)
        loop = asyncio.get_running_loop()
        try:
            read = loop.run_in_executor(self._readers, _read_both, spec, kind)
            self._accept(job, name, await read)
        except DatasetError as e:
            self._refuse(job, e.status)
        except Exception as e:  # noqa: BLE001 - the job must not stay pending for ever
            self._refuse(job, {"code": 13, "message": f"Internal error encountered: {e}"})
        finally:
            self._reading.pop(job.id, None)

    def _accept(self, job: JobRecord, spec_name: str, dataset: Dataset) -> None:
        spec = job.body[spec_name]
        if spec_name not in _UNREAD_SPECS:
            hyper = spec.setdefault("hyperParameters", {})
            hyper.setdefault("epochCount", str(default_epochs(len(dataset))))
        hyper = spec.get("hyperParameters", {})
        job.examples = len(dataset)
        job.epochs = _count(hyper.get("epochCount"), 1)
        job.steps = _count(hyper.get("stepCount"), step_count(job.examples, job.epochs))
        job.stats = tuning_data_stats(spec_name, dataset, job.steps)
        job.corpus = dataset.digest
        job.dataset_ready = now()
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
            name = f"projects/{project}/locations/{location}/tuningJobs/{id_}"
            raise not_found(f"The TuningJob does not exist: {name}")
        return job

    def list(self, project: str, location: str, query: dict[str, str], version: str) -> dict[str, Any]:
        """Return one page of a location's jobs, newest first."""
        number, time = project_number(project), now()
        self._settle(number, time)
        text = query.get("filter", "")
        parsed = parse_filter(text)
        size = _page_size(query.get("pageSize", ""))
        before = _read_page_token(query.get("pageToken", ""), text)
        page: list[dict[str, Any]] = []
        last = 0
        for job in self.store.newest_first((number, location), parsed.label):
            if before is not None and job.sequence >= before:
                continue
            if text and not parsed.matches(_subject(job, time)):
                continue
            if len(page) == size:
                return {"tuningJobs": page, "nextPageToken": _page_token(last, text)}
            page.append(tuning_job(job, time, version))
            last = job.sequence
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
            # It no longer waits for a place.
            self._queued.get(job.number, {}).pop(job.id, None)
            self.store.save(job)

    # --- control

    def set_state(self, id_: str, state: str, error: dict[str, Any] | None) -> JobRecord:
        """Put a job into a state by hand."""
        job = self.store.job(id_)
        if job is None:
            raise not_found(f"The TuningJob does not exist: {id_}")
        pin(job, state, error, now())
        if self.settings.concurrent_jobs:
            self._queued.get(job.number, {}).pop(id_, None)
            self._track(job)
        self.store.save(job)
        return job

    def reset(self) -> None:
        """Delete all jobs."""
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


def _count(value: Any, default: int) -> int:
    """Read a count; a partner model's parameters may be anything."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return default


def _ended(running: dict[str, JobRecord], time: float) -> Iterator[tuple[float, str]]:
    """Yield the end and the id of the jobs that have ended by now."""
    for job in running.values():
        end = end_time(job)
        if end is not None and end <= time:
            yield end, job.id


def _training_uri(spec: dict[str, Any]) -> str:
    return str(spec.get("trainingDatasetUri") or spec.get("promptDatasetUri") or "")


def _read_both(spec: dict[str, Any], kind: str) -> Dataset:
    """Read the training data, and check the validation data where there are any."""
    dataset = datasets.read(_training_uri(spec), kind)
    validation_uri = spec.get("validationDatasetUri")
    if validation_uri and not is_dataset_resource(validation_uri):
        validation = datasets.read(validation_uri, kind, keep_pairs=False)
        if len(validation) > datasets.MAX_VALIDATION_EXAMPLES:
            raise DatasetError(
                "INVALID_ARGUMENT",
                f"The validation dataset has {len(validation)} examples; "
                f"at most {datasets.MAX_VALIDATION_EXAMPLES} are allowed.",
            )
    return dataset


def _back_fill(job: JobRecord) -> None:
    """Set what the service sets where the user says nothing; the epoch count needs the data first."""
    body = job.body
    body.setdefault("tunedModelDisplayName", f"{job.base_model}-{uuid.uuid4()}")
    name, spec = tuning_spec(body)
    if name in _ADAPTER_SPECS:
        hyper = spec.setdefault("hyperParameters", {})
        hyper.setdefault("learningRateMultiplier", 1)
        hyper.setdefault("adapterSize", _DEFAULT_ADAPTER)


def _subject(job: JobRecord, time: float) -> Subject:
    at = view(job, time)
    body = job.body
    return Subject(at.state, body["tunedModelDisplayName"], job.created, at.updated, body.get("labels", {}))


def _page_size(text: str) -> int:
    try:
        size = int(text or 0)
    except ValueError as e:
        raise invalid_argument(f"Invalid value at 'page_size' (TYPE_INT32), \"{text}\"") from e
    if size < 0:
        raise invalid_argument(f"page_size must not be negative, got {size}.")
    return min(size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def _filter_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _page_token(sequence: int, filter_text: str) -> str:
    token = json.dumps([sequence, _filter_hash(filter_text)]).encode()
    return base64.urlsafe_b64encode(token).decode().rstrip("=")


def _read_page_token(token: str, filter_text: str) -> int | None:
    if not token:
        return None
    try:
        sequence, hashed = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, TypeError) as e:
        raise _bad_page_token() from e
    if not isinstance(sequence, int) or hashed != _filter_hash(filter_text):
        raise _bad_page_token()
    return sequence


def _bad_page_token() -> ApiError:
    return invalid_argument("The page token is invalid, or belongs to a request with another filter.")
