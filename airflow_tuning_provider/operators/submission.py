"""Finds or creates the one tuning job of a task instance.

The decision what to do with the jobs that exist is :func:`airflow_tuning_provider.api.identity.decide`; this
module carries it out: look, create, look again after a create whose answer was lost, and remember how
far it got for whoever has to kill the job.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Any

from airflow_tuning_provider.api.identity import Action, TaskIdentity, decide, own_jobs
from airflow_tuning_provider.api.retry import is_ambiguous
from airflow_tuning_provider.api.states import may_be_joined
from airflow_tuning_provider.exceptions import (
    TuningBadRequestError,
    TuningError,
    TuningFateUnknownError,
    TuningNotFoundError,
    TuningUnavailableError,
)

if TYPE_CHECKING:
    from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

Job = Mapping[str, Any]

LOOKUP_DELAYS: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds before each look for a job whose create was not answered: a minute in all for it to appear."""

_PAGE_SIZE = 100


class Phase(Enum):
    """How far a submission got."""

    NOTHING_SENT = "nothing_sent"
    CREATING = "creating"
    FATE_UNKNOWN = "fate_unknown"
    KNOWN = "known"


class Submission:
    """The one job of a task instance.

    :param hook: whom to ask.
    :param identity: the task instance.
    :param body: the request body, without our labels; checked.
    :param create: sends the request with our labels in it; returns the job, or the operation that makes it.
    :param recovering: whether an earlier attempt may have created a job.
    :param keep: whether the job is meant to outlive its task.
    :param unless_replaced: does something unless another attempt takes the place of this one.
    :param max_creates: how often to create at most, after creates that came to nothing.
    """

    def __init__(
        self,
        hook: TuningJobHook,
        identity: TaskIdentity,
        body: Mapping[str, Any],
        create: Callable[[dict[str, str]], Job],
        *,
        recovering: bool,
        log: logging.Logger,
        keep: bool = False,
        unless_replaced: Callable[[Callable[[], object]], object] = lambda action: action(),
        max_creates: int = 3,
    ) -> None:
        self._hook = hook
        self._identity = identity
        self._body = body
        self._send = create
        self._recovering = recovering
        self._log = log
        self._keep = keep
        self._unless_replaced = unless_replaced
        self._max_creates = max_creates
        self.phase = Phase.NOTHING_SENT
        self.name: str | None = None
        self.kill_requested = False
        self._known_before: set[str] = set()

    def find_or_create(self, *, poll_interval: float) -> tuple[Job, bool]:
        """Return the task instance's job, and whether this call created it.

        :param poll_interval: most seconds between looks at a job that has to end first.
        :raises TuningFateUnknownError: if it cannot be found out whether a job was created.
        :raises TuningError: if the lookup or the create was refused; nothing was created then.
        """
        while True:
            own = self._look()
            self._known_before = {str(job["name"]) for job in own}
            decision = decide(own, self._identity, self._body)
            job = decision.job
            if job is None:
                return self._create_alone()
            name = str(job["name"])
            if decision.action is Action.JOIN:
                self._log.info("Found %s, created for this task instance before: joining it.", name)
                return self._joined(job), False
            if decision.action is Action.RETURN:
                self._log.info(
                    "%s has already succeeded for this task instance with the same input: returning its result "
                    "at no cost. Set force_new to pay for another.",
                    name,
                )
                return job, False
            if decision.action is Action.CANCEL_STALE:
                self._log.warning(
                    "%s was created for this task instance with other input: cancelling it first.", name
                )
                self._cancel(name)
            self._log.info("Waiting for the end of %s before a new job is created.", name)
            self._hook.wait_until_ended(name, poll_interval=poll_interval, deadline=None)

    def find(self) -> Job | None:
        """Return the task instance's job without creating one: the one under way, else the newest."""
        self._recovering = True
        own = sorted(self._look(), key=lambda job: str(job.get("createTime", "")), reverse=True)
        job = next((job for job in own if may_be_joined(str(job.get("state")))), own[0] if own else None)
        if job is not None:
            self.adopt(str(job["name"]))
        return job

    def adopt(self, name: str) -> None:
        """Take a job, or the operation that makes it, for this task instance's: it is what a kill cancels."""
        self.name = name
        self.phase = Phase.KNOWN

    def kill(self) -> str:
        """Cancel what there is to cancel, for a process with seconds to live; say what was done.

        Runs in a signal handler: no supervisor, no shared locks, one short request.
        """
        self.kill_requested = True
        if self.phase is Phase.NOTHING_SENT:
            return "no tuning job had been created"
        if self.phase is Phase.CREATING:
            return "the tuning job is being created; it is cancelled as soon as its name is known"
        names = [self.name] if self.name else [str(job["name"]) for job in self._under_way()]
        for name in names:
            self._hook.cancel_now(name)
        return f"asked for the cancellation of {', '.join(names)}" if names else "no tuning job was found"

    def _joined(self, job: Job) -> Job:
        """Take a job that is there already; another attempt may have joined it too."""
        name = str(job["name"])
        self.adopt(name)
        if self.kill_requested:
            self._unless_replaced(lambda: self._hook.cancel_now(name))
            raise TuningError(f"The task was killed while it joined {name}.", tuning_job_name=name)
        return job

    def _known(self, job: Job) -> Job:
        self.adopt(str(job["name"]))
        if self.kill_requested:
            self._hook.cancel_now(str(job["name"]))
            raise TuningError(
                f"The task was killed while {job['name']} was being created; asked for its cancellation.",
                tuning_job_name=self.name,
            )
        return job

    def _create_alone(self) -> tuple[Job, bool]:
        """Create a job; where another attempt did so at the same moment, keep the older one of the two.

        Airflow can run a task twice at a time, and two lookups can both come before both creates. Both
        attempts decide by the same order, so that exactly one job stays.
        """
        job = self._create()
        if "/operations/" in str(job["name"]):
            return job, True
        try:
            rivals = [*self._under_way(), job]
        except TuningError as error:
            self._log.warning("Could not look for a job that was created at the same moment: %s", error)
            return job, True
        oldest = min(rivals, key=lambda rival: (str(rival.get("createTime", "")), str(rival["name"])))
        if oldest["name"] == job["name"]:
            return job, True
        self._log.warning(
            "Another attempt created %s at the same moment: cancelling %s.", oldest["name"], job["name"]
        )
        self._cancel(str(job["name"]))
        return self._joined(oldest), False

    def _create(self) -> Job:
        labels = self._identity.labels(self._body, keep=self._keep)
        for _ in range(self._max_creates):
            self.phase = Phase.CREATING
            try:
                return self._known(self._send(labels))
            except TuningError as error:
                if self.phase is Phase.KNOWN:
                    raise
                if not _may_have_created(error):
                    self.phase = Phase.NOTHING_SENT
                    raise
                self.phase = Phase.FATE_UNKNOWN
                self._log.warning("The create was not answered; looking for its job. %s", error)
                if (job := self._find_lost()) is not None:
                    self._log.info("Found it: %s.", job["name"])
                    return self._known(job)
                last = error
            except BaseException:
                # A task timeout, for instance, strikes anywhere: the request may be under way.
                if self.phase is Phase.CREATING:
                    self.phase = Phase.FATE_UNKNOWN
                raise
            self._log.warning("No job appeared within %.0f s.", sum(LOOKUP_DELAYS))
        raise TuningUnavailableError(
            f"{last}\nNo job came of it. A retry of the task looks for one again before it creates.",
            api_error=last.api_error,
        )

    def _find_lost(self) -> Job | None:
        """Look for the job of a create that was not answered, long enough for it to appear.

        It may have ended by the time it is found; what was there before the create is not it.
        """
        self._recovering = True
        for left, delay in zip(range(len(LOOKUP_DELAYS), 0, -1), LOOKUP_DELAYS, strict=True):
            time.sleep(delay)
            try:
                # A walk over all jobs is long in a large project: only the last look, after which another
                # job is created, has to be beyond doubt.
                own = self._look(believe_empty=left > 1)
                found = [job for job in own if str(job["name"]) not in self._known_before]
            except TuningError as error:
                raise TuningFateUnknownError(
                    "A tuning job may have been created, and may cost money: the create was not answered, and "
                    f"looking for its job failed too. {error}\nNothing more is created now; a retry of the task "
                    "looks again first.",
                    api_error=error.api_error,
                ) from error
            if found:
                return next((job for job in found if may_be_joined(str(job.get("state")))), found[0])
        return None

    def _look(self, *, believe_empty: bool = False) -> list[Job]:
        """Return this task instance's jobs, whatever the server makes of the filter.

        Its grammar is not documented for tuning jobs. A refused filter is done without, an ignored one is
        made up for by comparing labels here; where an earlier attempt may have created a job, an empty
        answer is not believed either.

        :param believe_empty: believe it all the same.
        """
        try:
            own = self._list(self._identity.filter())
            if own or believe_empty or not self._recovering:
                return own
        except TuningBadRequestError as error:
            self._log.info("The API refused the label filter, listing all jobs instead: %s", error.api_error)
        return self._list(None)

    def _list(self, filter: str | None) -> list[Job]:
        jobs = self._hook.list_tuning_jobs(filter=filter, page_size=_PAGE_SIZE)
        return own_jobs(jobs, self._identity)

    def _under_way(self) -> list[Job]:
        return [job for job in self._look() if may_be_joined(str(job.get("state")))]

    def _cancel(self, name: str) -> None:
        # A job that has ended meanwhile, or is gone, needs no cancelling.
        with suppress(TuningBadRequestError, TuningNotFoundError):
            self._hook.cancel_tuning_job(name)


def _may_have_created(error: TuningError) -> bool:
    return error.api_error is not None and is_ambiguous(error.api_error)
