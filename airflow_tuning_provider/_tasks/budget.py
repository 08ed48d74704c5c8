"""What a job may cost: looked at right before its create is sent, so that a job that is there is always joined."""

from __future__ import annotations

import ast
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_tuning_provider.api.checks import positive_integer, positive_number
from airflow_tuning_provider.api.identity import labels_of
from airflow_tuning_provider.api.inputs import InvalidInputError, as_int, as_mapping, as_text
from airflow_tuning_provider.api.manifest import manifest, parse_time
from airflow_tuning_provider.api.states import outcome
from airflow_tuning_provider.api.tuning_job import hyper_parameters
from airflow_tuning_provider.exceptions import TuningBudgetError, TuningQuotaError

if TYPE_CHECKING:
    from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

TOKENS_LABEL = "airflow-tokens-per-epoch"
"""What a job is expected to be billed for a pass, until the service has counted it."""

_FIELDS = (
    "nextPageToken,tuningJobs(name,state,createTime,labels,baseModel,preTunedModel,"
    "tuningDataStats(supervisedTuningDataStats(totalBillableTokenCount),"
    "preferenceOptimizationDataStats(totalBillableTokenCount)),"
    "supervisedTuningSpec(hyperParameters),preferenceOptimizationSpec(hyperParameters))"
)


@dataclass(frozen=True)
class Budget:
    """The limits of one task, checked.

    :param max_cost: US dollars for this job.
    :param monthly: US dollars for this calendar month's jobs of the project and location, this one included.
    :param tokens: billable tokens of one pass, if known.
    :param prices: US dollars for a million training tokens, by model.
    """

    max_cost: float | None
    monthly: float | None
    tokens: int | None
    prices: Mapping[str, Any] | None

    @classmethod
    def of(
        cls, *, max_cost: Any, monthly_budget: Any, tokens: Any, dataset_manifest: Any, prices: Any
    ) -> Budget:
        """Return the limits for a task's parameters, which may come from templates as text.

        :raises InvalidInputError: naming the parameter that cannot be right.
        """
        from airflow_tuning_provider.datasets.cost import tokens_of
        from airflow_tuning_provider.datasets.rules import training_price

        def given(value: Any) -> bool:
            return value not in (None, "", "None")

        dataset = mapping(dataset_manifest, "dataset_manifest") if given(dataset_manifest) else None
        table = mapping(prices, "prices") if given(prices) else None
        training_price("", table)
        found = positive_integer(tokens, "billable_tokens_per_epoch") if given(tokens) else tokens_of(dataset)
        return cls(
            positive_number(max_cost, "max_cost") if given(max_cost) else None,
            positive_number(monthly_budget, "monthly_budget") if given(monthly_budget) else None,
            found,
            table,
        )

    def check(self, body: Mapping[str, Any], hook: TuningJobHook, log: Any) -> None:
        """Refuse a job that would cost more than it may.

        :param body: the request body.
        :param hook: whom to ask for this month's jobs.
        :raises TuningBudgetError: if it would, or if what it would cost cannot be known.
        :raises TuningQuotaError: if what other jobs cost cannot be known yet.
        """
        if self.max_cost is None and self.monthly is None:
            return
        from airflow_tuning_provider.datasets.cost import job_cost

        limit = "max_cost" if self.max_cost is not None else "monthly_budget"
        cost = job_cost(
            model=_model(body),
            tokens=self.tokens,
            epochs=next((as_int(values.get("epochCount")) for _, values in hyper_parameters(body)), None),
            prices=self.prices,
        )
        if cost.dollars is None:
            raise TuningBudgetError(
                f"What the job would cost cannot be known, and {limit} is set: {cost.why}. Nothing was created."
            )
        log.info("The job is estimated to cost %s.", cost.why)
        if self.max_cost is not None and cost.dollars > self.max_cost:
            raise TuningBudgetError(
                f"The job is estimated to cost {cost.why}: more than max_cost, ${self.max_cost:,.2f}. Nothing was "
                "created. Raise max_cost, or lower epoch_count or the number of examples."
            )
        if self.monthly is not None:
            self._check_month(cost.dollars, self.monthly, hook, log)

    def _check_month(self, dollars: float, limit: float, hook: TuningJobHook, log: Any) -> None:
        from airflow_tuning_provider.datasets.cost import spent

        jobs = [_counted(job) for job in _of_this_month(hook)]
        total, unknown = spent(jobs, self.prices)
        # What ended without a count was not trained.
        states = {as_text(job.get("name")): str(job.get("state")) for job in jobs}
        unknown = [name for name in unknown if not outcome(states.get(name, "")).ended]
        if total + dollars > limit:
            raise TuningBudgetError(
                f"This month's {len(jobs)} jobs in {hook.parent} are estimated at ${total:,.2f}; with this one's "
                f"${dollars:,.2f} that is more than monthly_budget, ${limit:,.2f}. Nothing was created."
            )
        if unknown:
            raise TuningQuotaError(
                f"What this month's jobs cost cannot be known yet, and monthly_budget is set: {', '.join(unknown)} "
                "have not been counted by the service. Nothing was created. A retry of the task looks again."
            )
        log.info(
            "This month's %d jobs in %s are estimated at $%.2f; monthly_budget is $%.2f.",
            len(jobs),
            hook.parent,
            total,
            limit,
        )


def mapping(value: Any, field: str) -> Mapping[str, Any]:
    """Return a mapping, which may come from a template as text: JSON, or as Python shows a dict.

    :raises InvalidInputError: if it is none.
    """
    if isinstance(value, str):
        for read in (json.loads, ast.literal_eval):
            with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                value = read(value)
                break
    if not isinstance(value, Mapping):
        raise InvalidInputError(field, value, "give a mapping (dict), or JSON for one")
    return value


def _model(body: Mapping[str, Any]) -> str | None:
    tuned = as_mapping(body.get("preTunedModel"))
    candidates = (body.get("baseModel"), tuned.get("baseModel"), tuned.get("tunedModelName"))
    return next(filter(None, map(as_text, candidates)), None)


def _of_this_month(hook: TuningJobHook) -> Iterator[Mapping[str, Any]]:
    now = time.gmtime()
    for job in hook.list_tuning_jobs(page_size=1000, fields=_FIELDS):
        created = parse_time(job.get("createTime"))
        if created is not None and time.gmtime(created)[:2] == now[:2]:
            yield job


def _counted(job: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a job with the expected count where the service's own is missing and the job goes on."""
    expected = as_int(labels_of(job).get(TOKENS_LABEL))
    if expected is None or manifest(job)["billable_token_count"] is not None:
        return job
    if outcome(str(job.get("state"))).ended:
        return job
    return {**job, "tuningDataStats": {"supervisedTuningDataStats": {"totalBillableTokenCount": expected}}}
