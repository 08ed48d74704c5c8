"""A task that pays for a tuning job: it finds or creates the one that is its own, and ends as that ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_tuning_provider._compat import AirflowFailException
from airflow_tuning_provider._errors import job_error
from airflow_tuning_provider._tasks.memory import Memory
from airflow_tuning_provider._tasks.scope import task_identity
from airflow_tuning_provider._tasks.waiting import Step, WaitFor, WaitingOperator, was_cancelled
from airflow_tuning_provider.api.console import tuning_job_url
from airflow_tuning_provider.api.errors import ApiError
from airflow_tuning_provider.api.failure import code_name, error_code, status_error
from airflow_tuning_provider.api.identity import MAX_TRIES_LABEL, labels_of
from airflow_tuning_provider.api.inputs import as_int, as_mapping
from airflow_tuning_provider.api.manifest import manifest, parse_time
from airflow_tuning_provider.api.names import is_operation
from airflow_tuning_provider.api.responses import as_tuning_job
from airflow_tuning_provider.api.states import in_words, outcome
from airflow_tuning_provider.exceptions import (
    TuningFateUnknownError,
    TuningInvalidInputError,
    TuningJobCancelledError,
    TuningJobFailedError,
    TuningUnavailableError,
)
from airflow_tuning_provider.links.tuning_job import store

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

Json = dict[str, Any]

_RETRY_CREATES = "A retry of the task creates a new job, which costs money again."


class PayingTask(WaitingOperator):
    """What creating a job and rebasing a model have in common."""

    once = False
    """Whether a request that may have been accepted is never sent again by itself."""

    def request_body(self) -> Json:
        """Return the checked request body, without our labels."""
        raise NotImplementedError

    def send(self, body: Json, labels: dict[str, str]) -> Mapping[str, Any]:
        """Send the request with our labels; return the job, or the operation that makes it."""
        raise NotImplementedError

    @property
    def outlives(self) -> bool:
        """Whether the job is meant to outlive its task."""
        return not (self.wait_for_completion and self.cancel_on_kill)

    def wants_new(self) -> bool:
        """Whether a clear pays again after a success."""
        return False

    def before_paying(self, body: Json) -> None:
        """Refuse to pay, by raising; asked right before a request is sent, and not for a job that is there."""

    def check(self) -> None:
        """Find whatever is wrong with the parameters before anything is sent."""
        super().check()
        self.request_body()
        self.wants_new()

    def execute(self, context: Context) -> Any:
        """Begin, then wait as asked."""
        try:
            return super().execute(context)
        except TuningInvalidInputError as error:
            if context["ti"].try_number == 1 or self.work is not None:
                raise
            raise TuningInvalidInputError(
                f"{error} A job of an earlier attempt, if there is one, goes on and may cost money. Mend the input and "
                "clear the task, which joins it, or cancel it.",
                field=error.field,
                value=error.value,
            ) from None

    def key(self, context: Context) -> str:
        """Return the key that labels each of the task instance's jobs."""
        return task_identity(context).key

    memory: Memory
    seen: Json | None = None
    """The job as it was seen last."""

    def _live(self, context: Context, step: Callable[[], Step]) -> Any:
        self.memory = Memory(context.get("task_state_store"), self.log)
        try:
            result = super()._live(context, step)
        except AirflowFailException:
            self.memory.remember(over=True)
            raise
        self.memory.remember(over=True)
        return result

    def begin(self, context: Context) -> Step:
        """Find or create the job."""
        from airflow_tuning_provider._tasks.submission import Submission

        ti = context["ti"]
        try:
            body = self.request_body()
        except TuningInvalidInputError as error:
            if self.attempt.sent is None:
                raise
            raise TuningFateUnknownError(
                "A tuning job may have been created, and may cost money: the create was not answered, and before its "
                f"job was found the task was edited to what is refused: {error.field}. Mend that, then "
                "clear the task: it looks for the job first."
            ) from error
        assert self.work is not None
        submission = Submission(self, context, body)
        found = submission.step()
        if isinstance(found, WaitFor):
            self.work.going_on()
            return found
        name = str(found["name"])
        ti.xcom_push(key="operation_name" if is_operation(name) else "tuning_job_name", value=name)
        if is_operation(name):
            return self._operation(name)
        return self._job(context, dict(found), began=time.time() if submission.created else None)

    def _operation(self, name: str) -> Step:
        if not self.wait_for_completion:
            self.work = None  # from here on it outlives its task
            return manifest({})
        return self.wait_for(name, began=self.attempt.started)

    def _job(self, context: Context, job: Json, *, began: float | None = None) -> Step:
        store(context, job)
        self.seen = job
        name, state = str(job["name"]), str(job["state"])
        if not self.wait_for_completion:
            self.work = None  # from here on it outlives its task
            return manifest(job)
        if outcome(state).ended:
            return self.ended(context, job)
        self.log.info(
            "The tuning job is %s, and costs money until it ends: %s", in_words(state), tuning_job_url(name)
        )
        # A person who clears the task gives a job that goes on its time anew. One that has just been created began
        # now, whatever the API's clock says.
        mine = as_int(labels_of(job).get(MAX_TRIES_LABEL)) in (None, context["ti"].max_tries or 0)
        created = parse_time(job.get("createTime")) if mine else None
        return self.wait_for(name, began=began or created or self.attempt.started)

    def ended(self, context: Context, seen: Json) -> Step:
        """Return the manifest of a job that succeeded; after an operation, wait for the job that it made."""
        if is_operation(seen["name"]):
            return self._made(context, seen)
        store(context, seen)
        self.seen = seen
        if (error := job_error(seen, retry=_RETRY_CREATES)) is not None:
            raise error
        return self.succeeded(seen)

    def _made(self, context: Context, operation: Json) -> Step:
        if (error := status_error(operation)) is not None:
            message = error.get("message") if isinstance(error, Mapping) else error
            said = f"The API says: {code_name(error_code(error))}: {message}"
            if was_cancelled(operation):
                raise TuningJobCancelledError(
                    f"{operation['name']} was cancelled. {said}\nThe task is not retried. Clear it to start anew."
                )
            raise TuningJobFailedError(f"{operation['name']} failed. {said}\n{_RETRY_CREATES}")
        made = as_tuning_job(dict(as_mapping(operation.get("response"))))
        if isinstance(made, ApiError):
            raise TuningUnavailableError(
                f"{operation['name']} is done, and does not say which tuning job came of it, which may cost money: "
                f"{made}. A retry of the task looks for it, and sends no second request."
            )
        name = str(made["name"])
        assert self.work is not None
        self.work.adopt(name)
        context["ti"].xcom_push(key="tuning_job_name", value=name)
        self.memory.remember(name=name)
        job = self.hook.look(name)
        if isinstance(job, ApiError):  # reads lag behind, permissions flap: the wait bears it
            self.log.warning("%s cannot be seen yet: %s", name, job)
            return self.wait_for(name, began=self.attempt.started)
        return self._job(context, job)

    # -- OpenLineage, see airflow_tuning_provider._tasks.lineage: called by its provider, where that is installed -----

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any]:
        """Return what goes into the job."""
        from airflow_tuning_provider._tasks.lineage import lineage

        body = self.request_body()
        return lineage(body.get("tuningJob") or body)

    def get_openlineage_facets_on_complete(self, _: Any) -> OperatorLineage[Any, Any]:
        """Return what went into the job, and the model that came out of it."""
        from airflow_tuning_provider._tasks.lineage import lineage

        return self.get_openlineage_facets_on_start() if self.seen is None else lineage(self.seen)
