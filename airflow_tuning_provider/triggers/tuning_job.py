"""Triggers that wait in the triggerer. They only look: nothing here creates a job.

A trigger's arguments are stored in the metadata database and survive upgrades in both directions, so they
are names, ids and wall-clock times only, and arguments of another version are tolerated.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_tuning_provider.api.inputs import number
from airflow_tuning_provider.api.manifest import manifest
from airflow_tuning_provider.api.states import Outcome, outcome
from airflow_tuning_provider.exceptions import TuningError, TuningWaitTimeoutError, refusing_invalid_input

if TYPE_CHECKING:
    from airflow_tuning_provider.hooks.tuning_job import TuningJobAsyncHook
    from airflow_tuning_provider.triggers.watching import Identity

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

_LOOK_SECONDS = 5.0
"""How much of that a look at the job may take before it is cancelled."""

_KILLS: set[asyncio.Task[None]] = set()
"""Kills under way. The event loop itself holds its tasks by weak references only."""

# The states in which a task no longer wants its job. Others are left alone: "deferred" means that another
# triggerer took over, "queued", "running" or none that the task was cleared and its next attempt joins the job.
_KILLED = frozenset({"failed", "success", "skipped", "removed", "upstream_failed"})


class _PollingTrigger(BaseTrigger):
    """What waiting for a job and waiting for an operation have in common."""

    def __init__(
        self,
        *,
        gcp_conn_id: str,
        poll_interval: float = 60.0,
        end_time: float | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        api_version: str = "v1",
        request_timeout: float = 60.0,
        cancel_on_kill: bool = False,
        **_: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.gcp_conn_id = gcp_conn_id
        self.poll_interval = poll_interval
        self.end_time = end_time
        self.impersonation_chain = impersonation_chain
        self.api_version = api_version
        self.request_timeout = request_timeout
        self.cancel_on_kill = cancel_on_kill
        self._after_worker = True
        self._fired = False

    def _arguments(self) -> dict[str, Any]:
        return {
            "gcp_conn_id": self.gcp_conn_id,
            "poll_interval": self.poll_interval,
            "end_time": self.end_time,
            "impersonation_chain": self.impersonation_chain,
            "api_version": self.api_version,
            "request_timeout": self.request_timeout,
            "cancel_on_kill": self.cancel_on_kill,
        }

    def _identity(self) -> Identity:
        """Return who asks: triggers with the same identity share one poll."""
        from airflow_tuning_provider.hooks.connection import impersonation_chain
        from airflow_tuning_provider.triggers.watching import Identity

        with refusing_invalid_input():
            return Identity(
                self.gcp_conn_id,
                impersonation_chain(self.impersonation_chain),
                str(self.api_version),
                number(self.request_timeout, "request_timeout"),
            )

    def _hook(self) -> AbstractAsyncContextManager[TuningJobAsyncHook]:
        from airflow_tuning_provider.triggers.watching import shared_hook

        return shared_hook(self._identity())

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then say how the wait ended: ``ended``, ``timeout`` or ``error``."""
        settled = time.monotonic() + (SETTLE_SECONDS if self._after_worker else 0.0)
        try:
            event = await self._wait()
        except Exception:
            await asyncio.sleep(settled - time.monotonic())
            raise
        await asyncio.sleep(settled - time.monotonic())
        self._fired = True
        yield event

    async def _wait(self) -> TriggerEvent:
        raise NotImplementedError

    async def on_kill(self) -> None:
        """Cancel the remote work if the task was killed by a user, and only then.

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
        if not await self._was_killed():
            self.log.info("The task was not killed; %s goes on.", self._awaited)
            return
        try:
            async with self._hook() as hook:
                if await self._cancel(hook):
                    self.log.info("The task was killed: asked for the cancellation of %s.", self._awaited)
                else:
                    # Not killed then: another triggerer, which took this one's place, has seen the end.
                    self.log.info("%s has ended: there is nothing to cancel.", self._awaited)
        except TuningError as error:
            self.log.error(
                "The task was killed, but %s could not be cancelled: it may go on and cost money. %s",
                self._awaited,
                error,
            )

    @property
    def _awaited(self) -> str:
        """The name of what is waited for."""
        raise NotImplementedError

    async def _cancel(self, hook: TuningJobAsyncHook) -> bool:
        """Ask for the cancellation; return whether there was anything to cancel."""
        raise NotImplementedError

    async def _was_killed(self) -> bool:
        """Ask Airflow whether the task was killed: 3.3 also calls ``on_kill`` on reassignment and on clear."""
        from airflow.sdk.execution_time import task_runner
        from airflow.sdk.execution_time.comms import GetTaskStates

        ti = self.task_instance
        if ti is None:
            return False
        answer = await task_runner.SUPERVISOR_COMMS.asend(
            GetTaskStates(
                dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
            )
        )
        states = getattr(answer, "task_states", {}).get(ti.run_id, {})
        return next(iter(states.values()), None) in _KILLED


class TuningJobTrigger(_PollingTrigger):
    """Waits for the end of one tuning job.

    :param tuning_job_name: the job's full resource name, or its id together with project and location.
    :param gcp_conn_id: Airflow connection; looked up in the triggerer, never stored here.
    :param poll_interval: most seconds between two looks.
    :param end_time: epoch seconds at which to stop waiting, ``None`` for never.
    :param impersonation_chain: service accounts to act as.
    :param api_version: ``v1`` or ``v1beta1``.
    :param request_timeout: seconds for one HTTP request.
    :param cancel_on_kill: cancel the job when the task is killed while it waits here.
    :param project_id: project of a bare job id; default: the connection's.
    :param location: location of a bare job id; default: the connection's.
    :param end_in_triggerer: end the task here on success, without a worker.
    """

    def __init__(
        self,
        *,
        tuning_job_name: str,
        project_id: str | None = None,
        location: str | None = None,
        end_in_triggerer: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tuning_job_name = tuning_job_name
        self.project_id = project_id
        self.location = location
        self.end_in_triggerer = end_in_triggerer
        # A sensor that starts in the triggerer has no process to wait for.
        self._after_worker = not end_in_triggerer

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments to rebuild this trigger with."""
        return (
            "airflow_tuning_provider.triggers.tuning_job.TuningJobTrigger",
            {
                **self._arguments(),
                "tuning_job_name": self.tuning_job_name,
                "project_id": self.project_id,
                "location": self.location,
                "end_in_triggerer": self.end_in_triggerer,
            },
        )

    async def _wait(self) -> TriggerEvent:
        from airflow_tuning_provider.triggers.watching import until_ended

        try:
            with refusing_invalid_input():
                poll_interval = number(self.poll_interval, "poll_interval")
            async with self._hook() as hook:
                job = await until_ended(
                    self._identity(),
                    self.tuning_job_name,
                    poll_interval=poll_interval,
                    deadline=self.end_time,
                    log=self.log,
                    project_id=self.project_id,
                    location=self.location,
                )
                if self.end_in_triggerer and outcome(job["state"]) is Outcome.SUCCEEDED:
                    from airflow.triggers.base import TaskSuccessEvent

                    from airflow_tuning_provider.links.tuning_job import urls

                    if "tunedModel" not in job:
                        job = await hook.get_tuning_job(job["name"])
                    return TaskSuccessEvent(xcoms={"return_value": manifest(job), **urls(job)})
        except TuningWaitTimeoutError as error:
            return self._event("timeout", message=str(error))
        except TuningError as error:
            return self._event("error", **error_fields(error))
        return self._event("ended", state=job["state"])

    def _event(self, status: str, **more: Any) -> TriggerEvent:
        return TriggerEvent({"status": status, "tuning_job_name": self.tuning_job_name, **more})

    @property
    def _awaited(self) -> str:
        return self.tuning_job_name

    async def _cancel(self, hook: TuningJobAsyncHook) -> bool:
        name = str(
            await hook.full_name(self.tuning_job_name, project_id=self.project_id, location=self.location)
        )
        if await self._has_ended(hook, name):
            return False
        await hook.cancel_tuning_job(name)
        return True

    @staticmethod
    async def _has_ended(hook: TuningJobAsyncHook, name: str) -> bool:
        """Look once, and not for long: what matters is the cancellation."""
        with suppress(asyncio.TimeoutError):
            seen = await asyncio.wait_for(hook.look(name), _LOOK_SECONDS)
            return isinstance(seen, dict) and outcome(seen["state"]).ended
        return False


