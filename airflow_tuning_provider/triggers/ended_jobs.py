"""The trigger of an asset's watcher: an event for each tuning job of a project that ends, whoever created it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_tuning_provider._errors import job_error, refusing_invalid_input
from airflow_tuning_provider.api.console import tuning_job_url
from airflow_tuning_provider.api.endings import Mark, News, news
from airflow_tuning_provider.api.errors import ApiError
from airflow_tuning_provider.api.identity import labels_of
from airflow_tuning_provider.api.inputs import InvalidInputError, number
from airflow_tuning_provider.api.manifest import manifest
from airflow_tuning_provider.api.states import JobState, outcome
from airflow_tuning_provider.exceptions import TuningError

if TYPE_CHECKING:
    from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
    from airflow_tuning_provider.triggers.sharing import Identity

_KEY = "tuning_jobs_ended"
_LISTED = "nextPageToken,tuningJobs(name,state,endTime,updateTime,labels)"
_PAGE_SIZE = 1000
_TELL_AGAIN = 300.0
"""Seconds between two log lines about the same trouble."""

ENDED = tuple(state.value for state in JobState if outcome(state.value).ended)


class TuningJobEndedTrigger(BaseEventTrigger):
    """Fires for each tuning job of a project and location that ends, also for one that was started by hand.

    For ``AssetWatcher(name=…, trigger=TuningJobEndedTrigger(…))``: DAGs that are scheduled by the asset start when a
    job ends. The event's ``extra["payload"]`` is the job's manifest
    (:func:`airflow_tuning_provider.api.manifest.manifest`) with two more keys: ``error``, why it did not succeed, in
    words, and ``tuning_job_url``, its page in the console.

    Each end is told at least once. The first look tells what ended in the last 15 minutes. From Airflow 3.3 on, what
    has been told is kept in the asset's state store, and after a pause of the triggerer what ended meanwhile is told,
    unless it is older than ``catch_up``; before, each start of a triggerer is a first look.

    Each look walks the list of all jobs, with a request for each thousand of them.

    :param gcp_conn_id: Airflow connection.
    :param project_id: project; default: the connection's.
    :param location: location such as ``us-central1``; default: the connection's.
    :param impersonation_chain: service account to act as, or a chain of them.
    :param states: the ends of interest, such as ``["JOB_STATE_SUCCEEDED"]``; default: every one.
    :param labels: only jobs that have these labels, with these values.
    :param poll_interval: seconds between two looks.
    :param catch_up: seconds after which an end is not told any more.
    :param api_version: ``v1`` or ``v1beta1``.
    :param request_timeout: seconds for one HTTP request.
    :raises TuningInvalidInputError: naming the parameter, its value and what is allowed.
    """

    def __init__(
        self,
        *,
        gcp_conn_id: str = "google_cloud_default",
        project_id: str | None = None,
        location: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        states: Sequence[str] | None = None,
        labels: Mapping[str, str] | None = None,
        poll_interval: float = 60.0,
        catch_up: float = 24 * 3600.0,
        api_version: str = "v1",
        request_timeout: float = 60.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        with refusing_invalid_input():
            for state in states or ():
                if state not in ENDED:
                    raise InvalidInputError("states", state, f"give some of {', '.join(ENDED)}")
            self.poll_interval = number(poll_interval, "poll_interval")
            self.catch_up = number(catch_up, "catch_up")
            self.request_timeout = number(request_timeout, "request_timeout")
        self.gcp_conn_id = gcp_conn_id
        self.project_id = project_id
        self.location = location
        self.impersonation_chain = impersonation_chain
        self.states = None if states is None else list(states)
        self.labels = None if labels is None else dict(labels)
        self.api_version = api_version
        self._told_trouble = -float("inf")

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments to rebuild this trigger with."""
        names = (
            "gcp_conn_id", "project_id", "location", "impersonation_chain", "states", "labels", "poll_interval",
            "catch_up", "api_version", "request_timeout",
        )  # fmt: skip
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire for each end, for ever. Nothing that goes wrong ends the watch: it is told, and tried again."""
        mark = await self._remembered()
        while True:
            found = None
            try:
                found, payloads = await self._look(mark)
            except TuningError as error:
                self._tell(error)
            else:
                for payload in payloads:
                    yield TriggerEvent(payload)
            await asyncio.sleep(self.poll_interval)
            # Not before the next look: by then Airflow has stored the events, and none is lost with this process.
            if found is not None and found.mark != mark:
                mark = found.mark
                await self._remember(mark)

    async def _look(self, mark: Mark) -> tuple[News, list[dict[str, Any]]]:
        from airflow_tuning_provider.triggers.sharing import shared_hook

        async with shared_hook(self._identity()) as ask:
            ended = await ask(self._ended)
            found = news(ended, mark, now=time.time(), catch_up=self.catch_up)
            payloads = await ask(lambda hook: self._payloads(hook, found))
        self._told_trouble = -float("inf")
        return found, payloads

    def _ended(self, hook: TuningJobHook) -> list[dict[str, Any]]:
        """Return the jobs of interest that have ended."""
        jobs = hook.list_tuning_jobs(
            project_id=self.project_id, location=self.location, page_size=_PAGE_SIZE, fields=_LISTED
        )
        wanted = set(self.states or ENDED)
        labels = (self.labels or {}).items()
        return [
            job
            for job in jobs
            if job["state"] in wanted and all(labels_of(job).get(key) == value for key, value in labels)
        ]

    def _payloads(self, hook: TuningJobHook, found: News) -> list[dict[str, Any]]:
        if found.missed:
            self.log.warning(
                "%d tuning jobs ended more than %.0f s ago (catch_up): their ends are not told.",
                found.missed,
                self.catch_up,
            )
        return [self._payload(hook, dict(job)) for job in found.jobs]

    def _payload(self, hook: TuningJobHook, listed: dict[str, Any]) -> dict[str, Any]:
        name = str(listed["name"])
        seen = hook.look(name)
        job = listed if isinstance(seen, ApiError) else seen
        error = job_error(job)
        self.log.info("Telling of the end of %s: %s.", name, job.get("state"))
        return {
            **manifest(job),
            "error": None if error is None else str(error),
            "tuning_job_url": tuning_job_url(name),
        }

    def _identity(self) -> Identity:
        from airflow_tuning_provider.hooks.connection import impersonation_chain
        from airflow_tuning_provider.triggers.sharing import Identity

        with refusing_invalid_input():
            chain = impersonation_chain(self.impersonation_chain)
        return Identity(self.gcp_conn_id, chain, str(self.api_version), self.request_timeout)

    def _tell(self, error: TuningError) -> None:
        now = time.monotonic()
        if now - self._told_trouble >= _TELL_AGAIN:
            self._told_trouble = now
            self.log.warning(
                "The ends of tuning jobs cannot be seen for the moment; looking again. %s", error
            )

    # -- the asset's state store, from Airflow 3.3 on ------------------------------------------------------

    async def _remembered(self) -> Mark:
        kept = None
        store = getattr(self, "asset_state_store", None)
        if store is not None:
            try:
                kept = await store.aget(_KEY)
            except Exception as error:  # noqa: BLE001 - an end told twice is better than none told
                self.log.warning("Airflow's asset state store could not be read: %s", error)
        mark = Mark.from_json(kept, now=time.time())
        await self._remember(mark)
        return mark

    async def _remember(self, mark: Mark) -> None:
        store = getattr(self, "asset_state_store", None)
        if store is None:
            return
        try:
            await store.aset(_KEY, mark.as_json())
        except Exception as error:  # noqa: BLE001
            self.log.warning("Airflow's asset state store took no note of what was told: %s", error)
