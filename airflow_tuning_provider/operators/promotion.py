"""Operators that promote a tuned model, roll back to the one before it, and tell which one serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_tuning_provider._compat import AirflowSkipException
from airflow_tuning_provider._errors import refusing_invalid_input
from airflow_tuning_provider._tasks.champions import told
from airflow_tuning_provider._tasks.promoting import CHAMPION_FIELDS, ChampionTask, where
from airflow_tuning_provider.api import promotion
from airflow_tuning_provider.api.inputs import InvalidInputError, as_list, as_mapping, as_text
from airflow_tuning_provider.api.names import ModelName
from airflow_tuning_provider.api.promotion import ROLLED_BACK, Aliases, Step, Version
from airflow_tuning_provider.exceptions import (
    TuningNotPromotedError,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

Json = dict[str, Any]
Extra = Mapping[str, Any]


class PromoteTunedModelOperator(ChampionTask):
    """Make a tuned model the champion, keep the one before it for a roll-back, and tell it by an asset event.

    The task moves the version alias ``alias`` to the model, leaves ``previous_alias`` on the version that had it, and
    puts an extra on the event of each asset among its ``outlets``, so that other DAGs run on ``schedule=[MODEL]``:
    job, model, endpoint, dataset hash, metrics, verdict, and what a roll-back returns to. It can be repeated at any
    point. Models that the API gives no aliases are told of by the asset's last event alone.

    :param tuned_model: the manifest that the create operator returns, or a name: ``projects/…/models/ID[@VERSION]``.
    :param evaluation: the evaluation's result: ``passed``, ``verdict``, ``metrics``, ``report_uri``.
    :param dataset: the dataset's manifest, for its ``content_hash``.
    :param checkpoint_id: checkpoint that becomes the model's default one; default: it stays as it is.
    :param if_not_passed: what to do where the evaluation did not pass: ``fail``, ``skip`` or ``promote``.
    :param alias: version alias of the champion; ``None`` to use none: the champion is the asset's last event then.
    :param previous_alias: version alias of the one before it.
    :param outlets: the assets whose events tell of the champion.

    The other parameters are those of
    :class:`~airflow_tuning_provider.operators.tuning_job.CreateTuningJobOperator`.

    :return: the event's extra, see :func:`airflow_tuning_provider.api.promotion.event_extra`.
    """

    template_fields: Sequence[str] = (
        "tuned_model",
        "evaluation",
        "dataset",
        "checkpoint_id",
        "if_not_passed",
        *CHAMPION_FIELDS,
    )
    template_fields_renderers = {  # noqa: RUF012 - Airflow's own convention
        "tuned_model": "json",
        "evaluation": "json",
        "dataset": "json",
    }
    ui_color = "#e6f4ea"

    def __init__(
        self,
        *,
        tuned_model: Mapping[str, Any] | str,
        evaluation: Mapping[str, Any] | None = None,
        dataset: Mapping[str, Any] | None = None,
        checkpoint_id: str | int | None = None,
        if_not_passed: str = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tuned_model = tuned_model
        self.evaluation = evaluation
        self.dataset = dataset
        self.checkpoint_id = checkpoint_id
        self.if_not_passed = if_not_passed

    def execute(self, context: Context) -> Json:
        """Check, then promote."""
        with refusing_invalid_input():
            manifest, name = self._model()
            evaluation = self._mapping("evaluation")
            dataset = self._mapping("dataset") or {}
            if self.if_not_passed not in ("fail", "skip", "promote"):
                raise InvalidInputError(
                    "if_not_passed", self.if_not_passed, "give 'fail', 'skip' or 'promote'"
                )
        self.aliases()
        if (reason := promotion.refusal(evaluation)) is not None:
            self._not_passed(name, reason)
        with self.make_hook() as hook:
            target = self._target(hook, manifest, name)
            event = next(iter(told(context, self.assets)), {})
            before, alias = self._promote(hook, target, event)
        extra = promotion.event_extra(
            "promoted",
            target,
            manifest=manifest,
            evaluation=evaluation or {},
            dataset=dataset,
            before=before,
            alias=alias,
        )
        return self.tell(context, extra)

    def _model(self) -> tuple[Extra, ModelName]:
        given = self.tuned_model
        manifest = given if isinstance(given, Mapping) else {"tuned_model": given}
        state = manifest.get("state")
        if state not in (None, "JOB_STATE_SUCCEEDED", "JOB_STATE_PARTIALLY_SUCCEEDED"):
            raise InvalidInputError(
                "tuned_model",
                state,
                "give the manifest of a tuning job that has succeeded: this one has no model",
            )
        return manifest, ModelName.parse(manifest.get("tuned_model"), field="tuned_model")

    def _mapping(self, field: str) -> Extra | None:
        value = getattr(self, field)
        if value is None or isinstance(value, Mapping):
            return value
        raise InvalidInputError(field, value, "give the mapping that the task before returns")

    def _not_passed(self, name: ModelName, reason: str) -> None:
        if self.if_not_passed == "promote":
            self.log.warning("%s It is promoted all the same (if_not_passed='promote').", reason)
            return
        message = f"{name} is not promoted. {reason}"
        if self.if_not_passed == "skip":
            raise AirflowSkipException(message)
        raise TuningNotPromotedError(f"{message} To promote it all the same, set if_not_passed='promote'.")

    def _target(self, hook: TuningJobHook, manifest: Extra, name: ModelName) -> Version:
        """Return the version, with its default checkpoint set and its endpoint known."""
        model = hook.get_model(str(name))
        target = promotion.version_of(model)
        wanted = None if self.checkpoint_id in (None, "") else str(self.checkpoint_id)
        listed = [
            as_text(one.get("checkpointId")) for one in map(as_mapping, as_list(model.get("checkpoints")))
        ]
        if wanted is not None and listed and wanted not in listed:
            with refusing_invalid_input():
                raise InvalidInputError(
                    "checkpoint_id", wanted, f"{target.name} has {', '.join(map(str, listed))}"
                )
        chosen = promotion.at_checkpoint(target, wanted or target.checkpoint_id, manifest)
        self.check_endpoint(hook, chosen.endpoint, chosen.name)
        if wanted is not None and wanted != target.checkpoint_id:
            hook.set_default_checkpoint(target.name, wanted)
        return chosen

    def _promote(
        self, hook: TuningJobHook, target: Version, event: Extra
    ) -> tuple[Version | None, str | None]:
        """Return what a roll-back returns to, and the alias that the target has."""
        aliases, place = self.aliases(), ModelName.parse(target.name, field="tuned_model")

        def look(event: Extra) -> list[Version]:
            return self.line(hook, place, target.display_name, event, target.name)

        line = look(event)
        mine = promotion.named(line, target.name) or target
        steps = promotion.promotion(line, mine, aliases)
        others = [version for version in line if version is not mine]
        before = promotion.champion(others, aliases) or promotion.previous(others, aliases)
        refused = self.move(hook, steps)
        if not self.alias:
            return before, None
        after = look({})
        if promotion.champion(after, aliases) is None and refused is None:
            # An event told of the target as the champion, and the registry does not yet.
            refused = self.move(hook, [Step(target.name, add=(aliases.champion,))])
            after = look({})
        mine = promotion.named(after, target.name) or target
        if aliases.champion not in mine.aliases and refused is not None:
            return before, None
        self._check_alone(hook, after, mine, aliases)
        return promotion.previous(after, aliases) or before, aliases.champion

    def _check_alone(
        self, hook: TuningJobHook, line: Sequence[Version], mine: Version, aliases: Aliases
    ) -> None:
        """See that no other promotion or roll-back ran at the same time; of two promotions one stays."""
        if mine.aliases & {aliases.previous, ROLLED_BACK} or aliases.champion not in mine.aliases:
            other = promotion.champion(line, aliases)
            raise TuningNotPromotedError(
                f"{mine.name} was promoted, but another task has replaced it meanwhile by "
                f"{other.name if other else 'nothing'}. Let promotions and roll-backs of one line run one at a time."
            )
        others = promotion.rivals(line, mine, aliases)
        if promotion.wins(mine, others):
            for other in others:
                self.log.warning(
                    "Another task promoted %s at the same time; this newer one stays.", other.name
                )
                hook.merge_version_aliases(other.name, remove=[aliases.champion])
            return
        hook.merge_version_aliases(mine.name, remove=[aliases.champion])
        raise TuningNotPromotedError(
            f"{mine.name} is not promoted: another task promoted the newer {others[0].name} at the same time, which "
            "stays. Let promotions of one line run one at a time."
        )


class RollbackTunedModelOperator(ChampionTask):
    """Return to the model that served before, in one call, and tell it by an asset event.

    A roll-back that has been done is not done again: run twice, or retried, it returns the same model. The version
    that is taken out of service gets the alias ``rolled-back`` until the next promotion. To go to any other model,
    promote it.

    :param tuned_model_display_name: display name of the line's models; default: that of the asset's last event.
    :param alias: version alias of the champion; ``None`` to use none: the champion is the asset's last event then.
    :param previous_alias: version alias of the one before it.
    :param outlets: the assets whose events tell of the champion.

    The other parameters are those of
    :class:`~airflow_tuning_provider.operators.tuning_job.CreateTuningJobOperator`.

    :return: the event's extra, see :func:`airflow_tuning_provider.api.promotion.event_extra`.
    """

    template_fields: Sequence[str] = ("tuned_model_display_name", *CHAMPION_FIELDS)
    ui_color = "#fce8e6"

    def __init__(self, *, tuned_model_display_name: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tuned_model_display_name = tuned_model_display_name

    def execute(self, context: Context) -> Json:
        """Find the version before, and make it the champion."""
        aliases, events = self.aliases(), told(context, self.assets)
        event: Extra = next(iter(events), {})
        with self.make_hook() as hook:
            line = self.line(hook, *where(self.tuned_model_display_name, event), event)
            target, steps = promotion.rollback(line, aliases)
            serves = promotion.champion(line, aliases)
            if target is None and serves is not None and event.get("action") == "rolled_back":
                target = serves if serves.is_named(as_text(event.get("model"))) else None
            if target is None:
                raise TuningNotPromotedError(
                    f"There is nothing to return to: {serves.name if serves else 'no version'} is the champion, and "
                    f"no version has the alias {aliases.previous!r}. Promote the model that is to serve."
                )
            history = next((one for one in events if target.is_named(as_text(one.get("model")))), {})
            target = promotion.at_checkpoint(target, target.checkpoint_id, history)
            self.check_endpoint(hook, target.endpoint, target.name)
            if not steps:
                self.log.info("It has been rolled back already.")
            refused = self.move(hook, steps)
        extra = promotion.event_extra(
            "rolled_back",
            target,
            manifest=history,
            evaluation=history,
            dataset=history,
            before=None,
            alias=self.alias if self.alias and refused is None else None,
        )
        return self.tell(context, extra)


class GetChampionOperator(ChampionTask):
    """Tell which tuned model serves: by the version alias, else by the asset's last event.

    For a task that evaluates against the champion, or goes on tuning it.

    :param tuned_model_display_name: display name of the line's models; default: that of the asset's last event.
    :param fail_if_none: fail if there is no champion; default: the result is ``None``.
    :param alias: version alias of the champion; ``None`` to use none: the champion is the asset's last event then.
    :param previous_alias: version alias of the one before it.
    :param inlets: the asset whose events tell of the champion.

    The other parameters are those of
    :class:`~airflow_tuning_provider.operators.tuning_job.CreateTuningJobOperator`.

    :return: what the last promotion or roll-back to it told, with the endpoint as it is now; see
        :func:`airflow_tuning_provider.api.promotion.event_extra`.
    """

    template_fields: Sequence[str] = ("tuned_model_display_name", "fail_if_none", *CHAMPION_FIELDS)
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        tuned_model_display_name: str | None = None,
        fail_if_none: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tuned_model_display_name = tuned_model_display_name
        self.fail_if_none = fail_if_none

    def execute(self, context: Context) -> Json | None:
        """Read the registry and the events."""
        strict, aliases, events = self.flag("fail_if_none"), self.aliases(), told(context, self.assets)
        event: Extra = next(iter(events), {})
        if not event and not self.tuned_model_display_name:
            if self.assets:
                self._check_none(strict)
                return None
            with refusing_invalid_input():
                raise InvalidInputError(
                    "tuned_model_display_name",
                    None,
                    "give the display name of the models, or an asset as inlet",
                )
        with self.make_hook() as hook:
            line = self.line(hook, *where(self.tuned_model_display_name, event), event)
        serves = promotion.champion(line, aliases)
        if serves is None:
            self._check_none(strict)
            return None
        history = next((one for one in events if serves.is_named(as_text(one.get("model")))), {})
        serves = promotion.at_checkpoint(serves, serves.checkpoint_id, history)
        before = promotion.previous(line, aliases)
        action = as_text(history.get("action")) or "promoted"
        extra = promotion.event_extra(
            action,
            serves,
            manifest=history,
            evaluation=history,
            dataset=history,
            before=before,
            alias=self.alias or None,
        )
        self.log.info("Champion: %s, endpoint %s.", extra["model"], extra["endpoint"])
        return extra

    def _check_none(self, strict: bool) -> None:
        if strict:
            raise TuningNotPromotedError("There is no champion yet. (fail_if_none=True)")
        self.log.info("There is no champion yet.")
