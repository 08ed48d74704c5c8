"""Operator that finds and cancels tuning jobs that no task waits for any more."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_tuning_provider.api.identity import DAG_LABEL, KEY_LABEL, RUN_LABEL, TASK_LABEL, label_value
from airflow_tuning_provider.api.inputs import InvalidInputError, boolean, number
from airflow_tuning_provider.api.sweep import ENDED_TASK_STATES, Finding, sweep
from airflow_tuning_provider.exceptions import (
    TuningBadRequestError,
    TuningNotFoundError,
    refusing_invalid_input,
)
from airflow_tuning_provider.operators.base import (
    DEFAULT_CONN_ID,
    SCOPE_FIELDS,
    TuningTaskMixin,
    deployment_name,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

_FIELDS = tuple(field for field in SCOPE_FIELDS if field != "poll_interval")


class SweepTuningJobsOperator(TuningTaskMixin, BaseOperator):
    """Find tuning jobs of this deployment whose task instance no longer waits for them, and cancel them.

    For what no kill could reach: a task marked failed while no triggerer was up, a host that was lost
    together with its task's last retry, Airflow 3.1 and 3.2, which tell a trigger nothing of a kill. Run it on a
    schedule, first with ``dry_run``.

    A job is cancelled only if its task instance is found in this deployment and has ended. Jobs that are meant
    to outlive their task (``wait_for_completion=False``, ``cancel_on_kill=False``) are left alone, and so are
    those whose task instance is unknown here.

    :param dag_ids: the DAGs whose jobs are looked at; a list, or a comma-separated string.
    :param filter_task_id: only jobs of this task.
    :param filter_run_id: only jobs of this DAG run.
    :param filter_state: only jobs in this state, for example ``JOB_STATE_RUNNING``.
    :param min_age: seconds since its creation below which a job is left alone.
    :param dry_run: only report; the default.

    The other parameters are those of
    :class:`~airflow_tuning_provider.operators.tuning_job.CreateTuningJobOperator`.

    :return: ``{"orphans": [names], "cancelled": [names], "left_alone": {name: reason}}``.
    """

    template_fields: Sequence[str] = (
        "dag_ids",
        "filter_task_id",
        "filter_run_id",
        "filter_state",
        "min_age",
        "dry_run",
        *_FIELDS,
    )
    ui_color = "#fce8e6"

    def __init__(
        self,
        *,
        dag_ids: str | Sequence[str],
        filter_task_id: str | None = None,
        filter_run_id: str | None = None,
        filter_state: str | None = None,
        min_age: float | str = 600.0,
        dry_run: bool | str = True,
        gcp_conn_id: str = DEFAULT_CONN_ID,
        project_id: str | None = None,
        location: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        api_version: str = "v1",
        request_timeout: float | str = 60.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dag_ids = dag_ids
        self.filter_task_id = filter_task_id
        self.filter_run_id = filter_run_id
        self.filter_state = filter_state
        self.min_age = min_age
        self.dry_run = dry_run  # type: ignore[method-assign, assignment]
        self.gcp_conn_id = gcp_conn_id
        self.project_id = project_id
        self.location = location
        self.impersonation_chain = impersonation_chain
        self.api_version = api_version
        self.request_timeout = request_timeout

    def execute(self, context: Context) -> dict[str, Any]:
        """Look at the jobs and their task instances, report, and cancel the orphans unless ``dry_run``."""
        with refusing_invalid_input():
            dry_run = boolean(self.dry_run, "dry_run")
            dag_ids = self._dag_ids()
            min_age = 0.0 if str(self.min_age) in ("0", "0.0") else number(self.min_age, "min_age")
        # Jobs first: a task that ends in between leaves no job behind that it did not know of.
        with self.make_hook() as hook:
            jobs = [job for job in hook.list_tuning_jobs(page_size=100) if self._wanted(job, dag_ids)]
            states = {dag_id: context["ti"].get_task_states(dag_id=dag_id) for dag_id in dag_ids}
            findings = sweep(jobs, states, deployment=deployment_name(), now=time.time(), min_age=min_age)
            self._report(findings)
            orphans = [finding.name for finding in findings if finding.orphan]
            cancelled = []
            for finding in findings:
                if finding.orphan and not dry_run and self._is_orphan_still(context, finding):
                    cancelled += [finding.name] if self._cancel(hook, finding.name) else []
        self.log.info(
            "%d jobs under way, %d orphans, %d cancelled%s.",
            len(findings),
            len(orphans),
            len(cancelled),
            " (dry_run)" if dry_run else "",
        )
        return {
            "orphans": orphans,
            "cancelled": cancelled,
            "left_alone": {finding.name: finding.reason for finding in findings if not finding.orphan},
        }

    def _dag_ids(self) -> list[str]:
        given = self.dag_ids.split(",") if isinstance(self.dag_ids, str) else self.dag_ids
        dag_ids = [str(dag_id).strip() for dag_id in given or () if str(dag_id).strip()]
        if not dag_ids:
            raise InvalidInputError("dag_ids", self.dag_ids, "name the DAGs whose jobs are to be looked at")
        return dag_ids

    def _wanted(self, job: dict[str, Any], dag_ids: Sequence[str]) -> bool:
        labels = job.get("labels") or {}
        wanted = {TASK_LABEL: self.filter_task_id, RUN_LABEL: self.filter_run_id}
        return (
            KEY_LABEL in labels
            and labels.get(DAG_LABEL) in {label_value(dag_id) for dag_id in dag_ids}
            and all(labels.get(label) == label_value(value) for label, value in wanted.items() if value)
            and self.filter_state in (None, "", job.get("state"))
        )

    def _report(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            verdict = "orphan" if finding.orphan else "left alone"
            self.log.info("%s: %s, %s.", finding.name, verdict, finding.reason)

    def _is_orphan_still(self, context: Context, finding: Finding) -> bool:
        """Ask for this one task instance: it may have been cleared meanwhile.

        In the answer for a whole DAG the mapped ``tune[1]`` and a task ``tune_1`` have the same name.
        """
        owner = finding.owner
        if owner is None:
            return False
        states = context["ti"].get_task_states(
            dag_id=owner.dag_id, task_ids=[owner.task_id], run_ids=[owner.run_id], map_index=owner.map_index
        )
        found = set(states.get(owner.run_id, {}).values())
        if found and found <= ENDED_TASK_STATES:
            return True
        self.log.info(
            "%s: left alone, its task instance is %s.", finding.name, ", ".join(map(str, found)) or "gone"
        )
        return False

    def _cancel(self, hook: TuningJobHook, name: str) -> bool:
        # It may have ended in the meantime: then there is nothing to cancel.
        with suppress(TuningBadRequestError, TuningNotFoundError):
            hook.cancel_tuning_job(name)
            return True
        return False
