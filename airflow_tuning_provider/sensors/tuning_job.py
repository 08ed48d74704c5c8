"""Sensor that waits for a tuning job that something else created."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseSensorOperator, PokeReturnValue, XComArg
from airflow.triggers.base import StartTriggerArgs

from airflow_tuning_provider._compat import AirflowSensorTimeout, AirflowSkipException
from airflow_tuning_provider._errors import given_up, job_error, refusing_invalid_input
from airflow_tuning_provider._tasks.attempt import Attempt
from airflow_tuning_provider._tasks.memory import Memory
from airflow_tuning_provider._tasks.waiting import WAIT_FIELDS, Step, WaitingTask
from airflow_tuning_provider._tasks.work import Work
from airflow_tuning_provider.api.errors import ApiError
from airflow_tuning_provider.api.inputs import number
from airflow_tuning_provider.api.polling import next_delay
from airflow_tuning_provider.api.states import outcome
from airflow_tuning_provider.api.waiting import SIGHT_SECONDS
from airflow_tuning_provider.exceptions import (
    TuningError,
    TuningSensorTimeoutError,
    TuningWaitTimeoutError,
)
from airflow_tuning_provider.links.tuning_job import LINKS, store
from airflow_tuning_provider.triggers.tuning_job import BACKSTOP

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

_RETRY = "The sensor is not retried: an ended job stays ended."
_CALLBACKS = ("on_execute_callback", "on_success_callback", "on_skipped_callback")


class TuningJobSensor(WaitingTask, BaseSensorOperator):
    """Wait for a tuning job: succeed when it succeeds, fail at once when it fails, is cancelled or expires.

    A sensor only watches: killing it, or letting it time out, leaves the job alone unless asked otherwise.

    :param tuning_job_name: full resource name, or a bare id where project and location are known.
    :param deferrable: wait in the triggerer; ``False`` uses ``mode`` (``poke`` or ``reschedule``).
    :param poll_interval: most seconds between two looks, in every mode; default: ``poke_interval``.
    :param cancel_on_kill: cancel the job when the sensor is killed.
    :param cancel_on_timeout: cancel the job when the sensor times out.
    :param start_from_trigger: start in the triggerer and, on success, end there too, without any worker. A
        failure is still raised on a worker, so that message, callbacks and retries are as in other modes.
        Refused where it cannot work: with outlets, with callbacks on execute, success and skip, and where the
        name comes from a mapped task. Airflow 3.1 starts the sensor on a worker all the same.
    :param gcp_conn_id: Airflow connection.
    :param project_id: project of a bare job id; default: the connection's.
    :param location: location of a bare job id; default: the connection's.
    :param impersonation_chain: service account to act as, or a chain of them.
    :param api_version: ``v1`` or ``v1beta1``.
    :param request_timeout: seconds for one HTTP request.
    :return: the manifest, see :func:`airflow_tuning_provider.api.manifest.manifest`.

    ``timeout`` (seconds, of the wait), ``soft_fail`` and the other parameters are those of every sensor.
    ``execution_timeout`` bounds each attempt, also while it is deferred.
    """

    template_fields: Sequence[str] = ("tuning_job_name", *WAIT_FIELDS)
    operator_extra_links = LINKS
    ui_color = "#e6f4ea"

    def __init__(
        self,
        *,
        tuning_job_name: str,
        poll_interval: float | str | None = None,
        cancel_on_kill: bool = False,
        cancel_on_timeout: bool = False,
        start_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            poll_interval=poll_interval,
            cancel_on_kill=cancel_on_kill,
            cancel_on_timeout=cancel_on_timeout,
            **kwargs,
        )
        self.tuning_job_name = tuning_job_name
        self.start_from_trigger = start_from_trigger
        if start_from_trigger:
            self._start_in_triggerer()

    def _start_in_triggerer(self) -> None:
        lost = [name for name in ("outlets", *_CALLBACKS) if getattr(self, name, None)]
        if lost:
            self._refuse(f"Airflow does not run {', '.join(lost)} for a task that ends in the triggerer")
        if not self.deferrable:
            self._refuse("deferrable=False asks for a worker")
        # Airflow renders these in the triggerer: none of them is read here.
        fields = {field: self._template(field) for field in ("tuning_job_name", *WAIT_FIELDS)}
        if self.poll_interval is None:
            fields["poll_interval"] = self.poke_interval
        bound = self.allowed_seconds()
        if self.execution_timeout is not None:
            bound = min(bound, self.execution_timeout.total_seconds())
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls="airflow_tuning_provider.triggers.tuning_job.TuningJobTrigger",
            trigger_kwargs={
                **fields,
                "wait_seconds": bound,
                "cancel_on_kill": self.cancel_on_kill,
                "cancel_on_timeout": self.cancel_on_timeout,
                "end_in_triggerer": True,
            },
            next_method="execute_complete",
            timeout=timedelta(seconds=bound) + BACKSTOP,
        )

    def _template(self, field: str) -> Any:
        """Return a parameter in a form that Airflow can render in the triggerer.

        There, XComs can be asked for one by one only: ``xcom_pull`` without ``map_indexes`` sends a message that
        the triggerer's supervisor refuses, and never answers (seen on Airflow 3.3.2).
        """
        value = getattr(self, field)
        if isinstance(value, XComArg):
            references = list(value.iter_references())
            mapped = [upstream.task_id for upstream, _ in references if _is_mapped(upstream)]
            if mapped or len(references) != 1 or not hasattr(value, "key"):
                self._refuse(
                    f"{field} comes from a mapped task, or is computed from results, which a worker has to do"
                )
            ((upstream, key),) = references
            return f"{{{{ ti.xcom_pull(task_ids={upstream.task_id!r}, key={key!r}, map_indexes=-1) }}}}"
        if isinstance(value, str) and "xcom_pull(" in value and "map_indexes" not in value:
            self._refuse(
                f"{field}={value!r} asks for XComs in a way that the triggerer cannot: add map_indexes=-1"
            )
        return value

    def _refuse(self, reason: str) -> NoReturn:
        raise ValueError(
            f"start_from_trigger=True is refused for task {self.task_id!r}: {reason}. Leave start_from_trigger off."
        )

    def seconds(self, field: str) -> float:
        """Return a numeric parameter; the poll interval falls back on the sensor's ``poke_interval``."""
        if field == "poll_interval" and self.poll_interval is None:
            return float(self.poke_interval)
        return super().seconds(field)

    def allowed_seconds(self) -> float:
        """Return the sensor's ``timeout`` in seconds."""
        with refusing_invalid_input():
            # 0 is a sensor that looks once.
            return number(self.timeout, "timeout") if self.timeout else 0.0

    # -- the life of a sensor --------------------------------------------------------------------------

    def execute(self, context: Context) -> Any:
        """Look once, then wait as asked."""
        try:
            return super().execute(context) if self.deferrable else self._poke_until_done(context)
        except TuningError as error:
            self._fail(error)

    def execute_complete(self, context: Context, event: Any) -> Any:
        """Resume with the trigger's event."""
        try:
            return super().execute_complete(context, event)
        except TuningError as error:
            self._fail(error)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume; a trigger that was late or lost ends the wait as it would have ended itself."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TuningError as error:
            self._fail(error)

    def begin(self, context: Context) -> Step:
        """Look at the job; one that cannot be seen for the moment is waited for all the same."""
        seen = self.hook.look(self.tuning_job_name)
        name = str(self.hook.full_name(self.tuning_job_name) if isinstance(seen, ApiError) else seen["name"])
        if isinstance(seen, dict):
            store(context, seen)
            if outcome(str(seen["state"])).ended:
                return self.ended(context, seen)
        if self.work is not None:
            self.work.adopt(name)
        context["ti"].xcom_push(key="tuning_job_name", value=name)
        return self.wait_for(name, began=self.attempt.started)

    def _awaited(self, context: Context) -> str:
        return str(self.hook.full_name(self.tuning_job_name))

    def ended(self, context: Context, seen: dict[str, Any]) -> Step:
        """Return the manifest of a job that succeeded.

        :raises TuningError: for a job that ended otherwise; a sensor's retry could not change that.
        """
        store(context, seen)
        if (error := job_error(seen, retry=_RETRY, final=True)) is not None:
            raise error
        return self.succeeded(seen)

    def timed_out(self, name: str, state: str, cancelled: bool) -> TuningError:
        """Return the exception for a job that did not end in time."""
        fate = "Asked for its cancellation." if cancelled else "It goes on and may cost money."
        # Airflow bounds each poke by execution_timeout, and nothing that is deferred.
        limit = self.execution_timeout.total_seconds() if self.execution_timeout and self.deferrable else None
        if limit is not None and limit < self.allowed_seconds():
            # Airflow retries a task that overran its execution_timeout, and so does a sensor.
            return TuningWaitTimeoutError(
                f"{name} did not end within the sensor's execution_timeout of {limit:g} s. {fate}",
                tuning_job_name=name,
            )
        return TuningSensorTimeoutError(
            f"{name} did not end within the sensor's timeout of {self.timeout:g} s. {fate}",
            tuning_job_name=name,
        )

    def _fail(self, error: TuningError) -> NoReturn:
        """Fail, or skip where the user asked for that, the same in every mode."""
        if self.soft_fail or self.never_fail:
            raise AirflowSkipException(str(error)) from error
        raise error

    # -- without a triggerer ---------------------------------------------------------------------------

    def _poke_until_done(self, context: Context) -> Any:
        self.check()
        with self._watching() as hook:
            try:
                return BaseSensorOperator.execute(self, context)
            except (AirflowSensorTimeout, AirflowSkipException) as error:
                # Airflow also skips, under soft_fail and never_fail, for errors that say nothing of the time.
                if isinstance(error.__cause__, Exception):
                    raise
                self.attempt.name = str(hook.full_name(self.tuning_job_name))
                return self._to_the_end(context, self._time_is_up(context, self.attempt.name))

    def _watching(self) -> TuningJobHook:
        if self.work is None:
            self.attempt = Attempt(time.time())
            self.hook = self.make_hook()
            self.work = Work(self.hook, self.log)
        return self.hook

    def poke(self, context: Context) -> PokeReturnValue:
        """Look at the job once; what cannot be seen for the moment is looked at again."""
        seen = self._watching().look(self.tuning_job_name)
        if isinstance(seen, ApiError):
            return self._unseen(context, seen)
        self.attempt.blind_since = None
        if self.work is not None:
            self.work.adopt(str(seen["name"]))
        store(context, seen)
        if not outcome(str(seen["state"])).ended:
            return PokeReturnValue(is_done=False)
        try:
            return PokeReturnValue(is_done=True, xcom_value=self.ended(context, seen))
        except TuningError as error:
            self._fail(error)

    def _unseen(self, context: Context, error: ApiError) -> PokeReturnValue:
        now = time.time()
        if self.reschedule:
            self._remember_blindness(context, now)
        self.attempt.blind_since = self.attempt.blind_since or now
        if now - self.attempt.blind_since >= SIGHT_SECONDS and not error.kind.transient:
            self._fail(given_up(self.tuning_job_name, error))
        self.log.warning("%s The job is not affected; looking again.", error)
        return PokeReturnValue(is_done=False)

    def _remember_blindness(self, context: Context, now: float) -> None:
        """Each poke of this mode is a process of its own: Airflow 3.3 can tell it since when nothing was seen."""
        memory = Memory(context.get("task_state_store"), self.log)
        since, last = memory.blind or (now, now)
        in_a_row = now - last <= 3 * self.seconds("poll_interval") + SIGHT_SECONDS / 5
        self.attempt.blind_since = since if in_a_row else now
        memory.remember(blind=[self.attempt.blind_since, now])

    def _get_next_poke_interval(
        self, started_at: Any, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        if self.exponential_backoff:
            return float(super()._get_next_poke_interval(started_at, run_duration, poke_count))
        return next_delay(run_duration(), self.seconds("poll_interval"), random=random.random())


def _is_mapped(operator: Any) -> bool:
    return bool(operator.is_mapped) or operator.get_closest_mapped_task_group() is not None
