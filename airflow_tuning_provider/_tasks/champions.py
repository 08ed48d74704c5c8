"""What a task can find out of a line of tuned models: from the Model Registry, and from an asset's events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_tuning_provider._compat import newest_events
from airflow_tuning_provider._errors import refusing_invalid_input
from airflow_tuning_provider.api.inputs import InvalidInputError, as_mapping, as_text
from airflow_tuning_provider.api.names import ModelName, without_project
from airflow_tuning_provider.api.promotion import Version, version_of
from airflow_tuning_provider.exceptions import (
    TuningBadRequestError,
    TuningInvalidInputError,
    TuningNotFoundError,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

_EVENTS = 50
"""Events of an asset that are looked at."""


def assets_of(given: Any) -> list[Any]:
    """Return the assets among a task's outlets or inlets: an alias has no events before it has an asset."""
    from airflow.sdk import AssetAlias

    listed = given if isinstance(given, (list, tuple)) else [] if given is None else [given]
    return [one for one in listed if not isinstance(one, AssetAlias)]


def with_outlets_read(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return a task's arguments with its outlets' assets among its inlets: Airflow lets it read their events then."""
    given = kwargs.get("inlets") or []
    inlets = list(given) if isinstance(given, (list, tuple)) else [given]
    missing = [asset for asset in assets_of(kwargs.get("outlets")) if asset not in inlets]
    return {**kwargs, "inlets": [*inlets, *missing]} if missing else kwargs


def told(context: Context, assets: Sequence[Any]) -> list[Mapping[str, Any]]:
    """Return what the events of the first asset tell of its champions, the last one first."""
    if not assets:
        return []
    extras = newest_events(context, assets[0], _EVENTS)
    return [extra for extra in map(as_mapping, extras) if as_text(extra.get("model"))]


def read_line(
    hook: TuningJobHook, place: ModelName | None, display_name: str | None, also: Iterable[str | None] = ()
) -> list[Version]:
    """Return all versions of a line.

    :param place: a model of the project and location; ``None`` for the connection's.
    :param display_name: the display name of the line's models; ``None`` for no others than ``also``.
    :param also: further models, where they still exist.
    """
    models: dict[str, str] = {}
    for model in _models(hook, place, display_name) if display_name else ():
        models.setdefault(without_project(model["name"]).partition("@")[0], str(model["name"]))
    for name in filter(None, also):
        try:
            parsed = ModelName.parse(name, field="model").unversioned
        except InvalidInputError:
            continue  # an event may hold anything
        models.setdefault(without_project(parsed), str(parsed))
    return [version for name in models.values() for version in _versions(hook, name)]


def _models(hook: TuningJobHook, place: ModelName | None, display_name: str) -> Iterator[dict[str, Any]]:
    scope: dict[str, Any] = {"project_id": place.project, "location": place.location} if place else {}
    quoted = display_name.replace("\\", "\\\\").replace('"', '\\"')
    try:
        found = list(hook.list_models(**scope, filter=f'display_name="{quoted}"', page_size=100))
    except TuningInvalidInputError:
        raise
    except TuningBadRequestError as error:
        hook.log.info("The API refuses to filter models; looking at all of them. %s", error)
        found = list(hook.list_models(**scope, page_size=100))
    return (model for model in found if model.get("displayName") == display_name)


def _versions(hook: TuningJobHook, name: str) -> list[Version]:
    try:
        with refusing_invalid_input():
            return [version_of(model) for model in hook.list_model_versions(name)]
    except TuningNotFoundError:
        return []  # it was deleted
