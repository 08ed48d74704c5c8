"""Operator that deletes what of a line of tuned models has lost: models, endpoints, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_tuning_provider._errors import refusing_invalid_input
from airflow_tuning_provider._tasks.champions import told
from airflow_tuning_provider._tasks.promoting import CHAMPION_FIELDS, ChampionTask
from airflow_tuning_provider.api import promotion
from airflow_tuning_provider.api.inputs import (
    InvalidInputError,
    as_int,
    as_list,
    as_mapping,
    as_text,
    number,
)
from airflow_tuning_provider.api.names import EndpointName, without_project
from airflow_tuning_provider.api.promotion import Version
from airflow_tuning_provider.api.states import outcome
from airflow_tuning_provider.exceptions import TuningError, TuningNotFoundError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

Extra = Mapping[str, Any]

_LISTED = "nextPageToken,tuningJobs(name,state,preTunedModel,tunedModel)"
_WEEK = 7 * 24 * 3600.0


@dataclass
class _Jobs:
    """What the tuning jobs tell of models.

    :param endpoints: by model with version, without project: the endpoints of its checkpoints.
    :param in_use: models, without project and version, that a job under way goes on from.
    """

    endpoints: dict[str, list[str]] = field(default_factory=dict)
    in_use: set[str] = field(default_factory=set)


class CleanUpTunedModelsOperator(ChampionTask):
    """Delete the models of a line that have lost, with their endpoints; never the champion or the one before it.

    Run it on a schedule, first with ``dry_run``, the default. What may not go: every version with a version alias
    (the champion, the roll-back target, what a person has named), what the asset's last event names, what a tuning
    job under way goes on from, the ``keep_latest`` newest of the others, and what is younger than ``min_age``. A
    line without a champion is left alone as a whole. Each version is looked at again right before it goes. The
    metrics and the labels of the tuning jobs stay: jobs are never deleted.

    :param tuned_model_display_name: display name of the line's models.
    :param keep_latest: how many of the newest losers are kept.
    :param min_age: seconds since it was made below which a version is left alone: it may be under evaluation.
    :param checkpoints: also take down the endpoints of all but the default checkpoint of the models that are kept by
        a version alias or by the event.
    :param dry_run: only report; the default.
    :param poll_interval: most seconds between two looks at an undeployment or deletion.
    :param timeout: seconds that each of them may take.
    :param alias: version alias of the champion; ``None`` to use none: the champion is the asset's last event then.
    :param previous_alias: version alias of the one before it.
    :param inlets: the asset whose events tell of the champion.

    The other parameters are those of
    :class:`~airflow_tuning_provider.operators.tuning_job.CreateTuningJobOperator`.

    :return: ``{"models": [names], "endpoints": [names], "deleted": [names], "left_alone": {name: reason}}``: what
        has lost, and what of it was deleted.
    """

    template_fields: Sequence[str] = (
        "tuned_model_display_name",
        "keep_latest",
        "min_age",
        "checkpoints",
        "dry_run",
        "poll_interval",
        "timeout",
        *CHAMPION_FIELDS,
    )
    ui_color = "#fce8e6"

    def __init__(
        self,
        *,
        tuned_model_display_name: str,
        keep_latest: int | str = 2,
        min_age: float | str = _WEEK,
        checkpoints: bool | str = False,
        dry_run: bool | str = True,
        poll_interval: float | str = 5.0,
        timeout: float | str = 900.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tuned_model_display_name = tuned_model_display_name
        self.keep_latest = keep_latest
        self.min_age = min_age
        self.checkpoints = checkpoints
        self.dry_run = dry_run  # type: ignore[method-assign, assignment]
        self.poll_interval = poll_interval
        self.timeout = timeout

    def execute(self, context: Context) -> dict[str, Any]:
        """Look at the line, report, and delete what has lost unless ``dry_run``."""
        dry_run = self._check()
        with self.make_hook() as hook:
            event: Extra = next(iter(told(context, self.assets)), {})
            line = self.line(hook, None, self.tuned_model_display_name, event)
            jobs = self._jobs(hook)
            left = self._left_alone(line, jobs, event)
            losers = [version for version in line if version.name not in left]
            endpoints = {one.name: self._endpoints(one, jobs) for one in losers}
            spare = self._spare_checkpoints(line, left, event)
            self._report(left, losers, endpoints, spare)
            deleted: list[str] = []
            if not dry_run:
                failed = self._delete(context, hook, losers, endpoints, spare, left, deleted)
                if failed:
                    raise TuningError(
                        f"Deleted {', '.join(deleted) or 'nothing'}; not deleted:\n"
                        + "\n".join(failed)
                        + "\nA retry goes on with these."
                    )
        found = sorted({name for names in endpoints.values() for name in names} | set(spare))
        self.log.info(
            "%d models of %r: %d have lost, %d deleted%s.",
            len(line),
            self.tuned_model_display_name,
            len(losers),
            len(deleted),
            " (dry_run)" if dry_run else "",
        )
        return {
            "models": [version.name for version in losers],
            "endpoints": found,
            "deleted": deleted,
            "left_alone": left,
        }

    def _check(self) -> bool:
        dry_run = self.flag("dry_run")
        self.flag("checkpoints")
        self.aliases()
        with refusing_invalid_input():
            if not self.tuned_model_display_name or not isinstance(self.tuned_model_display_name, str):
                raise InvalidInputError(
                    "tuned_model_display_name",
                    self.tuned_model_display_name,
                    "give the display name of the models",
                )
            kept = as_int(self.keep_latest)
            if kept is None or kept < 0:
                raise InvalidInputError("keep_latest", self.keep_latest, "give a whole number, 0 or more")
            if str(self.min_age) not in ("0", "0.0"):
                number(self.min_age, "min_age")
            number(self.poll_interval, "poll_interval")
            number(self.timeout, "timeout")
        return dry_run

    def _jobs(self, hook: TuningJobHook) -> _Jobs:
        jobs = _Jobs()
        for job in hook.list_tuning_jobs(page_size=1000, fields=_LISTED):
            tuned = as_mapping(job.get("tunedModel"))
            served = [one.get("endpoint") for one in map(as_mapping, as_list(tuned.get("checkpoints")))] + [
                tuned.get("endpoint")
            ]
            model = without_project(tuned.get("model"))
            jobs.endpoints.setdefault(model, []).extend(filter(None, map(as_text, served)))
            source = as_text(as_mapping(job.get("preTunedModel")).get("tunedModelName"))
            if source and not outcome(str(job.get("state"))).ended:
                jobs.in_use.add(without_project(source).partition("@")[0])
        return jobs

    def _left_alone(self, line: Sequence[Version], jobs: _Jobs, event: Extra) -> dict[str, str]:
        aliases = self.aliases()
        if promotion.champion(line, aliases) is None:
            return dict.fromkeys(
                (one.name for one in line), "the line has no champion: nothing says what lost"
            )
        left = promotion.protected(line, event, aliases)
        age, kept = float(self.min_age), as_int(self.keep_latest) or 0
        now = time.time()
        for version in sorted(line, key=lambda one: (one.created, one.name), reverse=True):
            if version.name in left:
                continue
            if version.display_name != self.tuned_model_display_name:
                left[version.name] = "it has another display name"
            elif version.model in jobs.in_use:
                left[version.name] = "a tuning job under way goes on from its model"
            elif kept > 0:
                kept -= 1
                left[version.name] = f"it is among the {self.keep_latest} newest losers"
            elif now - version.created < age:
                left[version.name] = f"it is younger than {age:g} s"
        return left

    def _endpoints(self, version: Version, jobs: _Jobs) -> list[str]:
        """Return a version's endpoints: where it is deployed, and where its job has deployed it."""
        names = [one.endpoint for one in version.deployments if one.deployed_model_id]
        names += jobs.endpoints.get(without_project(version.name), [])
        return list({without_project(name): name for name in names}.values())

    def _spare_checkpoints(
        self, line: Sequence[Version], left: Mapping[str, str], event: Extra
    ) -> dict[str, Version]:
        """Return the endpoints of kept models' checkpoints that nothing asks for, with their versions."""
        if not self.flag("checkpoints"):
            return {}
        asked = {without_project(event.get(key)) for key in ("endpoint", "previous_endpoint")}
        kept = promotion.protected(line, event, self.aliases())
        return {
            one.endpoint: version
            for version in line
            # A version whose default checkpoint is not known to be deployed may be asked for by any of them.
            if version.name in kept and version.name in left and version.checkpoint_id and version.endpoint
            for one in version.deployments
            if one.checkpoint_id not in (None, version.checkpoint_id)
            and one.endpoint != version.endpoint
            and without_project(one.endpoint) not in asked
        }

    def _report(
        self,
        left: Mapping[str, str],
        losers: Sequence[Version],
        endpoints: Mapping[str, Sequence[str]],
        spare: Mapping[str, Version],
    ) -> None:
        for name, reason in left.items():
            self.log.info("%s: left alone, %s.", name, reason)
        for version in losers:
            served = ", ".join(endpoints[version.name]) or "none"
            self.log.info("%s: has lost. Endpoints: %s.", version.name, served)
        for name, version in spare.items():
            self.log.info("%s: serves a checkpoint of %s that is not its default.", name, version.name)

    def _delete(
        self,
        context: Context,
        hook: TuningJobHook,
        losers: Sequence[Version],
        endpoints: Mapping[str, Sequence[str]],
        spare: Mapping[str, Version],
        left: dict[str, str],
        deleted: list[str],
    ) -> list[str]:
        """Delete one after the other; return what could not be, in words."""
        failed = []
        for version in losers:
            try:
                if (reason := self._wanted_after_all(context, hook, version)) is not None:
                    self.log.info("%s: left alone, %s.", version.name, reason)
                    left[version.name] = reason
                    continue
                for name in endpoints[version.name]:
                    deleted += self._take_down(hook, name, version)
                if self._delete_version(hook, version):
                    deleted.append(version.name)
            except TuningError as error:
                failed.append(f"{version.name}: {error}")
        for name, version in spare.items():
            try:
                deleted += self._take_down(hook, name, version)
            except TuningError as error:
                failed.append(f"{name}: {error}")
        return failed

    def _wanted_after_all(self, context: Context, hook: TuningJobHook, version: Version) -> str | None:
        """Look once more: it may have been promoted meanwhile."""
        event: Extra = next(iter(told(context, self.assets)), {})
        try:
            fresh = promotion.version_of(hook.get_model(version.name))
        except TuningNotFoundError:
            fresh = version  # it is gone; its endpoints may not be
        return promotion.protected([fresh], event, self.aliases()).get(fresh.name)

    def _take_down(self, hook: TuningJobHook, name: str, version: Version) -> list[str]:
        """Take a version off an endpoint, and delete the endpoint if nothing else is on it."""
        try:
            deployed = [as_mapping(one) for one in as_list(hook.get_endpoint(name).get("deployedModels"))]
            mine = [one for one in deployed if _is_of(one, version)]
            if len(mine) < len(deployed):
                self.log.info("%s: left alone, another model is on it.", name)
                return []
            for one in mine:
                self._wait(hook, hook.undeploy_model(name, str(one.get("id"))))
            self._wait(hook, hook.delete_endpoint(name))
        except TuningNotFoundError:
            return []  # it is gone already
        return [str(EndpointName.parse(name, field="endpoint"))]

    def _delete_version(self, hook: TuningJobHook, version: Version) -> bool:
        try:
            siblings = list(hook.list_model_versions(version.name))
            if len(siblings) == 1 and promotion.version_of(siblings[0]).is_named(version.name):
                self._wait(hook, hook.delete_model(version.name.partition("@")[0]))
            else:
                self._wait(hook, hook.delete_model_version(version.name))
        except TuningNotFoundError:
            return False
        return True

    def _wait(self, hook: TuningJobHook, operation: Mapping[str, Any]) -> None:
        if not operation.get("done"):
            operation = hook.wait_until_ended(
                str(operation["name"]),
                poll_interval=self.seconds("poll_interval"),
                deadline=time.time() + self.seconds("timeout"),
            )
        if error := as_mapping(operation.get("error")):
            raise TuningError(f"{operation['name']} failed: {error.get('message') or error}")


def _is_of(deployed: Mapping[str, Any], version: Version) -> bool:
    """Whether a DeployedModel is of a version; its model's name may have the version, or an alias, or neither."""
    model = without_project(deployed.get("model"))
    if model.partition("@")[0] != version.model:
        return False
    number = as_text(deployed.get("modelVersionId")) or model.partition("@")[2] or "1"
    return number == version.name.partition("@")[2]
