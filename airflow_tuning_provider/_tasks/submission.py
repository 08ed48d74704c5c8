"""Finds or creates the one tuning job of a task instance, a step at a time.

What to do with the jobs that exist is decided by :func:`airflow_tuning_provider.api.identity.plan`; this module
carries it out: look, cancel what is too many, create at most once, and look again after a create whose answer was
lost. Whatever takes time is a step's answer: the caller waits for it, off the worker where the task is deferrable.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from airflow_tuning_provider._compat import AirflowNotFoundException
from airflow_tuning_provider._tasks.lookup import Lookup
from airflow_tuning_provider._tasks.scope import task_identity
from airflow_tuning_provider._tasks.waiting import WaitFor
from airflow_tuning_provider._tasks.work import Phase
from airflow_tuning_provider.api.errors import ApiError, ErrorKind
from airflow_tuning_provider.api.failure import status_error
from airflow_tuning_provider.api.identity import (
    Plan,
    is_named,
    own_jobs,
    plan,
    seniority,
)
from airflow_tuning_provider.api.manifest import in_words
from airflow_tuning_provider.api.names import is_operation
from airflow_tuning_provider.api.retry import is_ambiguous
from airflow_tuning_provider.api.states import Outcome, may_be_joined, outcome
from airflow_tuning_provider.api.trained import differences
from airflow_tuning_provider.api.waiting import SIGHT_SECONDS
from airflow_tuning_provider.exceptions import (
    TuningBadRequestError,
    TuningError,
    TuningFateUnknownError,
    TuningInvalidInputError,
    TuningNotFoundError,
    TuningQuotaError,
    TuningRebaseUnknownError,
    TuningUnavailableError,
    TuningWaitTimeoutError,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_tuning_provider._tasks.attempt import Attempt
    from airflow_tuning_provider._tasks.memory import Memory
    from airflow_tuning_provider._tasks.work import Work
    from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

Job = Mapping[str, Any]
Json = dict[str, Any]

LOOK_SECONDS = 180.0
"""How long an attempt looks for the job of its create that was not answered."""

PATIENCE_SECONDS = 600.0
"""How long after such a create a later attempt still looks before it creates one itself."""

QUOTA_SECONDS = 60.0


class _NotNowError(Exception):
    """What a step needs cannot be had, for the moment at least.

    :param error: what the task fails with if that lasts; its retry goes on from there.
    """

    def __init__(self, error: TuningError) -> None:
        super().__init__(str(error))
        self.error = error


class Payer(Protocol):
    """What a submission takes of its task."""

    hook: TuningJobHook
    attempt: Attempt
    memory: Memory
    work: Work | None
    retries: int | None
    once: bool

    @property
    def log(self) -> Any:
        """The task's log."""

    @property
    def outlives(self) -> bool:
        """Whether the job is meant to outlive its task."""

    def wants_new(self) -> bool:
        """Whether a clear pays again after a success."""

    def before_paying(self, body: Json) -> None:
        """Refuse to pay, by raising."""

    def send(self, body: Json, labels: dict[str, str]) -> Job:
        """Send the request with our labels; return the job, or the operation that makes it."""

    def pause(self, seconds: float = 0.0) -> WaitFor:
        """Return what waits for some time."""


