"""Who is the champion of a line of tuned models, and how aliases move so that this is never in doubt.

A *line* is what one pipeline makes: the versions of all models of one display name in a project and location. A
tuning job makes a new model each time, unless it goes on from a tuned one, so that a line has many models, and an
alias, which the API keeps unique within a model only, may for a moment be on two of them. No call moves it between
models. The order of the steps here is such that, after each of them, the champion and the one before it can be told:
a process may be lost at any point, and the same promotion or roll-back then goes on.

Aliases: ``projects.locations.models.mergeVersionAliases`` of the discovery document.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from airflow_tuning_provider.api.inputs import InvalidInputError, as_list, as_mapping, as_text
from airflow_tuning_provider.api.manifest import parse_time
from airflow_tuning_provider.api.names import ModelName, validate_alias, without_project

ROLLED_BACK = "rolled-back"
"""The alias of a version that a roll-back took out of service; the next promotion takes it away."""


@dataclass(frozen=True)
class Aliases:
    """What the versions are told apart by.

    :param champion: the alias of the version that serves.
    :param previous: the alias of the one before it, which a roll-back returns to.
    """

    champion: str = "champion"
    previous: str = "previous"

    def __post_init__(self) -> None:
        for field in ("champion", "previous"):
            validate_alias(getattr(self, field), "alias" if field == "champion" else "previous_alias")
        if len({self.champion, self.previous, ROLLED_BACK}) < 3:
            raise InvalidInputError(
                "previous_alias", self.previous, f"alias, previous_alias and {ROLLED_BACK!r} must differ"
            )


@dataclass(frozen=True)
class Deployment:
    """Where a checkpoint of a version is deployed.

    :param endpoint: the endpoint.
    :param deployed_model_id: by which id the endpoint knows it.
    :param checkpoint_id: the checkpoint.
    """

    endpoint: str
    deployed_model_id: str
    checkpoint_id: str | None


@dataclass(frozen=True)
class Version:
    """A version of a tuned model.

    :param name: ``projects/…/models/ID@VERSION``.
    :param aliases: its aliases.
    :param created: when it was made, epoch seconds.
    :param display_name: the model's display name.
    :param checkpoint_id: its default checkpoint.
    :param deployments: where it is deployed.
    """

    name: str
    aliases: frozenset[str] = frozenset()
    created: float = 0.0
    display_name: str = ""
    checkpoint_id: str | None = None
    deployments: tuple[Deployment, ...] = ()

    @property
    def model(self) -> str:
        """The model, without project and version."""
        return without_project(self.name).partition("@")[0]

    @property
    def endpoint(self) -> str | None:
        """What ``generateContent`` is called on: the endpoint of the default checkpoint."""
        served = [one.endpoint for one in self.deployments if one.checkpoint_id == self.checkpoint_id]
        if (
            not served
            and len(self.deployments) == 1
            and None
            in (
                self.checkpoint_id,
                self.deployments[0].checkpoint_id,
            )
        ):
            served = [self.deployments[0].endpoint]  # of a model without checkpoints
        return served[0] if served else None

    def endpoint_of(self, checkpoint_id: str) -> str | None:
        """Return the endpoint of a checkpoint, ``None`` if it is not deployed.

        :param checkpoint_id: the checkpoint.
        """
        return next((one.endpoint for one in self.deployments if one.checkpoint_id == checkpoint_id), None)

    def is_named(self, name: str | None) -> bool:
        """Whether ``name`` is this version's, however its project is given."""
        return name is not None and without_project(name) == without_project(self.name)


@dataclass(frozen=True)
class Step:
    """One change of aliases: a call of ``mergeVersionAliases``.

    :param name: the version.
    :param add: aliases to give.
    :param remove: aliases to take away.
    """

    name: str
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


def version_of(model: Mapping[str, Any]) -> Version:
    """Return what of a Model matters here.

    :param model: a Model as the API returned it; its name may lack the version, which ``versionId`` has.
    """
    name = ModelName.parse(model.get("name"), field="name")
    created = parse_time(model.get("versionCreateTime")) or parse_time(model.get("createTime")) or 0.0
    version = as_text(model.get("versionId")) or name.version or "1"
    return Version(
        str(name.at(version)),
        frozenset(alias for alias in as_list(model.get("versionAliases")) if isinstance(alias, str)),
        created,
        as_text(model.get("displayName")) or "",
        as_text(model.get("defaultCheckpointId")),
        tuple(
            Deployment(str(one["endpoint"]), str(one["deployedModelId"]), as_text(one.get("checkpointId")))
            for one in map(as_mapping, as_list(model.get("deployedModels")))
            if as_text(one.get("endpoint")) and as_text(one.get("deployedModelId"))
        ),
    )


def named(line: Iterable[Version], name: str | None) -> Version | None:
    """Return the version of that name, if it is in the line.

    :param line: the versions.
    :param name: the name.
    """
    return next((version for version in line if version.is_named(name)), None)


