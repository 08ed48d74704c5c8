"""The trigger that waits in the triggerer. It looks, and cancels what it is asked to; it creates nothing.

A trigger's arguments are stored in the metadata database and survive upgrades in both directions, so they are
names, ids and wall-clock times only, and arguments of another version are tolerated.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_tuning_provider._errors import refusing_invalid_input
from airflow_tuning_provider._supervisor import push_xcoms, was_ended
from airflow_tuning_provider.api.identity import key_filter, own_jobs
from airflow_tuning_provider.api.inputs import InvalidInputError, number
from airflow_tuning_provider.api.manifest import manifest
from airflow_tuning_provider.api.states import Outcome, may_be_joined, outcome
from airflow_tuning_provider.exceptions import (
    TuningBadRequestError,
    TuningError,
    TuningNotFoundError,
    TuningWaitTimeoutError,
)
from airflow_tuning_provider.triggers import events

if TYPE_CHECKING:
    from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
    from airflow_tuning_provider.triggers.sharing import Ask, Identity

BACKSTOP = timedelta(minutes=5)
"""How much later than the deadline the deferral's own timeout is: only for a trigger that is late or lost."""

SETTLE_SECONDS = 10.0
"""How long after a deferral a task resumes at the earliest.

The process that deferred is seen to have ended up to ``[workers] min_heartbeat_interval`` (5 s) later. Where its task
runs again by then, Airflow's scheduler takes it for a task that was killed, and fails or retries it:
https://github.com/apache/airflow/issues/72716
"""

_KILL_SECONDS = 28.0
"""A little less than Airflow grants: ``[triggerer] on_kill_timeout`` is 30 s by default."""

_SEARCH_SECONDS = 20.0
"""How much of that a job is looked for whose create was not answered."""

_KILLS: set[asyncio.Task[None]] = set()
"""Kills under way. The event loop itself holds its tasks by weak references only."""

_IS_TOLD_OF_KILLS = hasattr(BaseTrigger, "on_kill")
"""Airflow 3.3 calls ``on_kill``; before, a trigger that is no longer wanted is cancelled, and nothing else."""