class Submission:
    """The one job of a task instance, as one attempt goes about it.

    :param task: the task, in the middle of its life: it has a hook, an attempt, a memory and work to be killed.
    :param context: the task's context.
    :param body: the request body, without our labels; checked.
    """

    def __init__(self, task: Payer, context: Context, body: dict[str, Any]) -> None:
        assert task.work is not None
        ti = context["ti"]
        self._task = task
        self._hook, self._attempt, self._memory, self._work = task.hook, task.attempt, task.memory, task.work
        self._log = task.log
        self._body = body
        self._identity = task_identity(context)
        self._max_tries = ti.max_tries or 0
        self._recovering = ti.try_number > 1
        # A clear sets max_tries to this very sum. After an edit of retries a retry can come upon it too; but none
        # follows an attempt that ended the task for good. A first attempt follows none at all: what it finds is of a
        # run that was deleted and created anew.
        self._cleared = not self._recovering or (
            self._memory.over and self._max_tries == ti.try_number - 1 + (task.retries or 0)
        )
        self._lookup = Lookup(task.hook, self._identity.key, task.log)
        self._elsewhere: str | None = None
        self.created = False
        """Whether the job is one that this step has created."""

    def step(self) -> Job | WaitFor:
        """Return the task instance's job, or what has to be waited for before the next step.

        :raises TuningFateUnknownError: if it cannot be found out whether a job was created.
        :raises TuningError: if the lookup or the create was refused; nothing was created then.
        """
        if (self._recovering or self._attempt.sent is not None) and not self._task.outlives:
            self._work.looking(self._memory.name)
        try:
            found = self._step()
        except _NotNowError as trouble:
            return self._later(trouble.error)
        self._attempt.blind_since = None
        return found

    def _later(self, error: TuningError) -> WaitFor:
        """Take the step again after a pause: the job may be live, and this attempt the last one."""
        now, deadline = time.time(), self._attempt.deadline
        self._attempt.blind_since = self._attempt.blind_since or now
        late = deadline is not None and now >= deadline
        if late or now - self._attempt.blind_since >= SIGHT_SECONDS:
            raise error
        self._log.warning("%s\nTrying again in this attempt first.", error)
        return self._task.pause(0.0)

    def _step(self) -> Job | WaitFor:
        # A key or a connection that is broken for the moment is no verdict on a task that may have a job.
        may_have_one = self._recovering or self._attempt.sent is not None
        trouble = self._hook.trouble_with(self._hook.open) if may_have_one else None
        if trouble is not None:
            raise _NotNowError(self._unknown(str(trouble)))
        self._parent = self._hook.parent
        self._elsewhere = self._memory.name if self._memory.parent not in (None, self._parent) else None
        operation = self._remembered_operation()
        if operation is not None and self._goes_on(operation):
            self._work.adopt(str(operation["name"]))
            return operation
        remembered = self._remembered()
        known = [] if remembered is None or self._memory.doubt else [remembered]
        if (kept := self._plan(known).keep) is not None:
            return self._go_on_with(kept)  # one get, instead of a look at the list
        listed = self._look()
        if isinstance(listed, WaitFor):
            return listed
        own = self._seen_ended(listed)
        if any(is_named(job, self._elsewhere) for job in own):
            self._elsewhere = None  # the same place, spelled in another way
        if remembered is not None and not any(is_named(job, remembered["name"]) for job in own):
            own.append(remembered)
        decision = self._plan(own)
        self._cancel(decision)
        if decision.keep is not None:
            return self._go_on_with(decision.keep)
        if decision.await_end is not None:
            return self._make_room(decision.await_end)
        found = [job for job in own if job["name"] not in self._attempt.known]
        if self._attempt.sent is not None and found:
            return self._go_on_with(max(found, key=seniority))
        self._mourn(remembered or operation)
        sent = self._attempt.sent or self._memory.sent
        again = None if sent is None else self._look_again(sent)
        return self._create(own) if again is None else again

    # -- looking -------------------------------------------------------------------------------------

    def _remembered(self) -> Job | None:
        """Get the job that the memory names, which may be where the list is not looked at."""
        name = self._memory.name
        return None if name is None or is_operation(name) else self._get(name)

    def _remembered_operation(self) -> Job | None:
        """Get the operation that the memory names."""
        name = self._memory.name
        return None if name is None or not is_operation(name) else self._get(name)

    def _goes_on(self, operation: Job) -> bool:
        """Whether an operation has not failed, and does not belong to the time before a clear."""
        over = operation.get("done") and self._memory.max_tries != self._max_tries
        return status_error(operation) is None and not over

    def _get(self, name: str) -> Job | None:
        try:
            seen = self._hook.look(name)
        except TuningInvalidInputError:
            return None  # whoever wrote that name, it is none
        if not isinstance(seen, ApiError):
            return seen
        if seen.kind is ErrorKind.NOT_FOUND:
            return None
        raise self._unseen(name, seen)

    @staticmethod
    def _unseen(name: str, error: object) -> _NotNowError:
        return _NotNowError(
            TuningUnavailableError(
                f"{name}, which belongs to this task, cannot be seen: {error}\nNothing was created. A retry of the "
                "task looks again.",
                tuning_job_name=name,
            )
        )

    def _mourn(self, remembered: Job | None) -> None:
        """Create nothing in place of a job, or of a rebase, that cannot be found: nobody can have deleted it."""
        name = self._memory.name
        same_time = self._memory.max_tries == self._max_tries and not self._cleared
        if name is None or remembered is not None or not same_time:
            return
        raise _NotNowError(
            TuningFateUnknownError(
                f"{name}, which belongs to this task, cannot be found: it may go on and cost money. Nothing more is "
                "created by a retry of the task; clear it to create another.",
                tuning_job_name=name,
            )
        )

    def _plan(self, jobs: list[Job]) -> Plan:
        memory = self._memory
        return plan(
            jobs,
            self._body,
            max_tries=self._max_tries,
            force_new=self._task.wants_new(),
            cleared=self._cleared,
            joined=memory.name if memory.max_tries == self._max_tries else None,
            elsewhere=self._elsewhere,
        )

    def _look(self) -> list[Job] | WaitFor:
        """Return this task instance's jobs. A look that fails for the moment is taken again later.

        So is every look for the job of a create that was not answered; and for a later attempt none is a verdict.
        """
        try:
            found = self._lookup.own_jobs(believe_none=self._attempt.searched or not self._recovering)
            self._attempt.searched = self._attempt.searched or self._lookup.searched
            return found
        except (TuningError, AirflowNotFoundException) as error:
            api_error = error.api_error if isinstance(error, TuningError) else None
            sent = self._attempt.sent
            passing = api_error is not None and api_error.kind.transient
            if (passing or sent is not None) and self._time_left(sent):
                self._log.warning("Could not look for this task's job; looking again. %s", error)
                return self._task.pause(0.0)
            if not self._recovering and sent is None:
                raise
            if sent is not None or (isinstance(error, TuningError) and api_error is None):
                raise self._unknown(str(error)) from error
            raise _NotNowError(self._unknown(str(error))) from error

    def _time_left(self, sent: float | None) -> bool:
        now, deadline = time.time(), self._attempt.deadline
        return (deadline is None or now < deadline) and (sent is None or now < sent + LOOK_SECONDS)

    def _unknown(self, why: str) -> TuningError:
        kind = TuningUnavailableError if self._attempt.sent is None else TuningFateUnknownError
        return kind(
            f"It could not be found out whether this task has a tuning job, which may cost money: {why}\n"
            "Nothing was created now. A retry of the task looks again."
        )

    def _seen_ended(self, jobs: list[Job]) -> list[Job]:
        """Look again at jobs that were seen to have ended: the list may lag behind."""
        fresh = []
        for job in jobs:
            if job["name"] in self._attempt.ended and not outcome(str(job["state"])).ended:
                seen = self._hook.look(str(job["name"]))
                fresh.append(job if isinstance(seen, ApiError) else seen)
            else:
                fresh.append(job)
        return fresh

    def _look_again(self, sent: float) -> WaitFor | None:
        """Give the job of a create that was not answered time to appear; ``None`` if it is given up."""
        mine = self._attempt.sent is not None
        over = time.time() >= sent + (LOOK_SECONDS if mine else PATIENCE_SECONDS)
        late = self._attempt.deadline is not None and time.time() >= self._attempt.deadline
        if not over and not late:
            self._log.info("A job may have been created %s ago; looking again.", in_words(time.time() - sent))
            return self._task.pause(0.0)
        by_a_person = not mine and (self._cleared or self._memory.sent_by != self._max_tries)
        if self._task.once and not (over and by_a_person):
            raise TuningRebaseUnknownError(
                "The request may have been accepted, and may cost money: it was not answered, and nothing that came "
                "of it can be found. It is not sent again. Look at the project's tuning jobs, then clear the task."
            )
        if not mine and over:
            return None
        raise TuningFateUnknownError(
            "A tuning job may have been created, and may cost money: the create was not answered, and no job was found "
            f"in {in_words(time.time() - sent)}. Nothing more is created now; a retry of the task looks again first."
        )

    # -- acting --------------------------------------------------------------------------------------

    def _cancel(self, decision: Plan) -> None:
        for job in decision.cancel:
            name = str(job["name"])
            try:
                self._hook.cancel_tuning_job(name)
            except (TuningBadRequestError, TuningNotFoundError):
                pass  # one that has ended meanwhile, or is gone, needs no cancelling
            except TuningError as error:
                if decision.keep is None:
                    raise self._not_cancelled(name, error) from error
                self._log.error(
                    "Could not cancel a job that is one too many for this task: it may go on and cost money. Cancel "
                    "it by hand. %s · %s",
                    error,
                    name,
                )
                continue
            if decision.keep is not None:
                self._log.warning(
                    "Asked for the cancellation of a job that is one too many for this task · %s", name
                )
                continue
            seen = self._hook.look(name)
            # A rebase names what it starts from; the job that comes of it does not.
            wanted = self._body.get("tuningJob", {}) if self._task.once else self._body
            changed = [] if isinstance(seen, ApiError) else differences(wanted, seen)
            if is_named(job, self._elsewhere):
                changed = ["project or location", *changed]
            self._log.warning(
                "Asked for the cancellation of a job that was created for this task with other input (%s) · %s",
                ", ".join(changed) or "a field that is no longer given",
                name,
            )

    @staticmethod
    def _not_cancelled(name: str, error: TuningError) -> _NotNowError:
        return _NotNowError(
            TuningUnavailableError(
                f"{name} was created for this task with other input, and could not be cancelled: it may go on and cost "
                f"money. Nothing more was created. A retry of the task tries again. {error}",
                tuning_job_name=name,
            )
        )

    def _make_room(self, job: Job) -> WaitFor:
        name = str(job["name"])
        self._log.info("Waiting for the end of a job before a new one is created · %s", name)
        if self._attempt.deadline is not None and time.time() >= self._attempt.deadline:
            raise TuningWaitTimeoutError(
                f"{name} has to end first, and did not in time. Nothing was created; a retry of the task waits for it "
                "again.",
                tuning_job_name=name,
            )
        if name in self._attempt.ended:
            return self._task.pause(0.0)  # the API does not agree with itself yet
        return WaitFor(name, self._attempt.deadline, wanted=False)

    def _go_on_with(self, job: Job) -> Job:
        name = str(job["name"])
        state = str(job["state"])
        if not may_be_joined(state):
            try:
                job = self._hook.get_tuning_job(name)
            except TuningError as error:
                raise self._unseen(name, error) from error
            if outcome(state) is Outcome.SUCCEEDED:
                self._log.info(
                    "Returning, at no cost, the result of the job that has succeeded for this task with the same "
                    "input. To pay for another, set force_new and clear the task · %s",
                    name,
                )
        else:
            self._log.info("Joining the job that was created for this task before · %s", name)
        self._work.adopt(name)
        self._remember(name)
        return job

    def _remember(self, name: str) -> None:
        if (self._memory.name, self._memory.max_tries, self._memory.sent) != (name, self._max_tries, None):
            self._memory.remember(
                name=name, parent=self._parent, max_tries=self._max_tries, sent=None, over=None
            )

    def _create(self, own: list[Job]) -> Job | WaitFor:
        self._task.before_paying(self._body)
        labels = self._identity.labels(self._body, max_tries=self._max_tries, keep=self._task.outlives)
        sent = time.time()
        self._work.sending()
        # Before: an attempt may die at this very moment.
        doubt = self._memory.doubt or self._memory.sent is not None or None
        self._memory.remember(sent=sent, sent_by=self._max_tries, doubt=doubt, over=None)
        try:
            job = self._task.send(self._body, labels)
        except TuningError as error:
            if error.api_error is not None and is_ambiguous(error.api_error):
                self._work.phase = Phase.FATE_UNKNOWN
                self._attempt.sent, self._attempt.known = sent, [str(job["name"]) for job in own]
                self._log.warning("The create was not answered; looking for its job. %s", error)
                return self._task.pause(0.0)
            self._work.phase = Phase.NOTHING_SENT
            self._memory.remember(sent=None)
            if isinstance(error, TuningQuotaError):
                return self._wait_for_quota(error)
            raise
        except BaseException:
            # A task timeout, for instance, strikes anywhere: the request may be under way.
            self._work.phase = Phase.FATE_UNKNOWN
            raise
        self.created = True
        self._work.adopt(str(job["name"]), created=True)
        self._remember(str(job["name"]))
        return self._alone(job)

    def _alone(self, job: Job) -> Job:
        """Where another attempt created a job at the same moment, keep the one of the two that both keep.

        Airflow can run a task twice at a time, and two lookups can both come before both creates.
        """
        if is_operation(job["name"]):
            return job
        try:
            key = self._identity.key
            others = [
                other for other in own_jobs(self._lookup.filtered(), key) if not is_named(other, job["name"])
            ]
        except TuningError as error:
            self._log.warning("Could not look for a job that was created at the same moment: %s", error)
            return job
        decision = self._plan([job, *others])
        if decision.keep is None or decision.keep["name"] == job["name"]:
            self._cancel(decision if decision.keep is not None else Plan())
            return job
        self._remember(
            str(decision.keep["name"])
        )  # first: what this attempt may die of must not leave the other
        self._cancel(decision)
        self.created = False
        return self._go_on_with(decision.keep)

    def _wait_for_quota(self, error: TuningQuotaError) -> WaitFor:
        asked = error.api_error.retry_after if error.api_error else None
        wait = self._task.pause(min(asked or 0.0, QUOTA_SECONDS * 10))
        if self._attempt.deadline is not None and (wait.until or 0.0) >= self._attempt.deadline:
            raise error
        self._log.warning(
            "Waiting for quota: no tuning job can be created now, and none was. Trying again in %s. %s",
            in_words(max((wait.until or 0.0) - time.time(), 0.0)),
            error,
        )
        return wait
