"""What makes a tuning job *this task instance's* job, and what an attempt does with those it finds.

``tuningJobs.create`` has no request id, so every job carries labels: a key derived from the task instance (never
from the try number), a fingerprint of what is trained, and the ``max_tries`` of the attempt that created it. A
retry leaves ``max_tries`` as it is, a clear of a task that is not running sets it anew: that tells the two apart.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_tuning_provider.api import failure
from airflow_tuning_provider.api.inputs import as_int
from airflow_tuning_provider.api.manifest import parse_time
from airflow_tuning_provider.api.names import without_project
from airflow_tuning_provider.api.states import Outcome, may_be_joined, outcome
from airflow_tuning_provider.api.trained import trained

Job = Mapping[str, Any]

KEY_LABEL = "airflow-job-key"
FINGERPRINT_LABEL = "airflow-fingerprint"
DAG_LABEL = "airflow-dag-id"
RUN_LABEL = "airflow-run-id"
TASK_LABEL = "airflow-task-id"
MAP_INDEX_LABEL = "airflow-map-index"
MAX_TRIES_LABEL = "airflow-max-tries"
DEPLOYMENT_LABEL = "airflow-deployment"
KEEP_LABEL = "airflow-keep"

_LABEL_LIMIT = 63
_DIGEST = 32


@dataclass(frozen=True)
class TaskIdentity:
    """The task instance that a job belongs to.

    :param map_index: index of a mapped task, ``-1`` for an unmapped one.
    :param deployment: name of the Airflow deployment, so that two of them can share a project.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    deployment: str = ""

    @property
    def key(self) -> str:
        """The value of the key label: equal for all attempts and clears, distinct for all else."""
        return _digest([self.deployment, self.dag_id, self.run_id, self.task_id, self.map_index])

    def labels(self, body: Job, *, max_tries: int, keep: bool = False) -> dict[str, str]:
        """Return the labels for a job with this request body; the readable ones are for people.

        :param max_tries: the task instance's, see :func:`plan`.
        :param keep: whether the job is meant to outlive its task, see :mod:`airflow_tuning_provider.api.orphans`.
        """
        labels = {
            KEY_LABEL: self.key,
            FINGERPRINT_LABEL: fingerprint(body),
            MAX_TRIES_LABEL: str(max_tries),
            DAG_LABEL: label_value(self.dag_id),
            RUN_LABEL: label_value(self.run_id),
            TASK_LABEL: label_value(self.task_id),
        }
        if self.map_index >= 0:
            labels[MAP_INDEX_LABEL] = str(self.map_index)
        if keep:
            labels[KEEP_LABEL] = "true"
        if self.deployment:
            labels[DEPLOYMENT_LABEL] = label_value(self.deployment)
        return labels


def key_filter(key: str) -> str:
    """Return the list filter for the jobs of a key; an optimisation, see :func:`own_jobs`."""
    return f'labels.{KEY_LABEL}="{key}"'


def fingerprint(body: Job) -> str:
    """Return a digest of what a normalised request body trains: names, descriptions and labels do not count."""
    return _digest(trained(body))


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]


def label_value(text: str) -> str:
    """Return ``text`` as a label value: lowercase, ``_`` for other characters, at most 63 characters.

    A value that had to be cut ends in a short digest, so that long names stay distinct.
    """
    value = re.sub(r"[^a-z0-9_-]", "_", text.lower())
    if len(value) <= _LABEL_LIMIT:
        return value
    return f"{value[: _LABEL_LIMIT - 9]}-{_digest(text)[:8]}"


def own_jobs(jobs: Iterable[Job], key: str) -> list[Job]:
    """Keep the jobs that carry the key, whatever the server made of the filter."""
    return [job for job in jobs if labels_of(job).get(KEY_LABEL) == key]


@dataclass(frozen=True)
class Plan:
    """What an attempt does about the jobs of its task instance.

    :param keep: the job to go on with: under way, or ended in a way that the task ends with too.
    :param cancel: the other jobs under way.
    :param await_end: the job that has to have ended before anything is created.
    """

    keep: Job | None = None
    cancel: tuple[Job, ...] = ()
    await_end: Job | None = None


