"""What a process has to cancel when it is killed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Any

from airflow_tuning_provider._supervisor import unless_replaced
from airflow_tuning_provider.api.identity import key_filter, own_jobs
from airflow_tuning_provider.api.states import may_be_joined
from airflow_tuning_provider.exceptions import TuningBadRequestError, TuningError, TuningNotFoundError
from airflow_tuning_provider.triggers.events import MAY_APPEAR

if TYPE_CHECKING:
    from airflow_tuning_provider.hooks.tuning_job import TuningJobHook


class Phase(Enum):
    """How far a process got."""

    NOTHING_SENT = "nothing_sent"
    LOOKING = "looking"
    SENDING = "sending"
    FATE_UNKNOWN = "fate_unknown"
    KNOWN = "known"


class Work:
    """The remote work of this process: its name once it is known, and whether it may exist before that.

    :param hook: whom to ask.
    :param key: the key that labels each of the task instance's jobs; ``None`` where a task has only the named one.
    """

    def __init__(self, hook: TuningJobHook, log: Any, key: str | None = None) -> None:
        self._hook = hook
        self._log = log
        self._key = key
        self._killed = False
        self.phase = Phase.NOTHING_SENT
        self.name: str | None = None

    def adopt(self, name: str, *, created: bool = False) -> None:
        """Take a job, or the operation that makes it, for this process's: it is what a kill cancels.

        :param created: whether this process has just created it, so that nobody else can have joined it.
        :raises TuningError: if the process was killed before it knew the name; it is cancelled then.
        """
        known, self.name, self.phase = self.name == name, name, Phase.KNOWN
        if known or not self._killed:
            return  # a kill that knew the name has cancelled it
        if created:
            self._hook.cancel_now(name)
        else:
            # The kill itself may have cancelled it by now.
            with suppress(TuningBadRequestError, TuningNotFoundError):
                unless_replaced(lambda: self._hook.cancel_now(name), log=self._log)
        raise TuningError(
            f"The task was killed before {name} was its own; asked for its cancellation.",
            tuning_job_name=name,
        )

    def looking(self, name: str | None) -> None:
        """Take note that an earlier attempt may have left jobs, which are looked for now.

        :param name: the one that is known.
        """
        if self.phase is Phase.NOTHING_SENT:
            self.name, self.phase = name, Phase.LOOKING

    def going_on(self) -> None:
        """Raise a :class:`TuningError` if the process was killed: it must not begin to wait."""
        if self._killed:
            if (
                self.phase is Phase.FATE_UNKNOWN
            ):  # the kill left it to the create's answer, which did not come
                unless_replaced(self._cancel, log=self._log)
            raise TuningError("The task was killed before it had found its tuning job.")

    def sending(self) -> None:
        """Take note that a create is about to be sent.

        :raises TuningError: if the process was killed: nothing is sent then.
        """
        if self._killed:
            raise TuningError("The task was killed before it created a tuning job. Nothing was sent.")
        self.phase = Phase.SENDING

    def kill(self) -> None:
        """Cancel what there is to cancel, for a process with seconds to live, unless another attempt goes on.

        Runs in a signal handler: no shared locks, short requests of their own.
        """
        self._killed = True
        if self.phase is Phase.NOTHING_SENT:
            self._log.info("The task was killed before it had a tuning job.")
        elif self.phase is Phase.SENDING:
            # Nobody but this process can wait for what it is creating; the next attempt may not see it.
            self._log.info("The tuning job is being created; it is cancelled as soon as its name is known.")
        else:
            unless_replaced(self._cancel, log=self._log)

    def _cancel(self) -> None:
        # First what is known, then what has to be looked for; neither keeps the other from being cancelled.
        cancelled = [] if self.name is None else self._cancel_each([self.name])
        try:
            cancelled += self._cancel_each(self._others())
        except TuningError as error:
            self._log.error("The task was killed; whether it has other jobs could not be seen. %s", error)
        if cancelled:
            self._log.info("The task was killed: asked for the cancellation of %s.", ", ".join(cancelled))
        elif self.name is None:
            self._log.error("The task was killed, and its create was not answered. %s", MAY_APPEAR)

    def _cancel_each(self, names: Sequence[str]) -> list[str]:
        cancelled = []
        for name in names:
            try:
                self._hook.cancel_now(name)
                cancelled.append(name)
            except (TuningBadRequestError, TuningNotFoundError) as error:
                # It has ended meanwhile, or is gone.
                self._log.info("The task was killed; there is nothing to cancel of %s. %s", name, error)
            except TuningError as error:
                self._log.error("The task was killed, but %s may go on and cost money: %s", name, error)
        return cancelled

    def _others(self) -> list[str]:
        if self._key is None:
            return []
        jobs = own_jobs(self._hook.list_now(key_filter(self._key)), self._key)
        names = [str(job.get("name")) for job in jobs if may_be_joined(str(job.get("state")))]
        return [name for name in names if name != self.name]
