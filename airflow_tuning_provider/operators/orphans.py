"""Operator that finds and cancels tuning jobs that no task waits for any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_tuning_provider._errors import refusing_invalid_input
from airflow_tuning_provider._tasks.scope import SCOPE_FIELDS, TuningTask, deployment_name
from airflow_tuning_provider._tasks.sweep import check_deployment, sweep
from airflow_tuning_provider.api.identity import (
    DAG_LABEL,
    RUN_LABEL,
    TASK_LABEL,
    label_value,
    labels_of,
)
from airflow_tuning_provider.api.inputs import InvalidInputError, number

if TYPE_CHECKING:
    from airflow.sdk import Context


class CancelOrphanedTuningJobsOperator(TuningTask):
    """Find tuning jobs of this deployment whose task instance no longer waits for them, and cancel them.

    For what no kill could reach: a task marked failed while no triggerer was up, a host that was lost
    together with its task's last retry. Run it on a schedule, first with ``dry_run``; without it, this Airflow needs
    a name (``[vertex_ai_tuning] deployment``).

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
        *SCOPE_FIELDS,
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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dag_ids = dag_ids
        self.filter_task_id = filter_task_id
        self.filter_run_id = filter_run_id
        self.filter_state = filter_state
        self.min_age = min_age
        self.dry_run = dry_run  # type: ignore[method-assign, assignment]

    def execute(self, context: Context) -> dict[str, Any]:
        """Look at the jobs and their task instances, report, and cancel the orphans unless ``dry_run``."""
        dry_run, deployment = self.flag("dry_run"), deployment_name()
        with refusing_invalid_input():
            dag_ids = self._dag_ids()
            min_age = 0.0 if str(self.min_age) in ("0", "0.0") else number(self.min_age, "min_age")
            check_deployment(dry_run, deployment)
        with self.make_hook() as hook:
            swept = sweep(
                hook,
                lambda _: dag_ids,
                context["ti"].get_task_states,
                wanted=lambda job: self._wanted(job, dag_ids),
                deployment=deployment,
                min_age=min_age,
                dry_run=dry_run,
                log=self.log,
            )
        return {
            "orphans": swept.orphans,
            "cancelled": list(swept.cancelled),
            "left_alone": {finding.name: finding.reason for finding in swept.findings if not finding.orphan},
        }

    def _dag_ids(self) -> list[str]:
        given = self.dag_ids.split(",") if isinstance(self.dag_ids, str) else self.dag_ids
        dag_ids = [str(dag_id).strip() for dag_id in given or () if str(dag_id).strip()]
        if not dag_ids:
            raise InvalidInputError("dag_ids", self.dag_ids, "name the DAGs whose jobs are to be looked at")
        return dag_ids

    def _wanted(self, job: dict[str, Any], dag_ids: Sequence[str]) -> bool:
        labels = labels_of(job)
        wanted = {TASK_LABEL: self.filter_task_id, RUN_LABEL: self.filter_run_id}
        return (
            labels.get(DAG_LABEL) in {label_value(dag_id) for dag_id in dag_ids}
            and all(labels.get(label) == label_value(value) for label, value in wanted.items() if value)
            and self.filter_state in (None, "", job.get("state"))
        )