def champion(line: Iterable[Version], aliases: Aliases) -> Version | None:
    """Return the version that serves.

    Of several that have the alias, one that is on its way out has a second one: the version that a promotion
    replaces is already the previous one, and what a roll-back takes out of service is marked first.

    :param line: the versions.
    :param aliases: what they are told apart by.
    """

    def rank(version: Version) -> tuple[bool, bool, float, str]:
        held = version.aliases
        return ROLLED_BACK in held, aliases.previous in held, -version.created, version.name

    return min((one for one in line if aliases.champion in one.aliases), key=rank, default=None)


def previous(line: Iterable[Version], aliases: Aliases) -> Version | None:
    """Return the version that a roll-back returns to.

    :param line: the versions.
    :param aliases: what they are told apart by.
    """
    line = list(line)
    serves = champion(line, aliases)

    def rank(version: Version) -> tuple[bool, float, str]:
        # One that still has the champion's alias has just been replaced: it comes before an older one.
        return aliases.champion not in version.aliases, -version.created, version.name

    return min(
        (one for one in line if aliases.previous in one.aliases and one is not serves), key=rank, default=None
    )


def without(version: Version, aliases: Set[str]) -> Version:
    """Return the version as if it had none of these aliases.

    :param version: the version.
    :param aliases: what to leave out.
    """
    return replace(version, aliases=version.aliases - aliases)


def at_checkpoint(version: Version, checkpoint_id: str | None, manifest: Mapping[str, Any]) -> Version:
    """Return the version with that default checkpoint, and with the endpoint that the manifest knows of it.

    :param version: the version.
    :param checkpoint_id: the checkpoint that it stands for.
    :param manifest: the manifest of its tuning job, or an event's extra; for a registry that does not tell.
    """
    chosen = replace(version, checkpoint_id=checkpoint_id)
    if chosen.endpoint is not None:
        return chosen
    known = {
        one.get("checkpoint_id"): as_text(one.get("endpoint"))
        for one in map(as_mapping, as_list(manifest.get("checkpoints")))
    }
    endpoint = known.get(checkpoint_id) if checkpoint_id != version.checkpoint_id else None
    endpoint = endpoint or (
        as_text(manifest.get("endpoint")) if checkpoint_id == version.checkpoint_id else None
    )
    if endpoint is None:
        return chosen
    return replace(chosen, deployments=(Deployment(endpoint, "", checkpoint_id),))


def told_by_event(line: Sequence[Version], aliases: Aliases, event: Mapping[str, Any]) -> list[Version]:
    """Return the line as the asset's last event has it, where no version has the champion's alias.

    :param line: the versions.
    :param aliases: what they are told apart by.
    :param event: the event's extra, see :func:`event_extra`.
    """
    if any(aliases.champion in one.aliases for one in line):
        return list(line)
    known = any(aliases.previous in one.aliases for one in line)

    def told(version: Version) -> Version:
        if version.is_named(as_text(event.get("model"))):
            return replace(version, aliases=version.aliases | {aliases.champion})
        if not known and version.is_named(as_text(event.get("previous_model"))):
            return replace(version, aliases=version.aliases | {aliases.previous})
        return version

    return [told(version) for version in line]


def promotion(line: Sequence[Version], target: Version, aliases: Aliases) -> list[Step]:
    """Return the steps that make a version the champion; none where it is.

    :param line: the versions, the target among them.
    :param target: the version to promote.
    :param aliases: what they are told apart by.
    """
    others = [one for one in line if not one.is_named(target.name)]
    replaced = champion(others, aliases)
    steps = []
    if replaced is not None and aliases.previous not in replaced.aliases:
        # First, so that it is never lost.
        steps.append(Step(replaced.name, add=(aliases.previous,)))
    add = () if aliases.champion in target.aliases else (aliases.champion,)
    remove = tuple(alias for alias in (aliases.previous, ROLLED_BACK) if alias in target.aliases)
    if add or remove:
        steps.append(Step(target.name, add, remove))
    for other in others:
        if replaced is not None and other is not replaced and aliases.previous in other.aliases:
            steps.append(Step(other.name, remove=(aliases.previous,)))
    for other in others:
        gone = tuple(alias for alias in (aliases.champion, ROLLED_BACK) if alias in other.aliases)
        if other.model == target.model:
            gone = tuple(alias for alias in gone if alias not in add)  # it has moved by itself
        if gone:
            steps.append(Step(other.name, remove=gone))
    return steps


def rivals(line: Iterable[Version], target: Version, aliases: Aliases) -> list[Version]:
    """Return the versions that another promotion has made champion at the same time.

    :param line: the versions after the steps of :func:`promotion`.
    :param target: the version that was promoted.
    :param aliases: what they are told apart by.
    """
    leaving = {aliases.previous, ROLLED_BACK}
    return [
        one
        for one in line
        if aliases.champion in one.aliases and not one.aliases & leaving and not one.is_named(target.name)
    ]