def plan(
    jobs: Iterable[Job],
    body: Job,
    *,
    max_tries: int,
    force_new: bool = False,
    cleared: bool = False,
    joined: str | None = None,
    elsewhere: str | None = None,
) -> Plan:
    """Decide what an attempt does in view of the jobs that there are, so that at most one is under way.

    A retry (same ``max_tries``) goes on with the job under way, returns a success, and ends as an end that no
    retry can mend. A clear goes on with the job under way, or starts anew after an end; after a success only
    with ``force_new``. What trains something else is cancelled, and waited for before anything is created.

    :param jobs: jobs of this task instance.
    :param body: the normalised request body, without our labels.
    :param max_tries: the task instance's; with it a job was labelled.
    :param force_new: whether a clear pays again after a success.
    :param cleared: whether a person is known to have cleared the task since, although ``max_tries`` is the same.
    :param joined: name of a job that an attempt with the same ``max_tries`` has joined, whoever created it.
    :param elsewhere: name of a job in another project or location than the one wanted now.
    """
    wanted = fingerprint(body)

    def same(job: Job) -> bool:
        return labels_of(job).get(FINGERPRINT_LABEL) == wanted and not is_named(job, elsewhere)

    def current(job: Job) -> bool:
        label = as_int(labels_of(job).get(MAX_TRIES_LABEL))
        return not cleared and (is_named(job, joined) or label is None or label == max_tries)

    # A list may show one job twice, as pages shift while they are read: of two looks the later one counts.
    own = sorted({without_project(job.get("name")): job for job in jobs}.values(), key=seniority)
    live = [job for job in own if may_be_joined(_state(job))]
    cancelling = [job for job in own if outcome(_state(job)) is Outcome.WAITING and job not in live]
    ended = sorted((job for job in own if outcome(_state(job)).ended), key=_end)
    succeeded = [
        job
        for job in ended
        if outcome(_state(job)) is Outcome.SUCCEEDED and same(job) and (current(job) or not force_new)
    ]
    keep = next(filter(same, live), None)
    # What was created after a success was paid for on purpose; what overlaps with it is one too many.
    if succeeded and (keep is None or not _follows(keep, succeeded[-1])):
        keep = succeeded[-1]
    cancel = tuple(job for job in live if job is not keep)
    if keep is None and (in_the_way := (*cancel, *cancelling)):
        return Plan(cancel=cancel, await_end=in_the_way[0])
    # A person cancels the job that is the last; one that ended before another was stale, or one too many.
    mine = [job for job in ended if current(job) and same(job) and (job is ended[-1] or not _cancelled(job))]
    if keep is None and mine and not _may_be_mended(mine[-1]):
        keep = mine[-1]
    return Plan(keep, cancel)


def seniority(job: Job) -> tuple[float, str]:
    """Return the sort key by which every attempt puts the same job first: the oldest ``job``."""
    return parse_time(job.get("createTime")) or float("inf"), str(job.get("name"))


def _end(job: Job) -> tuple[float, str]:
    """Return the sort key of a job that has ended: the last one to end comes last."""
    end = parse_time(job.get("endTime"))
    return seniority(job) if end is None else (end, str(job.get("name")))


def _follows(later: Job, earlier: Job) -> bool:
    """Whether a job was created after another had ended."""
    created, end = parse_time(later.get("createTime")), parse_time(earlier.get("endTime"))
    return created is not None and end is not None and created >= end


def is_named(job: Job, name: str | None) -> bool:
    """Whether a job has this name, in which its project may be called by its id or its number."""
    return name is not None and without_project(job.get("name")) == without_project(name)


def labels_of(job: Job) -> Mapping[str, Any]:
    """Return a job's labels, whatever the server sent for them."""
    labels = job.get("labels")
    return labels if isinstance(labels, Mapping) else {}


def _cancelled(job: Job) -> bool:
    return outcome(_state(job)) is Outcome.CANCELLED


def _may_be_mended(job: Job) -> bool:
    """Whether a retry may do better: a new job is created then."""
    return outcome(_state(job)) in (Outcome.FAILED, Outcome.EXPIRED) and not failure.is_permanent(job)


def _state(job: Job) -> str:
    return str(job.get("state"))
