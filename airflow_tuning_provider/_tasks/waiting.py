"""How a task waits for remote work: one deadline, one way to defer or to block, to resume and to be killed.

A step of a task returns its result, or says what it waits for. A blocking task then waits here, and a deferrable
one in the triggerer; both get one event, and one handler takes it to the next step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from airflow.sdk import BaseOperator

from airflow_tuning_provider._compat import TaskDeferralError, TaskDeferralTimeout
from airflow_tuning_provider._errors import refusing_invalid_input
from airflow_tuning_provider._tasks.attempt import Attempt
from airflow_tuning_provider._tasks.scope import SCOPE_FIELDS, TuningTask
from airflow_tuning_provider._tasks.work import Work
from airflow_tuning_provider.api.console import tuning_job_url
from airflow_tuning_provider.api.errors import ApiError
from airflow_tuning_provider.api.failure import error_code
from airflow_tuning_provider.api.inputs import number
from airflow_tuning_provider.api.manifest import Manifest
from airflow_tuning_provider.api.names import is_operation
from airflow_tuning_provider.api.states import JobState
from airflow_tuning_provider.api.waiting import SIGHT_SECONDS, view
from airflow_tuning_provider.exceptions import (
    TuningBadRequestError,
    TuningDeadlineError,
    TuningError,
    TuningNotFoundError,
    TuningUnavailableError,
    TuningWaitTimeoutError,
)
from airflow_tuning_provider.links.tuning_job import store
from airflow_tuning_provider.triggers import events
from airflow_tuning_provider.triggers.tuning_job import BACKSTOP, TuningJobTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

Json = dict[str, Any]

PATIENCE = 60.0
"""Seconds for which a worker sends a call again; whatever takes longer is waited for."""

WEEK = 7 * 24 * 3600.0
WAIT_FIELDS: Sequence[str] = ("poll_interval", *SCOPE_FIELDS)
JOINED = "The job is not affected and may cost money. A retry of the task joins it."


@dataclass(frozen=True)
class WaitFor:
    """What a task waits for.

    :param name: a job or an operation, ``None`` for nothing but time.
    :param until: epoch seconds: the end of a pause, or the deadline, ``None`` for never.
    :param wanted: whether the task wants what it waits for; else it only has to be out of the way.
    """

    name: str | None
    until: float | None
    wanted: bool = True


Step: TypeAlias = "Manifest | WaitFor | None"


def was_cancelled(seen: Json) -> bool:
    """Whether a job, or an operation, has ended by a cancellation."""
    if "state" in seen:
        return bool(seen["state"] == JobState.CANCELLED.value)
    return error_code(seen.get("error")) == 1


class WaitingTask(TuningTask):
    """A task that waits for a tuning job or for an operation.

    :param poll_interval: most seconds between two looks.
    :param deferrable: wait in the triggerer, without a worker.
    :param cancel_on_kill: cancel the job when its task is killed.
    :param cancel_on_timeout: cancel the job when the time for it is up.

    The other parameters are those of :class:`~airflow_tuning_provider._tasks.scope.TuningTask`.
    """

    template_fields: Sequence[str] = WAIT_FIELDS

    def __init__(
        self,
        *,
        poll_interval: float | str | None = 60.0,
        deferrable: bool = True,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.poll_interval = poll_interval
        self.deferrable = deferrable
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout

    # -- what a subclass says ------------------------------------------------------------------------

    def begin(self, context: Context) -> Step:
        """Take the first step. It is taken again after each wait for something else than the task's own job."""
        raise NotImplementedError

    def check(self) -> None:
        """Find whatever is wrong with the parameters before anything is sent.

        :raises TuningInvalidInputError: naming the parameter, its value and what is allowed.
        """
        self.seconds("poll_interval")
        self.seconds("request_timeout")
        self.allowed_seconds()
        if self.execution_timeout is not None:
            with refusing_invalid_input():
                number(self.execution_timeout.total_seconds(), "execution_timeout")

    def ended(self, context: Context, seen: Json) -> Step:
        """Say what the end means of the job or the operation that was waited for."""
        raise NotImplementedError

    def allowed_seconds(self) -> float | None:
        """Return how long it may take from its beginning, ``None`` for as long as it takes."""
        raise NotImplementedError

    def key(self, context: Context) -> str | None:
        """Return the key that labels each of the task instance's jobs, where a kill has to find them."""
        return None

    # -- the life of a task ---------------------------------------------------------------------------

    attempt: Attempt
    hook: TuningJobHook
    job_key: str | None = None
    work: Work | None = None

    def execute(self, context: Context) -> Any:
        """Begin, then wait as asked."""
        self.check()
        started = time.time()
        self.attempt = Attempt(started, deadline=self.deadline(started, started))
        return self._live(context, lambda: self.begin(context))

    def execute_complete(self, context: Context, event: Any) -> Any:
        """Resume with a trigger's event."""
        resume = event.get("resume") if isinstance(event, Mapping) else None
        # A sensor that started in the triggerer brings nothing but the name.
        self.attempt = Attempt.from_json(resume or {"name": events.parse(event)["name"]}, now=time.time())
        return self._live(context, lambda: self._resumed(context, event))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume; a trigger that came too late or was lost must not leave its job behind."""
        try:
            # Not the sensor's, which makes a sensor's timeout of everything.
            return BaseOperator.resume_execution(self, next_method, next_kwargs, context)
        except (TaskDeferralError, TaskDeferralTimeout) as error:
            lost = error  # the name ends with the clause
        self.attempt = Attempt(time.time())
        return self._live(context, lambda: self._without_trigger(context, lost))

    def on_kill(self) -> None:
        """Cancel the work of a task that is killed on a worker."""
        if self.cancel_on_kill and self.work is not None:
            self.work.kill()

    def _live(self, context: Context, step: Callable[[], Step]) -> Any:
        deadline = self.attempt.deadline
        left = PATIENCE if deadline is None else max(deadline - time.time(), 1.0)
        with self.make_hook(min(left, PATIENCE)) as self.hook:
            self.job_key = self.key(context)
            self.work = Work(self.hook, self.log, self.job_key)
            if self.attempt.name is not None:
                self.work.adopt(self.attempt.name)
            return self._to_the_end(context, step())

    def _to_the_end(self, context: Context, step: Step) -> Manifest | None:
        while isinstance(step, WaitFor):
            if self.deferrable:
                self._defer(step)
            step = self._resumed(context, self._wait(step))
        return step

    def _resumed(self, context: Context, event: Any) -> Step:
        event = events.parse(event)
        status, name = event["status"], event["name"]
        if status == events.TIMEOUT:
            return self._time_is_up(context, name, cancelled=bool(event.get("cancelled")))
        if status == events.ERROR:
            raise events.error_of(event)
        if status == events.PAUSED:
            name = self.attempt.name
            if name is not None and self.cancel_on_timeout and self._is_overdue():
                return self._time_is_up(context, name)
        else:
            self.attempt.pauses = 0
        if name is None or name != self.attempt.name:
            if name is not None and name not in self.attempt.ended:
                self.attempt.ended.append(name)
            return self.begin(context)
        return self._look_at_end(context, name)

    def _look_at_end(self, context: Context, name: str) -> Step:
        """Get what has ended; what cannot be seen for the moment is looked at again."""
        seen = self.hook.look(name)
        if isinstance(seen, ApiError):
            return self._see_later(name, f"cannot be seen: {seen}")
        if not view(name, seen).ended:
            return self._see_later(name, f"is {view(name, seen).words}, although its end was seen.")
        self.attempt.blind_since = None
        return self.ended(context, seen)

    def _is_overdue(self) -> bool:
        return self.attempt.deadline is not None and time.time() >= self.attempt.deadline

    def _see_later(self, name: str, trouble: str) -> WaitFor:
        """Look again after a pause: no refusal, and nothing local, ends the wait for a job that exists at once.

        :param trouble: what is wrong with it, as the rest of a sentence that begins with its name.
        """
        now = time.time()
        self.attempt.name = name
        self.attempt.blind_since = self.attempt.blind_since or now
        if now - self.attempt.blind_since >= SIGHT_SECONDS:
            raise TuningUnavailableError(f"{name} {trouble}\n{JOINED}", tuning_job_name=name)
        self.log.warning("Looking again, as it %s · %s", trouble.rstrip("."), name)
        return self.pause()

    # -- waiting ---------------------------------------------------------------------------------------

    def deadline(self, began: float, started: float) -> float | None:
        """Return when the wait ends, in epoch seconds.

        :param began: when what is waited for began; ``timeout`` counts from then.
        :param started: when the attempt began; ``execution_timeout`` counts from then, as Airflow does not apply
            it while a task is deferred.
        """
        allowed = self.allowed_seconds()
        # Nothing begins in the future, whatever the API says.
        bounds = [] if allowed is None else [min(began, time.time()) + allowed]
        if self.execution_timeout is not None:
            bounds.append(started + self.execution_timeout.total_seconds())
        return min(bounds, default=None)

    def wait_for(self, name: str, *, began: float) -> WaitFor:
        """Wait for the job or the operation that the task is about.

        :param began: when it began, in epoch seconds.
        """
        self.attempt.name = name
        self.attempt.deadline = self.deadline(began, self.attempt.started)
        return WaitFor(name, self.attempt.deadline)

    def pause(self, seconds: float = 0.0) -> WaitFor:
        """Wait for some time, longer each time in a row up to ``poll_interval``, and not beyond the deadline.

        :param seconds: how long at least.
        """
        now, deadline = time.time(), self.attempt.deadline
        until = now + max(min(self.attempt.next_pause(), self.seconds("poll_interval")), seconds)
        # Once it has passed, it is no bound any more: a pause takes time.
        return WaitFor(None, until if deadline is None or deadline <= now else min(until, deadline))

    def _wait(self, what: WaitFor) -> events.Event:
        if what.name is None:
            time.sleep(max((what.until or 0.0) - time.time(), 0.0))
            return events.paused()
        try:
            self.hook.wait_until_ended(
                what.name, poll_interval=self.seconds("poll_interval"), deadline=what.until
            )
        except TuningWaitTimeoutError:
            return events.timed_out(what.name, cancelled=False)
        except TuningError as error:
            return events.failed(what.name, error)
        return events.ended(what.name)

    def _defer(self, what: WaitFor) -> NoReturn:
        if what.name is not None:
            self.log.info("Waiting in the triggerer · %s", what.name)
        now = time.time()
        # A pause that is late is no reason to cancel: only the deadline is.
        end = self.attempt.deadline if what.name is None else what.until
        pause = None if what.until is None or what.name else max(what.until - now, 0.0)
        self.defer(
            trigger=TuningJobTrigger(
                tuning_job_name=what.name if not is_operation(what.name) else None,
                operation_name=what.name if is_operation(what.name) else None,
                end_time=what.until,
                wait_seconds=pause,
                cancel_on_kill=self.cancel_on_kill,
                cancel_on_timeout=self.cancel_on_timeout and what.wanted,
                job_key=self.job_key,
                resume=self.attempt.as_json(),
                **self.trigger_arguments(),
            ),
            method_name="execute_complete",
            timeout=None if end is None else timedelta(seconds=max(end - now, 0.0)) + BACKSTOP,
        )

    def trigger_arguments(self) -> dict[str, Any]:
        """Return the trigger's share of this task's parameters. No secrets: the connection is named only."""
        return {
            "gcp_conn_id": self.gcp_conn_id,
            "project_id": self.project_id,
            "location": self.location,
            "impersonation_chain": self.impersonation_chain,
            "api_version": self.api_version,
            "request_timeout": self.seconds("request_timeout"),
            "poll_interval": self.seconds("poll_interval"),
        }

    # -- when the time is up, and when the trigger is lost ----------------------------------------------

    def _time_is_up(self, context: Context, name: str, *, cancelled: bool = False) -> Step:
        """Cancel first, complain later: nothing that can fail comes before the cancellation."""
        if name != self.attempt.name:
            raise TuningWaitTimeoutError(
                f"{name}, which has to end first, did not end in time. Nothing was created; a retry of the task "
                "waits for it again.",
                tuning_job_name=name,
            )
        refusal: Exception | None = None
        if self.cancel_on_timeout and not cancelled:
            try:
                self.hook.cancel(name)
                cancelled = True
            except Exception as error:  # noqa: BLE001 - a connection that is missing, an API server that is away
                refusal = error
        seen = self.hook.look(name)
        if refusal is not None and (isinstance(seen, ApiError) or not view(name, seen).ended):
            # No refusal is the last word: it is asked for again after a pause.
            now = time.time()
            self.attempt.deadline = min(self.attempt.deadline or now, now)
            return self._see_later(name, f"was not cancelled when its time was up. {refusal}")
        if isinstance(seen, ApiError):
            raise self.timed_out(name, "", cancelled)
        if view(name, seen).ended and not (cancelled and was_cancelled(seen)):
            return self.ended(context, seen)  # it had ended at that very moment
        if not is_operation(name):
            store(context, seen)
        if cancelled:
            self.work = None  # a kill from here on has nothing to add
        raise self.timed_out(name, view(name, seen).words, cancelled)

    def timed_out(self, name: str, state: str, cancelled: bool) -> TuningError:
        """Return the exception for work whose time is up.

        :param state: its state in words, empty if unknown.
        """
        limit = self.execution_timeout
        own = limit is not None and self.attempt.deadline == self.attempt.started + limit.total_seconds()
        bound = "execution_timeout" if own else "timeout"
        kind: type[TuningWaitTimeoutError] = TuningDeadlineError
        fate = "It goes on and may cost money. Clear the task to wait for it again."
        if cancelled:
            fate = (
                "Asked for its cancellation. The task is not retried, as that would pay for another job: raise "
                f"{bound}, then clear the task to create one."
            )
        elif own:
            kind, fate = (
                TuningWaitTimeoutError,
                "It goes on and may cost money. A retry of the task joins it.",
            )
        then = "had not ended" if cancelled else f"was still {state or 'under way'}"
        return kind(
            f"{name} {then} when its {bound} had passed. {fate}\nConsole: {tuning_job_url(name)}",
            tuning_job_name=name,
        )

    def cancel(self, name: str) -> TuningError | None:
        """Ask for the cancellation of a job or an operation.

        :return: the refusal, ``None`` if it was accepted. What has ended meanwhile, or is gone, cannot be cancelled.
        """
        try:
            self.hook.cancel(name)
        except (TuningBadRequestError, TuningNotFoundError) as error:
            return error
        return None

    def _without_trigger(self, context: Context, error: Exception) -> Step:
        """Settle a deferral that ended without an event: what was waited for is known by this attempt's XCom."""
        name = self._awaited(context)
        if name is None:
            raise TuningUnavailableError(
                f"The wait ended without a result ({error}). A retry of the task looks for its job first."
            )
        self.attempt.name = name
        if isinstance(error, TaskDeferralTimeout):
            return self._time_is_up(context, name)
        seen = self.hook.look(name)
        if isinstance(seen, ApiError):
            return self._see_later(name, f"cannot be seen: {seen}")
        if view(name, seen).ended:
            return self.ended(context, seen)
        raise TuningUnavailableError(
            f"The triggerer could not watch {name}, which is {view(name, seen).words} ({error}). {JOINED}",
            tuning_job_name=name,
        )

    def _awaited(self, context: Context) -> str | None:
        ti: Any = context["ti"]
        for key in ("tuning_job_name", "operation_name"):
            found = ti.xcom_pull(task_ids=ti.task_id, key=key, map_indexes=ti.map_index)
            if found:
                return str(found)
        return None


class WaitingOperator(WaitingTask):
    """An operator that waits for what it does, unless it is told not to.

    :param wait_for_completion: wait for the end.
    :param timeout: seconds that it may take, ``None`` for no bound.

    The other parameters are those of :class:`WaitingTask`.
    """

    def __init__(
        self, *, wait_for_completion: bool = True, timeout: float | str | None = WEEK, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.wait_for_completion = wait_for_completion
        self.timeout = timeout

    def allowed_seconds(self) -> float | None:
        """Return ``timeout`` in seconds."""
        return None if self.timeout is None else self.seconds("timeout")
