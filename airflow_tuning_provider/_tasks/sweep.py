"""Finds the tuning jobs of this deployment that no task waits for any more, and cancels them if asked to."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_tuning_provider._supervisor import ENDED_TASK_STATES
from airflow_tuning_provider.api.identity import KEY_LABEL, labels_of
from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.orphans import Finding, TaskStates, judge
from airflow_tuning_provider.exceptions import TuningBadRequestError, TuningNotFoundError

if TYPE_CHECKING:
    from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

States = Callable[..., TaskStates]
"""Airflow's ``get_task_states``: takes ``dag_id``, and to narrow it ``task_ids``, ``run_ids`` and ``map_index``."""

LISTED = "nextPageToken,tuningJobs(name,state,createTime,labels)"


@dataclass(frozen=True)
class Swept:
    """What a sweep has found and done.

    :param findings: the jobs under way that carry our labels.
    :param cancelled: names of the orphans whose cancellation was asked for.
    """

    findings: Sequence[Finding]
    cancelled: Sequence[str]

    @property
    def orphans(self) -> list[str]:
        """The names of the orphans."""
        return [finding.name for finding in self.findings if finding.orphan]


def check_deployment(dry_run: bool, deployment: str) -> None:
    """Refuse to cancel anything where this Airflow has no name.

    :raises InvalidInputError: if it has none: another Airflow with the same DAG ids would have the same keys, and its
        live jobs be orphans here.
    """
    if not dry_run and not deployment:
        raise InvalidInputError(
            "dry_run",
            dry_run,
            "give this Airflow a name in [vertex_ai_tuning] deployment first: without one, jobs of another "
            "Airflow that has the same DAGs cannot be told from its own",
        )


def sweep(
    hook: TuningJobHook,
    dags: Callable[[list[dict[str, Any]]], Sequence[str]],
    states: States,
    *,
    wanted: Callable[[dict[str, Any]], bool],
    deployment: str,
    min_age: float,
    dry_run: bool,
    log: Any,
) -> Swept:
    """Look at the jobs and their task instances, report, and cancel the orphans unless ``dry_run``.

    :param dags: the ids of the DAGs that the jobs may belong to.
    :param states: how to ask Airflow for the states of task instances.
    :param wanted: which of the jobs that carry our labels are looked at.
    :param deployment: this deployment's name.
    :param min_age: seconds since its creation below which a job is left alone.
    """
    # Jobs first: a task that ends in between leaves no job behind that it did not know of.
    listed = hook.list_tuning_jobs(page_size=1000, fields=LISTED)
    jobs = [job for job in listed if KEY_LABEL in labels_of(job) and wanted(job)]
    findings = judge(
        jobs,
        {dag_id: states(dag_id=dag_id) for dag_id in dags(jobs)},
        ended=ENDED_TASK_STATES,
        deployment=deployment,
        now=time.time(),
        min_age=min_age,
    )
    for finding in findings:
        log.info("%s: %s · %s", "Orphan" if finding.orphan else "Left alone", finding.reason, finding.name)
    cancelled = [
        finding.name
        for finding in findings
        if finding.orphan
        and not dry_run
        and _is_orphan_still(states, finding, log)
        and _cancel(hook, finding.name)
    ]
    swept = Swept(findings, cancelled)
    log.info("%s", summary(swept, dry_run=dry_run))
    return swept


def summary(swept: Swept, *, dry_run: bool) -> str:
    """Say in a sentence what came of a sweep."""
    jobs, orphans, cancelled = len(swept.findings), len(swept.orphans), len(swept.cancelled)
    found = f"{jobs} {'job' if jobs == 1 else 'jobs'} under way, {orphans} of them without a task that waits"
    return f"{found}. Dry run: nothing was cancelled." if dry_run else f"{found}; cancelled {cancelled}."


def _is_orphan_still(states: States, finding: Finding, log: Any) -> bool:
    """Ask for this one task instance: it may have been cleared meanwhile.

    In the answer for a whole DAG the mapped ``tune[1]`` and a task ``tune_1`` have the same name.
    """
    owner = finding.owner
    if owner is None:
        return False
    answer = states(
        dag_id=owner.dag_id, task_ids=[owner.task_id], run_ids=[owner.run_id], map_index=owner.map_index
    )
    found = set(answer.get(owner.run_id, {}).values())
    if found and found <= ENDED_TASK_STATES:
        return True
    log.info(
        "Left alone: its task instance is %s now · %s", ", ".join(map(str, found)) or "gone", finding.name
    )
    return False


def _cancel(hook: TuningJobHook, name: str) -> bool:
    # It may have ended in the meantime: then there is nothing to cancel.
    with suppress(TuningBadRequestError, TuningNotFoundError):
        hook.cancel_tuning_job(name)
        return True
    return False
