"""Which tuning jobs are orphans: under way although no task waits for them any more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

from airflow_tuning_provider.api.identity import (
    DEPLOYMENT_LABEL,
    KEEP_LABEL,
    KEY_LABEL,
    TaskIdentity,
    label_value,
    labels_of,
)
from airflow_tuning_provider.api.manifest import parse_time
from airflow_tuning_provider.api.states import may_be_joined

TaskStates = Mapping[str, Mapping[str, str | None]]
"""Task instance states of one DAG: by run id, then by task id, with ``_<map index>`` for mapped tasks."""


@dataclass(frozen=True)
class Finding:
    """A job under way, and what is known of its task instance.

    :param job: the job.
    :param orphan: whether nothing waits for it and it was not meant to outlive its task.
    :param reason: why, in words.
    :param owner: the task instance that an orphan was created for.
    """

    job: Mapping[str, Any]
    orphan: bool
    reason: str
    owner: TaskIdentity | None = None

    @property
    def name(self) -> str:
        """The job's resource name."""
        return str(self.job["name"])


def judge(
    jobs: Iterable[Mapping[str, Any]],
    task_states: Mapping[str, TaskStates],
    *,
    ended: Set[str],
    deployment: str,
    now: float,
    min_age: float,
) -> list[Finding]:
    """Judge the jobs that carry our labels.

    A job is an orphan only if its task instance was found here, in a state that ended. One whose task
    instance is unknown may belong to another deployment, or to a run that was deleted: it is reported, and
    left to a person.

    :param jobs: jobs of the project and location.
    :param task_states: by DAG id, the task instance states of this deployment.
    :param ended: states in which a task instance will not look at its job again by itself.
    :param deployment: this deployment's name.
    :param now: the current time in epoch seconds.
    :param min_age: seconds since its creation below which a job is left alone.
    """
    wanted = label_value(deployment) if deployment else None
    states = dict(_states_by_key(task_states, deployment))
    return [
        _judge(job, states, ended=ended, now=now, min_age=min_age)
        for job in jobs
        if KEY_LABEL in (labels := labels_of(job))
        and labels.get(DEPLOYMENT_LABEL) == wanted
        and may_be_joined(str(job.get("state")))
    ]


def _judge(
    job: Mapping[str, Any],
    states: Mapping[str, tuple[str, str | None, TaskIdentity]],
    *,
    ended: Set[str],
    now: float,
    min_age: float,
) -> Finding:
    labels = labels_of(job)
    if labels.get(KEEP_LABEL):
        return Finding(
            job, False, "it is meant to outlive its task (wait_for_completion or cancel_on_kill is off)"
        )
    if labels[KEY_LABEL] not in states:
        return Finding(job, False, "its task instance is not among those looked at, or was deleted")
    who, state, owner = states[labels[KEY_LABEL]]
    if state not in ended:
        return Finding(job, False, f"{who} is {state or 'about to run'}, and waits for it")
    age = now - (parse_time(job.get("createTime")) or now)
    if age < min_age:
        return Finding(job, False, f"{who} has ended ({state}), but the job is younger than {min_age:g} s")
    return Finding(job, True, f"{who} has ended ({state}), and nothing waits for the job", owner)


def _states_by_key(
    task_states: Mapping[str, TaskStates], deployment: str
) -> Iterator[tuple[str, tuple[str, str | None, TaskIdentity]]]:
    for dag_id, runs in task_states.items():
        for run_id, tasks in runs.items():
            for name, state in tasks.items():
                who = f"{dag_id}.{name} of {run_id}"
                for task_id, map_index in _readings(name):
                    identity = TaskIdentity(dag_id, run_id, task_id, map_index, deployment)
                    yield identity.key, (who, state, identity)


def _readings(name: str) -> Iterator[tuple[str, int]]:
    """Airflow writes a mapped task instance as ``task_3``, which can be a task's own name as well."""
    yield name, -1
    task_id, _, index = name.rpartition("_")
    if task_id and index.isdecimal():
        yield task_id, int(index)
