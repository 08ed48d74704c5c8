"""Sensor that waits for a tuning job that something else created."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseOperator, BaseSensorOperator, PokeReturnValue, XComArg
from airflow.triggers.base import StartTriggerArgs

from airflow_tuning_provider.api.manifest import Manifest
from airflow_tuning_provider.api.polling import next_delay
from airflow_tuning_provider.api.states import outcome
from airflow_tuning_provider.exceptions import (
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferralError,
    TaskDeferralTimeout,
    TuningBadRequestError,
    TuningError,
    TuningNotFoundError,
    TuningSensorTimeoutError,
    TuningUnavailableError,
    TuningWaitTimeoutError,
    error_from_event,
    job_error,
)
from airflow_tuning_provider.links.tuning_job import LINKS, store
from airflow_tuning_provider.operators.base import (
    DEFAULT_CONN_ID,
    SCOPE_FIELDS,
    TuningTaskMixin,
    event_status,
)
from airflow_tuning_provider.triggers.tuning_job import BACKSTOP, TuningJobTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

_RETRY = "The sensor is not retried: an ended job stays ended."
_CALLBACKS = ("on_execute_callback", "on_success_callback", "on_skipped_callback")


class TuningJobSensor(TuningTaskMixin, BaseSensorOperator):
    """Wait for a tuning job: succeed when it succeeds, fail at once when it fails, is cancelled or expires.

    A sensor only watches: killing it, or letting it time out, leaves the job alone unless asked otherwise.

    :param tuning_job_name: full resource name, or a bare id where project and location are known.
    :param deferrable: wait in the triggerer; ``False`` uses ``mode`` (``poke`` or ``reschedule``).
    :param poll_interval: most seconds between two looks, in every mode; default: ``poke_interval``.
    :param cancel_on_kill: cancel the job when the sensor is killed.
    :param cancel_on_timeout: cancel the job when the sensor times out.
    :param start_from_trigger: start in the triggerer and, on success, end there too, without any worker. A
        failure is still raised on a worker, so that message, callbacks and retries are as in other modes.
        Refused where Airflow would lose something: outlets, and callbacks on execute, success and skip.
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

    template_fields: Sequence[str] = ("tuning_job_name", *SCOPE_FIELDS)
    operator_extra_links = LINKS
    ui_color = "#e6f4ea"

    def __init__(
        self,
        *,
        tuning_job_name: str,
        deferrable: bool = True,
        poll_interval: float | str | None = None,
        cancel_on_kill: bool = False,
        cancel_on_timeout: bool = False,
        start_from_trigger: bool = False,
        gcp_conn_id: str = DEFAULT_CONN_ID,
        project_id: str | None = None,
        location: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        api_version: str = "v1",
        request_timeout: float | str = 60.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tuning_job_name = tuning_job_name
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.gcp_conn_id = gcp_conn_id
        self.project_id = project_id
        self.location = location
        self.impersonation_chain = impersonation_chain
        self.api_version = api_version
        self.request_timeout = request_timeout
        self.start_from_trigger = start_from_trigger
        if start_from_trigger:
            self._start_in_triggerer()

    def _start_in_triggerer(self) -> None:
        lost = [name for name in ("outlets", *_CALLBACKS) if getattr(self, name, None)]
        if lost or not self.deferrable:
            reason = (
                f"Airflow does not run {', '.join(lost)}" if lost else "deferrable=False asks for a worker"
            )
            raise ValueError(
                f"start_from_trigger=True is refused for task {self.task_id!r}: {reason} for a task that ends in "
                "the triggerer. Leave start_from_trigger off."
            )
        # Airflow renders these in the triggerer: none of them is read here.
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls="airflow_tuning_provider.triggers.tuning_job.TuningJobTrigger",
            trigger_kwargs={
                **{field: _template(getattr(self, field)) for field in ("tuning_job_name", *SCOPE_FIELDS)},
                "poll_interval": self.poke_interval if self.poll_interval is None else self.poll_interval,
                "cancel_on_kill": self.cancel_on_kill,
                "end_in_triggerer": True,
            },
            next_method="execute_complete",
            timeout=timedelta(seconds=self._bound()),
        )

    def seconds(self, field: str) -> float:
        """Return a numeric parameter; the poll interval falls back on the sensor's ``poke_interval``."""
        if field == "poll_interval" and self.poll_interval is None:
            return float(self.poke_interval)
        return super().seconds(field)

    def execute(self, context: Context) -> Manifest:
        """Look once, then wait as asked."""
        self.seconds("poll_interval")
        if not self.deferrable:
            return self._poke_until_done(context)
        try:
            with self.make_hook() as hook:
                job = hook.get_tuning_job(self.tuning_job_name)
            result = self._result(context, job)
        except TuningError as error:
            self._fail(error)
        if result is not None:
            return result
        self.defer(
            trigger=TuningJobTrigger(
                tuning_job_name=job["name"],
                end_time=time.time() + self._bound(),
                cancel_on_kill=self.cancel_on_kill,
                **self.trigger_arguments(),
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=self._bound()) + BACKSTOP,
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Manifest:
        """Resume when the trigger has seen the end, or the deadline, or an error that ends the wait."""
        try:
            status = event_status(event, "tuning_job_name")
            name = str(event["tuning_job_name"])
            if status == "error":
                raise error_from_event(
                    event, f"watch {name}", tuning_job_name=name, outlook="The job is not affected."
                )
            if status == "timeout":
                raise self._time_is_up(name, self._bound())
            with self.make_hook() as hook:
                job = hook.get_tuning_job(name)
            result = self._result(context, job)
            if result is None:
                raise TuningUnavailableError(f"{name} was said to have ended, but it is {job['state']}.")
        except TuningError as error:
            self._fail(error)
        return result

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume; a trigger that was late or lost ends the wait as it would have ended itself."""
        try:
            return BaseOperator.resume_execution(self, next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            self._fail(self._time_is_up(self.tuning_job_name, self._bound()))
        except TaskDeferralError as error:
            self._fail(
                TuningUnavailableError(
                    f"The triggerer could not watch {self.tuning_job_name} ({error}). The job is not affected."
                )
            )

    def poke(self, context: Context) -> PokeReturnValue:
        """Look at the job once; an API that cannot be reached for the moment is looked at again."""
        try:
            result = self._result(context, self._poke_hook().get_tuning_job(self.tuning_job_name))
        except TuningError as error:
            if error.api_error is None or not error.api_error.kind.transient:
                self._fail(error)
            self.log.warning("%s The job is not affected; looking again.", error)
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=result is not None, xcom_value=result)

    def on_kill(self) -> None:
        """Cancel the job of a sensor that is killed on a worker, if asked, unless another attempt goes on."""
        if self.cancel_on_kill and self._hook is not None:
            self.unless_replaced(self._cancel_killed)

    # -- details -----------------------------------------------------------------------------------

    _hook: TuningJobHook | None = None
    _decided = False

    def _cancel_killed(self) -> None:
        try:
            self._poke_hook().cancel_now(self.tuning_job_name)
        except TuningError as error:
            self.log.error("The sensor was killed, but its job may go on and cost money: %s", error)
        else:
            self.log.info("The sensor was killed: asked for the cancellation of %s.", self.tuning_job_name)

    def _poke_hook(self) -> TuningJobHook:
        if self._hook is None:
            self._hook = self.make_hook()
        return self._hook

    def _poke_until_done(self, context: Context) -> Manifest:
        try:
            return super().execute(context)  # type: ignore[no-any-return]
        except (AirflowSensorTimeout, AirflowSkipException) as error:
            # Airflow also skips, under soft_fail and never_fail, for errors that say nothing of the time.
            if self._decided or isinstance(error.__cause__, Exception):
                raise
            self._fail(self._time_is_up(self.tuning_job_name, self.timeout))
        finally:
            if self._hook is not None:
                self._hook.close()

    def _get_next_poke_interval(
        self, started_at: Any, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        if self.exponential_backoff:
            return float(super()._get_next_poke_interval(started_at, run_duration, poke_count))
        return next_delay(run_duration(), self.seconds("poll_interval"), random=random.random())

    def _result(self, context: Context, job: dict[str, Any]) -> Manifest | None:
        """Return the manifest of a job that succeeded, ``None`` for one under way.

        :raises TuningError: for a job that ended otherwise; a sensor's retry could not change that.
        """
        store(context, job)
        if (error := job_error(job, retry=_RETRY, final=True)) is not None:
            raise error
        return self.succeeded(job) if outcome(job["state"]).ended else None

    def _bound(self) -> float:
        """Return how long this attempt may wait: Airflow does not apply execution_timeout to a deferred task."""
        limit = self.execution_timeout
        return self.timeout if limit is None else min(self.timeout, limit.total_seconds())

    def _time_is_up(self, name: str, bound: float) -> TuningWaitTimeoutError:
        fate = "It goes on and may cost money."
        if self.cancel_on_timeout:
            with self.make_hook() as hook, suppress(TuningBadRequestError, TuningNotFoundError):
                hook.cancel_tuning_job(name)
            fate = "Asked for its cancellation."
        if bound < self.timeout:
            # As on a worker, where it is AirflowTaskTimeout, this one is retried.
            return TuningWaitTimeoutError(
                f"{name} did not end within the sensor's execution_timeout of {bound:g} s. {fate}",
                tuning_job_name=name,
            )
        return TuningSensorTimeoutError(
            f"{name} did not end within the sensor's timeout of {self.timeout:g} s. {fate}",
            tuning_job_name=name,
        )

    def _fail(self, error: TuningError) -> NoReturn:
        """Fail, or skip where the user asked for that, the same in every mode."""
        self._decided = True
        if self.soft_fail or self.never_fail:
            raise AirflowSkipException(str(error)) from error
        raise error


def _template(value: Any) -> Any:
    """Return a reference to another task's result as the template that it stands for."""
    return str(value) if isinstance(value, XComArg) else value