def wins(target: Version, others: Sequence[Version]) -> bool:
    """Whether of several promotions at the same time it is the target's that stays: that of the newest version.

    :param target: the version that was promoted.
    :param others: its rivals.
    """
    return all((target.created, target.name) > (other.created, other.name) for other in others)


def rollback(line: Sequence[Version], aliases: Aliases) -> tuple[Version | None, list[Step]]:
    """Return the version that a roll-back returns to and the steps to it; none where it has been done.

    :param line: the versions.
    :param aliases: what they are told apart by.
    :return: ``None`` for a version if there is none to return to.
    """
    serves, target = champion(line, aliases), previous(line, aliases)
    if target is None:
        if serves is None:
            return None, []
        marked = any(ROLLED_BACK in one.aliases for one in line)
        if aliases.previous not in serves.aliases or not marked:
            # It has been done; or a promotion was cut off before it had replaced what serves.
            return serves if marked or aliases.previous in serves.aliases else None, []
        target = serves  # a roll-back was cut off
    # What a promotion that was cut off has left goes first, or the next roll-back would take it for the target.
    steps = [
        Step(one.name, remove=(aliases.previous,))
        for one in line
        if aliases.previous in one.aliases and one is not target and one is not serves
    ]
    if serves is not None and serves is not target and ROLLED_BACK not in serves.aliases:
        # Before anything moves: it says which way this goes. It may be the previous one, of a promotion cut off.
        left = (aliases.previous,) if aliases.previous in serves.aliases else ()
        steps.append(Step(serves.name, add=(ROLLED_BACK,), remove=left))
    add = () if aliases.champion in target.aliases else (aliases.champion,)
    if add:
        steps.append(Step(target.name, add=add))
    for other in line:
        moved = other.model == target.model and add
        if other is not target and aliases.champion in other.aliases and not moved:
            steps.append(Step(other.name, remove=(aliases.champion,)))
    if aliases.previous in target.aliases:
        steps.append(Step(target.name, remove=(aliases.previous,)))
    return target, steps


def protected(line: Iterable[Version], event: Mapping[str, Any], aliases: Aliases) -> dict[str, str]:
    """Return the versions that nobody may delete, by name, each with the reason.

    Whatever has an alias is somebody's: the champion, the one before it, or what a person has named.

    :param line: the versions.
    :param aliases: what they are told apart by.
    :param event: the extra of the asset's last event, empty if there is none.
    """
    reasons: dict[str, str] = {}
    for version in line:
        held = sorted(version.aliases - {"default", ROLLED_BACK})
        if held:
            reasons[version.name] = f"it has the alias {', '.join(held)}"
        elif version.is_named(as_text(event.get("model"))):
            reasons[version.name] = "it is the champion by the asset's last event"
        elif version.is_named(as_text(event.get("previous_model"))):
            reasons[version.name] = "it is the roll-back target by the asset's last event"
    return reasons


def refusal(evaluation: Mapping[str, Any] | None) -> str | None:
    """Return why an evaluation does not allow a promotion, ``None`` if it does.

    :param evaluation: the evaluation's result: ``passed``, ``verdict``, ``metrics``, ``report_uri``.
    """
    if evaluation is None:
        return None
    passed, verdict = evaluation.get("passed"), as_text(evaluation.get("verdict"))
    if passed is True or (passed is None and verdict == "better"):
        return None
    said = f" The verdict is {verdict!r}." if verdict else ""
    report = as_text(evaluation.get("report_uri"))
    return f"The evaluation did not pass.{said}" + (f" Report: {report}" if report else "")


def plain(value: Any) -> Any:
    """Return a value as JSON that any database takes: no NaN, no infinity, no objects.

    :param value: the value, as a task has returned it.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


def event_extra(
    action: str,
    version: Version,
    *,
    manifest: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    dataset: Mapping[str, Any],
    before: Version | None,
    alias: str | None,
) -> dict[str, Any]:
    """Return what an asset event tells of a champion. Every key is always there, ``None`` where unknown.

    :param action: ``promoted`` or ``rolled_back``.
    :param version: the champion.
    :param manifest: the manifest of its tuning job, or an earlier event's extra.
    :param evaluation: the evaluation's result.
    :param dataset: the manifest of its dataset.
    :param before: the version that a roll-back returns to.
    :param alias: the alias that says so in the Model Registry, ``None`` where only the event does.
    """
    return {
        "action": action,
        "tuning_job_name": as_text(manifest.get("tuning_job_name")),
        "model": version.name,
        "endpoint": version.endpoint,
        "base_model": as_text(manifest.get("base_model")),
        "display_name": version.display_name or None,
        "checkpoint_id": version.checkpoint_id,
        "dataset_hash": as_text(dataset.get("content_hash")) or as_text(dataset.get("dataset_hash")),
        "metrics": plain(evaluation.get("metrics")),
        "verdict": as_text(evaluation.get("verdict")),
        "report_uri": as_text(evaluation.get("report_uri")),
        "previous_model": before.name if before else None,
        "previous_endpoint": before.endpoint if before else None,
        "alias": alias,
    }
