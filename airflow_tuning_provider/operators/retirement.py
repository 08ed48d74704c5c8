"""Operator that tells which tuned models rest on a base model that Google is about to retire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_tuning_provider._errors import refusing_invalid_input
from airflow_tuning_provider._tasks.scope import SCOPE_FIELDS, TuningTask
from airflow_tuning_provider.api.base_models import (
    AS_OF,
    BLOCKED_BEFORE,
    SOURCE,
    BaseModel,
    model_id,
    table_with,
)
from airflow_tuning_provider.api.inputs import InvalidInputError, as_int, as_mapping, as_text
from airflow_tuning_provider.api.manifest import manifest
from airflow_tuning_provider.api.names import without_project
from airflow_tuning_provider.api.promotion import Version, version_of
from airflow_tuning_provider.api.states import Outcome, outcome

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

Json = dict[str, Any]

_LISTED = (
    "nextPageToken,tuningJobs(name,state,baseModel,preTunedModel,tunedModel,tunedModelDisplayName,createTime)"
)
_OLD_TABLE_DAYS = 180


class RetirementWatchOperator(TuningTask):
    """Tell which tuned models of a project and location rest on a base model that is about to be retired.

    A tuned model ends with its base model, and a month earlier its base model can no longer be tuned by everyone.
    The dates come from one table that carries its own date and source
    (:mod:`airflow_tuning_provider.api.base_models`); ``table`` has newer rows. Models that the registry no longer
    has are left out.

    :param warn_days: days before the retirement from which on a model is told of.
    :param table: rows that come before those of the provider: by model id,
        ``{"retires": "2027-05-19", "rebase_to": "gemini-3.5-flash"}``.
    :param aliases: only models whose version has one of these aliases, as ``["champion"]``; default: all.
    :param tuned_model_display_name: only models of this display name.
    :param today: the day to count from, as ``2026-11-25``; default: today in UTC.

    The other parameters are those of
    :class:`~airflow_tuning_provider.operators.tuning_job.CreateTuningJobOperator`.

    :return: the models to re-tune, the most urgent first: ``tuned_model``, ``display_name``, ``aliases``,
        ``tuning_job_name``, ``endpoint``, ``base_model``, ``retires``, ``days_left``, ``rebase_to``.
    """

    template_fields: Sequence[str] = (
        "warn_days",
        "table",
        "aliases",
        "tuned_model_display_name",
        "today",
        *SCOPE_FIELDS,
    )
    template_fields_renderers = {"table": "json"}  # noqa: RUF012 - Airflow's own convention
    ui_color = "#fef7e0"

    def __init__(
        self,
        *,
        warn_days: int | str = 60,
        table: Mapping[str, Any] | None = None,
        aliases: str | Sequence[str] | None = None,
        tuned_model_display_name: str | None = None,
        today: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.warn_days = warn_days
        self.table = table
        self.aliases = aliases
        self.tuned_model_display_name = tuned_model_display_name
        self.today = today

    def execute(self, context: Context) -> list[Json]:
        """Read jobs and models, and warn."""
        with refusing_invalid_input():
            table, days, today = table_with(self.table), self._days(), self._today()
        if (today - AS_OF).days > _OLD_TABLE_DAYS and not self.table:
            self.log.warning(
                "The table of retirements is of %s. See %s for newer dates, and give them as table.",
                AS_OF,
                SOURCE,
            )
        with self.make_hook() as hook:
            existing = self._existing(hook)
            jobs = [
                job
                for job in hook.list_tuning_jobs(page_size=1000, fields=_LISTED)
                if outcome(str(job.get("state"))) is Outcome.SUCCEEDED
            ]
        found, unknown = [], set()
        for job in jobs:
            told = manifest(job)
            version = existing.get(without_project(told["tuned_model"]))
            if version is None or not self._wanted(version):
                continue
            base = model_id(told["base_model"] or "")
            model = table.get(base)
            if model is None or model.retires is None:
                unknown |= {base} if model is None else set()
                continue
            if (model.days_left(today) or 0) <= days:
                found.append(_finding(told, version, model, today))
        found.sort(key=lambda one: (one["days_left"], one["tuned_model"]))
        self._warn(found, unknown, today)
        return found

    def _days(self) -> int:
        days = as_int(self.warn_days)
        if days is None or days < 0:
            raise InvalidInputError("warn_days", self.warn_days, "give a whole number of days, 0 or more")
        return days

    def _today(self) -> date:
        if not self.today:
            return datetime.now(timezone.utc).date()
        try:
            return date.fromisoformat(str(self.today)[:10])
        except ValueError:
            raise InvalidInputError("today", self.today, "give a date such as '2026-11-25'") from None

    def _existing(self, hook: TuningJobHook) -> dict[str, Version]:
        """Return the versions that the registry has, by name without project."""
        versions = [
            version_of({**model, "displayName": model.get("displayName") or listed.get("displayName")})
            for listed in hook.list_models(page_size=100)
            for model in hook.list_model_versions(str(listed["name"]))
        ]
        return {without_project(version.name): version for version in versions}

    def _wanted(self, version: Version) -> bool:
        given = self.aliases.split(",") if isinstance(self.aliases, str) else self.aliases
        aliases = {str(alias).strip() for alias in given or ()} - {""}
        named = self.tuned_model_display_name
        return (not aliases or bool(aliases & version.aliases)) and (
            not named or named == version.display_name
        )

    def _warn(self, found: Sequence[Json], unknown: set[str], today: date) -> None:
        for one in found:
            days = one["days_left"]
            blocked = days <= BLOCKED_BEFORE.days
            self.log.warning(
                "%s (%s, %s) rests on %s, which %s on %s or later%s. Rebase it on %s.",
                one["tuned_model"],
                one["display_name"],
                ", ".join(one["aliases"]) or "no alias",
                one["base_model"],
                "Google retires" if days >= 0 else "Google has retired",
                one["retires"],
                f", in {days} days; new access for tuning is blocked by now" if blocked and days >= 0 else "",
                one["rebase_to"],
            )
        for name in sorted(unknown):
            self.log.warning(
                "The table of %s does not have the base model %s. See %s, and give it as table.",
                AS_OF,
                name or "of a job that names none",
                SOURCE,
            )
        if not found and not unknown:
            self.log.info(
                "As of %s, no tuned model rests on a base model that is about to be retired.", today
            )


def _finding(told: Mapping[str, Any], version: Version, model: BaseModel, today: date) -> Json:
    return {
        "tuned_model": version.name,
        "display_name": version.display_name or as_text(told.get("tuned_model_display_name")),
        "aliases": sorted(version.aliases - {"default"}),
        "tuning_job_name": told["tuning_job_name"],
        "endpoint": version.endpoint or as_text(as_mapping(told).get("endpoint")),
        "base_model": model.name,
        "retires": str(model.retires),
        "days_left": model.days_left(today),
        "rebase_to": model.rebase_to,
    }
