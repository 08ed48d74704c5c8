"""What makes a tuning job *this task instance's* job, and what a new attempt does with those it finds.

``tuningJobs.create`` has no request id, so every job carries labels: a key derived from the task
instance (never from the try number) and a fingerprint of its request body. Before a job is created, the
key is looked for; nothing else is remembered between attempts.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from airflow_tuning_provider.api.manifest import parse_time
from airflow_tuning_provider.api.states import JobState, Outcome, may_be_joined, outcome

KEY_LABEL = "airflow-job-key"
FINGERPRINT_LABEL = "airflow-fingerprint"
DAG_LABEL = "airflow-dag-id"
RUN_LABEL = "airflow-run-id"
TASK_LABEL = "airflow-task-id"
MAP_INDEX_LABEL = "airflow-map-index"
DEPLOYMENT_LABEL = "airflow-deployment"
KEEP_LABEL = "airflow-keep"

_LABEL_LIMIT = 63
_DIGEST = 32


@dataclass(frozen=True)
class TaskIdentity:
    """The task instance that a job belongs to.

    :param map_index: index of a mapped task, ``-1`` for an unmapped one.
    :param deployment: name of the Airflow deployment, so that two of them can share a project.
    :param generation: non-empty to keep jobs of an earlier clear out of sight (``force_new``).
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    deployment: str = ""
    generation: str = ""

    @property
    def key(self) -> str:
        """The value of the key label: equal for all attempts, distinct for all else."""
        parts = [self.deployment, self.dag_id, self.run_id, self.task_id, self.map_index, self.generation]
        return _digest(parts)

    def labels(self, body: Mapping[str, Any], *, keep: bool = False) -> dict[str, str]:
        """Return the labels for a job with this request body; the readable ones are for people.

        :param keep: whether the job is meant to outlive its task, see :mod:`airflow_tuning_provider.api.sweep`.
        """
        labels = {
            KEY_LABEL: self.key,
            FINGERPRINT_LABEL: fingerprint(body),
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

    def filter(self) -> str:
        """Return the list filter for this identity's jobs; an optimisation, see :func:`own_jobs`."""
        return f'labels.{KEY_LABEL}="{self.key}"'


def fingerprint(body: Mapping[str, Any]) -> str:
    """Return a digest of a normalised request body, the same for equal input."""
    return _digest(body)


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


def own_jobs(jobs: Iterable[Mapping[str, Any]], identity: TaskIdentity) -> list[Mapping[str, Any]]:
    """Keep the jobs that carry the identity's key, whatever the server made of the filter."""
    key = identity.key
    return [job for job in jobs if _labels(job).get(KEY_LABEL) == key]


class Action(Enum):
    """What a new attempt does."""

    CREATE = "create"
    JOIN = "join"
    RETURN = "return"
    AWAIT_END = "await_end"
    CANCEL_STALE = "cancel_stale"


@dataclass(frozen=True)
class Decision:
    """What to do, and with which job."""

    action: Action
    job: Mapping[str, Any] | None = None


def decide(jobs: Iterable[Mapping[str, Any]], identity: TaskIdentity, body: Mapping[str, Any]) -> Decision:
    """Decide what an attempt does in view of the jobs that exist.

    Same input: a succeeded job is returned at no cost, one under way is joined. A job under way with
    other input is stale and is cancelled first; one that is being cancelled is waited for. Otherwise a
    job is created anew.

    :param jobs: jobs of the project and location, also those of others.
    :param identity: the task instance.
    :param body: the normalised request body, without our labels.
    """
    wanted = fingerprint(body)
    own = sorted(
        own_jobs(jobs, identity), key=lambda job: parse_time(job.get("createTime")) or 0.0, reverse=True
    )
    same = [job for job in own if _labels(job).get(FINGERPRINT_LABEL) == wanted]
    for job in own:
        if job not in same and may_be_joined(str(job.get("state"))):
            return Decision(Action.CANCEL_STALE, job)
    for job in same:
        if may_be_joined(str(job.get("state"))):
            return Decision(Action.JOIN, job)
    for job in same:
        if outcome(str(job.get("state"))) is Outcome.SUCCEEDED:
            return Decision(Action.RETURN, job)
    for job in own:
        if job.get("state") == JobState.CANCELLING.value:
            return Decision(Action.AWAIT_END, job)
    return Decision(Action.CREATE)


def _labels(job: Mapping[str, Any]) -> Mapping[str, Any]:
    labels = job.get("labels")
    return labels if isinstance(labels, Mapping) else {}