class TuningJobTrigger(BaseTrigger):
    """Waits for the end of a tuning job or of a long-running operation, or for nothing but time.

    :param gcp_conn_id: Airflow connection; looked up in the triggerer, never stored here.
    :param tuning_job_name: the job's full resource name, or its id together with project and location; or
    :param operation_name: the operation's full resource name. Without either, and with ``resume``, it is a pause
        until ``end_time``.
    :param poll_interval: most seconds between two looks.
    :param end_time: epoch seconds at which to stop waiting, ``None`` for never.
    :param wait_seconds: the same in seconds from when the trigger first runs, where nothing knew the time before.
    :param impersonation_chain: service accounts to act as.
    :param api_version: ``v1`` or ``v1beta1``.
    :param request_timeout: seconds for one HTTP request.
    :param project_id: project of a bare job id; default: the connection's.
    :param location: location of a bare job id; default: the connection's.
    :param cancel_on_kill: cancel what is waited for when the task is ended while it waits here.
    :param cancel_on_timeout: cancel it when the deadline comes.
    :param job_key: the key that labels all jobs of the task instance: a kill cancels every one of them.
    :param resume: what the task needs to go on, given back in the event.
    :param end_in_triggerer: end the task here on success, without a worker.
    """

    def __init__(
        self,
        *,
        gcp_conn_id: str,
        tuning_job_name: str | None = None,
        operation_name: str | None = None,
        poll_interval: float = 60.0,
        end_time: float | None = None,
        wait_seconds: float | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        api_version: str = "v1",
        request_timeout: float = 60.0,
        project_id: str | None = None,
        location: str | None = None,
        cancel_on_kill: bool = False,
        cancel_on_timeout: bool = False,
        job_key: str | None = None,
        resume: Mapping[str, Any] | None = None,
        end_in_triggerer: bool = False,
        **_: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.gcp_conn_id = gcp_conn_id
        self.tuning_job_name = tuning_job_name
        self.operation_name = operation_name
        self.poll_interval = poll_interval
        self.end_time = end_time
        self.wait_seconds = wait_seconds
        self.impersonation_chain = impersonation_chain
        self.api_version = api_version
        self.request_timeout = request_timeout
        self.project_id = project_id
        self.location = location
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.job_key = job_key
        self.resume = resume
        self.end_in_triggerer = end_in_triggerer
        self._fired = False
        self._ended = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments to rebuild this trigger with."""
        names = (
            "gcp_conn_id", "tuning_job_name", "operation_name", "poll_interval", "end_time", "wait_seconds",
            "impersonation_chain", "api_version", "request_timeout", "project_id", "location", "cancel_on_kill",
            "cancel_on_timeout", "job_key", "resume", "end_in_triggerer",
        )  # fmt: skip
        return f"{__name__}.TuningJobTrigger", {name: getattr(self, name) for name in names}

    @property
    def name(self) -> str:
        """The name of what is waited for, empty for a pause."""
        return str(self.operation_name or self.tuning_job_name or "")

    # -- waiting -------------------------------------------------------------------------------------

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then say how the wait ended, see :mod:`airflow_tuning_provider.triggers.events`."""
        began = time.monotonic()
        try:
            event = await self._wait()
            self._ended = isinstance(event.payload, dict) and event.payload.get("status") == events.ENDED
            # Only where a scheduler watches the process that deferred: there is none under dag.test(), and none
            # before a sensor that started here.
            if self.trigger_id is not None and not self.end_in_triggerer:
                await asyncio.sleep(began + SETTLE_SECONDS - time.monotonic())
        except asyncio.CancelledError:
            if not _IS_TOLD_OF_KILLS:
                await self.on_kill()
            raise
        self._fired = True
        yield event

    async def _wait(self) -> TriggerEvent:
        from airflow_tuning_provider.triggers.watching import until_ended

        if self.wait_seconds is not None and self.end_time is None:
            self.end_time = time.time() + float(self.wait_seconds)
        if not self.name and self.resume is not None:
            # Whichever is shorter: clocks differ, and are set.
            pause = min((self.end_time or 0.0) - time.time(), self.wait_seconds or float("inf"))
            await asyncio.sleep(max(pause, 0.0))
            return self._event(events.paused())
        name = self.name
        try:
            with refusing_invalid_input():
                poll_interval = number(self.poll_interval, "poll_interval")
            await self._show()
            job = await until_ended(
                self._identity(),
                self.operation_name
                or self.tuning_job_name,  # as it is: what is no name is refused in these words
                poll_interval=poll_interval,
                deadline=self.end_time,
                log=self.log,
                project_id=self.project_id,
                location=self.location,
            )
            if self.end_in_triggerer and outcome(str(job.get("state"))) is Outcome.SUCCEEDED:
                with suppress(
                    TuningError
                ):  # what cannot be seen here is for a worker to look at, and to bear
                    return await self._success(job)
        except TuningWaitTimeoutError:
            return self._event(events.timed_out(name, cancelled=await self._cancel_late(name)))
        except TuningError as error:
            return self._event(events.failed(name, error))
        return self._event(events.ended(name))

    async def _show(self) -> None:
        """Show the link to a job that no worker has stored, as far as its name is known.

        It also asks Airflow's supervisor something before there is any hurry: for the first answer of all, that loads
        an API server of its own, which takes seconds, in which no trigger's event gets anywhere.
        """
        from airflow_tuning_provider.api.calls import Calls
        from airflow_tuning_provider.links.tuning_job import urls

        if self.end_in_triggerer:
            with suppress(InvalidInputError):
                full = Calls(self.project_id, self.location).full_name(self.name)
                await push_xcoms(self.task_instance, urls({"name": str(full)}))

    async def _success(self, job: dict[str, Any]) -> TriggerEvent:
        from airflow.triggers.base import TaskSuccessEvent

        from airflow_tuning_provider.links.tuning_job import urls

        if "tunedModel" not in job:
            async with self._hook() as ask:
                job = await ask(lambda hook: hook.get_tuning_job(job["name"]))
        if await push_xcoms(self.task_instance, {"return_value": manifest(job), **urls(job)}):
            return TaskSuccessEvent()
        return self._event(events.ended(self.name))  # then a worker ends the task

    async def _cancel_late(self, name: str) -> bool:
        """Cancel at the deadline, here: a worker may take long to come, or may never get as far."""
        if not self.cancel_on_timeout:
            return False
        try:
            async with self._hook() as ask:
                await ask(lambda hook: hook.cancel(self._full_name(hook)))
        except (TuningBadRequestError, TuningNotFoundError):
            return False  # it has ended meanwhile, or is gone
        except TuningError as error:
            self.log.warning(
                "Could not cancel it at its deadline; the task tries again. %s · %s", error, name
            )
            return False
        self.log.info("The time is up: asked for the cancellation · %s", name)
        return True

    def _event(self, event: events.Event) -> TriggerEvent:
        return TriggerEvent({**event, "resume": self.resume})

    def _identity(self) -> Identity:
        """Return who asks: triggers with the same identity share one poll."""
        from airflow_tuning_provider.hooks.connection import impersonation_chain
        from airflow_tuning_provider.triggers.sharing import Identity

        with refusing_invalid_input():
            return Identity(
                self.gcp_conn_id,
                impersonation_chain(self.impersonation_chain),
                str(self.api_version),
                number(self.request_timeout, "request_timeout"),
            )

    def _hook(self) -> AbstractAsyncContextManager[Ask[Any]]:
        from airflow_tuning_provider.triggers.sharing import shared_hook

        return shared_hook(self._identity())

    def _full_name(self, hook: TuningJobHook) -> str:
        return str(hook.full_name(self.name, project_id=self.project_id, location=self.location))

    # -- being killed --------------------------------------------------------------------------------

    async def on_kill(self) -> None:
        """Cancel the remote work if the task was ended by somebody, and only then.

        Airflow 3.3 repeats its cancellation of the trigger about every second until the trigger has ended,
        which would interrupt this very method: the work is done in a task of its own.
        """
        # Airflow also calls this where a trigger is slow to end after its event: the wait is over then.
        if self._fired or not self.cancel_on_kill:
            return
        work = asyncio.ensure_future(self._kill())
        _KILLS.add(work)
        work.add_done_callback(_KILLS.discard)
        give_up = time.monotonic() + _KILL_SECONDS
        while not work.done() and time.monotonic() < give_up:
            with suppress(asyncio.CancelledError):
                await asyncio.wait({work}, timeout=1.0)
        if work.done():
            work.result()
        else:
            # A triggerer that stalled, or that has hundreds of tasks to kill, still gets there.
            self.log.warning(
                "The cancellation takes longer than %s s. It goes on; what comes of it may not be told here.",
                _KILL_SECONDS,
            )

    async def _kill(self) -> None:
        if not await was_ended(self.task_instance, log=self.log):
            self.log.info("The task was not killed: what it waits for goes on · %s", self.name or "a pause")
            return
        names: list[str] = []
        lost = (self.resume or {}).get("sent") is not None and not self.name
        # First what is known, then what has to be looked for; neither keeps the other from being cancelled.
        for cancel in (self._cancel_own, self._cancel_others):
            try:
                async with self._hook() as ask:
                    names += await ask(cancel)
                    give_up = time.monotonic() + _SEARCH_SECONDS
                    while lost and not names and cancel == self._cancel_others and time.monotonic() < give_up:
                        await asyncio.sleep(1.0)  # the list may lag behind the create
                        names += await ask(cancel)
            except TuningError as error:
                what = self.name if cancel == self._cancel_own else "another job that it may have"
                self.log.error(
                    "The task was killed, but %s could not be cancelled: it may go on and cost money. %s",
                    what,
                    error,
                )
                lost = False
        if names:
            self.log.info("The task was killed: asked for the cancellation of %s.", ", ".join(names))
        elif lost:
            self.log.error("The task was killed, and its create was not answered. %s", events.MAY_APPEAR)

    def _cancel_own(self, hook: TuningJobHook) -> list[str]:
        """Cancel what is waited for, by its name; return it if there was anything to cancel."""
        return self._cancel_each(hook, [self._full_name(hook)] if self.name and not self._ended else [])

    def _cancel_others(self, hook: TuningJobHook) -> list[str]:
        """Cancel the task instance's other jobs: one that was created unseen, one too many."""
        if self.job_key is None:
            return []
        listed = hook.list_tuning_jobs(
            project_id=self.project_id,
            location=self.location,
            filter=key_filter(self.job_key),
            page_size=1000,
        )
        jobs = own_jobs(listed, self.job_key)
        names = [str(job["name"]) for job in jobs if may_be_joined(str(job.get("state")))]
        return self._cancel_each(hook, [name for name in names if name != self.name])

    @staticmethod
    def _cancel_each(hook: TuningJobHook, names: Sequence[str]) -> list[str]:
        cancelled = []
        for name in names:
            # One that has ended meanwhile, or is gone, needs no cancelling.
            with suppress(TuningBadRequestError, TuningNotFoundError):
                hook.cancel(name)
                cancelled.append(name)
        return cancelled


OperationTrigger = TuningJobTrigger
"""The path under which an earlier version stored triggers that wait for an operation."""