class OperationTrigger(_PollingTrigger):
    """Waits for a long-running operation, such as the one that ``rebaseTunedModel`` answers with.

    :param operation_name: the operation's full resource name.

    The other parameters are those of :class:`TuningJobTrigger`.
    """

    def __init__(self, *, operation_name: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.operation_name = operation_name

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments to rebuild this trigger with."""
        return (
            "airflow_tuning_provider.triggers.tuning_job.OperationTrigger",
            {**self._arguments(), "operation_name": self.operation_name},
        )

    async def _wait(self) -> TriggerEvent:
        event: dict[str, Any] = {"status": "ended", "operation_name": self.operation_name}
        try:
            async with self._hook() as hook:
                await hook.wait_for_operation(
                    self.operation_name, poll_interval=float(self.poll_interval), deadline=self.end_time
                )
        except TuningWaitTimeoutError as error:
            event.update(status="timeout", message=str(error))
        except TuningError as error:
            event.update(status="error", **error_fields(error))
        return TriggerEvent(event)

    @property
    def _awaited(self) -> str:
        return self.operation_name

    async def _cancel(self, hook: TuningJobAsyncHook) -> bool:
        await hook.cancel_operation(self.operation_name)
        return True


def error_fields(error: TuningError) -> dict[str, Any]:
    """Return what a worker needs to raise the same error again."""
    api_error = error.api_error
    if api_error is None:
        return {"kind": "bad_request", "message": str(error)}
    return {
        "kind": api_error.kind.value,
        "message": str(api_error.message),
        "http_status": api_error.http_status,
        "rpc_status": api_error.status,
    }
