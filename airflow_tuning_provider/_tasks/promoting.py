"""What promotion, roll-back and clean-up have in common: they know which version of a line serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_tuning_provider._errors import refusing_invalid_input
from airflow_tuning_provider._tasks.champions import assets_of, read_line, with_outlets_read
from airflow_tuning_provider._tasks.scope import SCOPE_FIELDS, TuningTask
from airflow_tuning_provider.api import promotion
from airflow_tuning_provider.api.inputs import InvalidInputError, as_list, as_text
from airflow_tuning_provider.api.names import ModelName
from airflow_tuning_provider.api.promotion import ROLLED_BACK, Aliases, Step, Version
from airflow_tuning_provider.exceptions import (
    TuningBadRequestError,
    TuningInvalidInputError,
    TuningNotFoundError,
    TuningNotPromotedError,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

Json = dict[str, Any]
Extra = Mapping[str, Any]

CHAMPION_FIELDS: Sequence[str] = ("alias", "previous_alias", *SCOPE_FIELDS)


class ChampionTask(TuningTask):
    """A task that knows which version of a line of tuned models serves.

    :param alias: version alias of the champion; ``None`` to use none: the champion is the asset's last event then.
    :param previous_alias: version alias of the one before it.

    The assets whose events tell of the champion are the task's outlets, else its inlets; the first of them is read.
    """

    template_fields: Sequence[str] = CHAMPION_FIELDS

    def __init__(
        self,
        *,
        alias: str | None = "champion",
        previous_alias: str = "previous",
        **kwargs: Any,
    ) -> None:
        super().__init__(**with_outlets_read(kwargs))
        self.alias = alias
        self.previous_alias = previous_alias
        self.assets = assets_of(self.outlets) or assets_of(self.inlets)

    def aliases(self) -> Aliases:
        """Return the aliases; those by default where the registry has none, so that events can be read alike.

        :raises TuningInvalidInputError: if they are none.
        """
        with refusing_invalid_input():
            return Aliases(self.alias, self.previous_alias) if self.alias else Aliases()

    def line(
        self,
        hook: TuningJobHook,
        place: ModelName | None,
        display_name: str | None,
        event: Extra,
        *also: str,
    ) -> list[Version]:
        """Return the line's versions with the aliases that the registry, else the asset's last event, tells of."""
        known = [as_text(event.get("model")), as_text(event.get("previous_model")), *also]
        line = read_line(hook, place, display_name, known)
        aliases = self.aliases()
        if not self.alias:
            mine = {aliases.champion, aliases.previous, ROLLED_BACK}
            line = [promotion.without(version, mine) for version in line]
        return promotion.told_by_event(line, aliases, event)

    def move(self, hook: TuningJobHook, steps: Sequence[Step]) -> TuningBadRequestError | None:
        """Take the steps; return what the API refused, where an asset tells of the champion too.

        :raises TuningBadRequestError: if aliases are refused and nothing else could tell of the champion.
        """
        refused = None
        for step in steps if self.alias else ():
            try:
                hook.merge_version_aliases(step.name, add=step.add, remove=step.remove)
            except TuningInvalidInputError:
                raise
            except TuningBadRequestError as error:
                if not assets_of(self.outlets):
                    raise
                refused = refused or error
        if refused is not None:
            self.log.warning(
                "The API refuses version aliases here: the champion is what the last event of %s says. %s",
                self.assets[0],
                refused,
            )
        return refused

    def tell(self, context: Context, extra: Json) -> Json:
        """Put the champion into the asset events that the task's success emits, and return it."""
        for asset in assets_of(self.outlets):
            context["outlet_events"][asset].extra = extra
        self.log.info(
            "Champion: %s, endpoint %s. A roll-back returns to %s.",
            extra["model"],
            extra["endpoint"],
            extra["previous_model"] or "nothing",
        )
        return extra

    def check_endpoint(self, hook: TuningJobHook, endpoint: str | None, model: str) -> None:
        """See that a model can be called.

        :raises TuningNotPromotedError: if it cannot.
        """
        try:
            found = hook.get_endpoint(endpoint) if endpoint else {}
        except TuningNotFoundError:
            found = {}
        if not as_list(found.get("deployedModels")):
            raise TuningNotPromotedError(
                f"{model} cannot be called: its endpoint ({endpoint or 'none'}) does not exist or has no model. "
                "Nothing was changed. Deploy it, or choose another checkpoint or model."
            )


def where(display_name: str | None, event: Extra) -> tuple[ModelName | None, str | None]:
    """Return where a line is, and its display name.

    :param display_name: what the user gave, if anything.
    :param event: the extra of the asset's last event, empty if there is none.
    :raises TuningInvalidInputError: if neither tells.
    """
    with refusing_invalid_input():
        if not display_name and not event:
            raise InvalidInputError(
                "tuned_model_display_name",
                display_name,
                "give the display name of the models: no asset event tells of a champion yet",
            )
        model = as_text(event.get("model"))
        place = ModelName.parse(model, field="model") if model and not display_name else None
        return place, display_name or as_text(event.get("display_name"))
