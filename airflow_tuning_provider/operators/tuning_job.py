"""Operators that create, cancel and rebase Gemini tuning jobs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseOperator

from airflow_tuning_provider.api import tuning_job as bodies
from airflow_tuning_provider.api.console import tuning_job_url
from airflow_tuning_provider.api.failure import code_name, error_code
from airflow_tuning_provider.api.identity import TaskIdentity
from airflow_tuning_provider.api.inputs import InvalidInputError, boolean
from airflow_tuning_provider.api.manifest import Manifest, in_words, manifest, parse_time
from airflow_tuning_provider.api.states import has_ended_in_words, outcome
from airflow_tuning_provider.api.states import in_words as state_in_words
from airflow_tuning_provider.exceptions import (
    TaskDeferralError,
    TaskDeferralTimeout,
    TuningBadRequestError,
    TuningError,
    TuningJobFailedError,
    TuningNotFoundError,
    TuningQuotaError,
    TuningUnavailableError,
    TuningWaitTimeoutError,
    error_from_event,
    job_error,
    refusing_invalid_input,
)
from airflow_tuning_provider.links.tuning_job import LINKS, TuningJobLink, store
from airflow_tuning_provider.operators.attempts import unless_replaced
from airflow_tuning_provider.operators.base import (
    DEFAULT_CONN_ID,
    SCOPE_FIELDS,
    WEEK,
    TuningTaskMixin,
    event_status,
    task_identity,
)
from airflow_tuning_provider.triggers.tuning_job import (
    BACKSTOP,
    SETTLE_SECONDS,
    OperationTrigger,
    TuningJobTrigger,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
    from airflow_tuning_provider.operators.submission import Submission


def _outlives(operator: CreateTuningJobOperator | RebaseTunedModelOperator) -> bool:
    """Whether the user wants the job to go on when its task is no more."""
    return not (operator.wait_for_completion and operator.cancel_on_kill)


def cancel_killed(operator: CreateTuningJobOperator | RebaseTunedModelOperator) -> None:
    """Cancel what an operator that is killed has submitted, unless another attempt goes on with it."""
    from airflow_tuning_provider.operators.submission import Phase

    submission = operator._submission
    if submission is None or not operator.cancel_on_kill:
        return

    def cancel() -> None:
        try:
            done = submission.kill()
        except TuningError as error:
            operator.log.error("The task was killed, but its tuning job may go on and cost money: %s", error)
        else:
            operator.log.info("The task was killed: %s.", done)

    if submission.phase in (Phase.KNOWN, Phase.FATE_UNKNOWN):
        unless_replaced(cancel, log=operator.log)
    else:
        # What is still to be created nobody waits for. The next attempt may not see it, and create another one.
        cancel()


_RETRY_CREATES = "A retry of the task creates a new job, which costs money again."
_QUOTA_DELAY = 60.0


class CreateTuningJobOperator(TuningTaskMixin, BaseOperator):
    """Create a Gemini tuning job and wait for its model.

    The job belongs to the task instance: a retry, a lost worker or a clear finds it by its labels and goes
    on with it. A clear of a task that succeeded returns the same model at no cost.

    Give either the single parameters or a whole request body (``tuning_job``). What is not given is left to
    the service's recommended values. Facts on the fields:
    https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.tuningJobs

    :param base_model: model to tune, for example ``gemini-3.5-flash``. There is no default: Google's list
        changes, and which models can be tuned depends on the location.
    :param training_dataset_uri: ``gs://`` URI of a JSONL file, or the resource name of a Vertex AI dataset.
    :param validation_dataset_uri: the same for validation data.
    :param epoch_count: passes over the training data, 1 or more.
    :param learning_rate_multiplier: factor on the recommended learning rate, above 0.
    :param adapter_size: 1, 2, 4, 8, 16, 32, or the API's name for it.
    :param tuned_model_display_name: name of the tuned model, at most 128 characters.
    :param description: description of the job.
    :param labels: labels of the job and of the resources it makes; ours (``airflow-…``) are added.
    :param kms_key_name: Cloud KMS key that encrypts the job and its model.
    :param encryption_spec: the same as the API's EncryptionSpec.
    :param service_account: service account that the job runs as.
    :param export_last_checkpoint_only: keep no intermediate checkpoints.
    :param evaluation_config: the API's EvaluationConfig, to evaluate checkpoints within the job.
    :param pre_tuned_model: tuned model to tune further (``projects/…/models/ID@VERSION``), instead of
        ``base_model``; or the API's PreTunedModel.
    :param pre_tuned_model_checkpoint_id: checkpoint of it to start from.
    :param preference_optimization: tune on preferences (pairs of better and worse answers).
    :param beta: weight of the original model in preference optimization, above 0.
    :param tuning_job: whole request body in camelCase or snake_case, any tuning spec; excludes the above.
    :param wait_for_completion: wait for the job's end; ``False`` returns as soon as it is created.
    :param deferrable: wait in the triggerer, without a worker.
    :param poll_interval: most seconds between two looks at the job.
    :param timeout: seconds that the job may take from its creation; ``None`` for no bound.
    :param cancel_on_kill: cancel the job when its task is killed.
    :param cancel_on_timeout: cancel the job when ``timeout`` has passed.
    :param force_new: create, and pay for, a new job although one has succeeded for this task instance.
        Retries of one run of the task still share a job.
    :param gcp_conn_id: Airflow connection.
    :param project_id: project; default: the connection's.
    :param location: location such as ``us-central1``; default: the connection's.
    :param impersonation_chain: service account to act as, or a chain of them.
    :param api_version: ``v1`` or ``v1beta1``.
    :param request_timeout: seconds for one HTTP request.
    :return: the manifest, see :func:`airflow_tuning_provider.api.manifest.manifest`.
    """

    _BODY_FIELDS: Sequence[str] = (
        "base_model",
        "training_dataset_uri",
        "validation_dataset_uri",
        "epoch_count",
        "learning_rate_multiplier",
        "adapter_size",
        "tuned_model_display_name",
        "description",
        "labels",
        "kms_key_name",
        "encryption_spec",
        "service_account",
        "export_last_checkpoint_only",
        "evaluation_config",
        "pre_tuned_model",
        "pre_tuned_model_checkpoint_id",
        "preference_optimization",
        "beta",
    )
    template_fields: Sequence[str] = (*_BODY_FIELDS, "tuning_job", "timeout", "force_new", *SCOPE_FIELDS)
    template_fields_renderers = {  # noqa: RUF012 - Airflow's own convention
        "labels": "json",
        "encryption_spec": "json",
        "evaluation_config": "json",
        "pre_tuned_model": "json",
        "tuning_job": "json",
    }
    operator_extra_links = LINKS
    ui_color = "#e8f0fe"

    _submission: Submission | None = None

    def __init__(
        self,
        *,
        base_model: str | None = None,
        training_dataset_uri: str | None = None,
        validation_dataset_uri: str | None = None,
        epoch_count: int | str | None = None,
        learning_rate_multiplier: float | str | None = None,
        adapter_size: int | str | None = None,
        tuned_model_display_name: str | None = None,
        description: str | None = None,
        labels: Mapping[str, str] | None = None,
        kms_key_name: str | None = None,
        encryption_spec: Mapping[str, Any] | None = None,
        service_account: str | None = None,
        export_last_checkpoint_only: bool | str | None = None,
        evaluation_config: Mapping[str, Any] | None = None,
        pre_tuned_model: str | Mapping[str, Any] | None = None,
        pre_tuned_model_checkpoint_id: str | int | None = None,
        preference_optimization: bool | str = False,
        beta: float | str | None = None,
        tuning_job: Mapping[str, Any] | None = None,
        wait_for_completion: bool = True,
        deferrable: bool = True,
        poll_interval: float | str = 60.0,
        timeout: float | str | None = WEEK,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        force_new: bool | str = False,
        gcp_conn_id: str = DEFAULT_CONN_ID,
        project_id: str | None = None,
        location: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        api_version: str = "v1",
        request_timeout: float | str = 60.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.base_model = base_model
        self.training_dataset_uri = training_dataset_uri
        self.validation_dataset_uri = validation_dataset_uri
        self.epoch_count = epoch_count
        self.learning_rate_multiplier = learning_rate_multiplier
        self.adapter_size = adapter_size
        self.tuned_model_display_name = tuned_model_display_name
        self.description = description
        self.labels = labels
        self.kms_key_name = kms_key_name
        self.encryption_spec = encryption_spec
        self.service_account = service_account
        self.export_last_checkpoint_only = export_last_checkpoint_only
        self.evaluation_config = evaluation_config
        self.pre_tuned_model = pre_tuned_model
        self.pre_tuned_model_checkpoint_id = pre_tuned_model_checkpoint_id
        self.preference_optimization = preference_optimization
        self.beta = beta
        self.tuning_job = tuning_job
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.force_new = force_new
        self.gcp_conn_id = gcp_conn_id
        self.project_id = project_id
        self.location = location
        self.impersonation_chain = impersonation_chain
        self.api_version = api_version
        self.request_timeout = request_timeout

    # -- running -----------------------------------------------------------------------------------

    def execute(self, context: Context) -> Manifest:
        """Find or create the job, then wait for it."""
        return self._run(context, started=time.time())

    def _run(self, context: Context, *, started: float) -> Manifest:
        # Everything that can be wrong with the parameters is found before anything is sent.
        poll_interval = self.seconds("poll_interval")
        if self.timeout is not None:
            self.seconds("timeout")
        body = self.request_body()
        with self.make_hook() as hook:
            submission = self._submission = self._submit_as(hook, context, body)
            job, created = self._within_quota(submission, poll_interval, started)
            store(context, job)
            context["ti"].xcom_push(key="tuning_job_name", value=job["name"])
            if created:
                self.log.info(
                    "Created %s (%s). It costs money until it ends. %s",
                    job["name"],
                    state_in_words(job["state"]),
                    tuning_job_url(job["name"]),
                )
            if not self.wait_for_completion:
                self._submission = None  # from here on the job outlives its task
                return manifest(dict(job))
            if outcome(job["state"]).ended:
                return self._finish(context, dict(job))
            deadline = self._deadline(job, started)
            if self.deferrable:
                self._defer(str(job["name"]), deadline)
            try:
                job = hook.wait_until_ended(job["name"], poll_interval=poll_interval, deadline=deadline)
            except TuningWaitTimeoutError:
                return self._time_is_up(context, hook, str(job["name"]))
            return self._finish(context, job)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Manifest:
        """Resume when the trigger has seen the end, or the deadline, or an error that ends the wait."""
        status = event_status(event, "tuning_job_name")
        name = str(event["tuning_job_name"])
        if status == "error":
            raise error_from_event(
                event,
                f"watch {name}",
                tuning_job_name=name,
                outlook="The job is not affected and may cost money. A retry or a clear of the task joins it.",
            )
        with self.make_hook() as hook:
            if status == "timeout":
                self._submission = self._submit_as(hook, context, self.request_body())
                self._submission.adopt(name)  # for on_kill: nothing but this process watches it any more
                return self._time_is_up(context, hook, name)
            return self._finish(context, hook.get_tuning_job(name))

    def execute_after_quota(self, context: Context, event: Any, started: float) -> Manifest:
        """Resume after a pause for the quota of concurrent tuning jobs.

        :param context: the task's context.
        :param event: the end of the pause; it says nothing.
        :param started: epoch seconds at which the attempt began.
        """
        return self._run(context, started=started)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume; a trigger that came too late or was lost must not leave its job behind."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralError, TaskDeferralTimeout) as error:
            return self._without_trigger(context, error)

    def on_kill(self) -> None:
        """Cancel the job of a task that is killed on a worker."""
        cancel_killed(self)

    # -- the request -------------------------------------------------------------------------------

    def request_body(self) -> dict[str, Any]:
        """Return the checked request body, without our labels.

        :raises TuningInvalidInputError: naming the parameter, its value and what is allowed.
        """
        given = {field: getattr(self, field) for field in self._BODY_FIELDS}
        with refusing_invalid_input():
            given["preference_optimization"] = boolean(
                self.preference_optimization, "preference_optimization"
            )
            if self.export_last_checkpoint_only is not None:
                given["export_last_checkpoint_only"] = boolean(
                    self.export_last_checkpoint_only, "export_last_checkpoint_only"
                )
            if self.tuning_job is None:
                return bodies.build(**given)
            extra = [field for field, value in given.items() if value]
            if extra:
                raise InvalidInputError(
                    extra[0], given[extra[0]], "give either tuning_job or single parameters, not both"
                )
            return bodies.checked(self.tuning_job)

    def _identity(self, context: Context) -> TaskIdentity:
        with refusing_invalid_input():
            force_new = boolean(self.force_new, "force_new")
        # A clear raises max_tries, a retry does not: what they leave over counts the clears.
        generation = str((context["ti"].max_tries or 0) - (self.retries or 0)) if force_new else ""
        return task_identity(context, generation)

    def _submit_as(self, hook: TuningJobHook, context: Context, body: dict[str, Any]) -> Submission:
        from airflow_tuning_provider.operators.submission import Submission

        def create(labels: dict[str, str]) -> dict[str, Any]:
            with refusing_invalid_input():
                return hook.create_tuning_job(bodies.with_labels(body, labels))

        recovering = context["ti"].try_number > 1
        return Submission(
            hook,
            self._identity(context),
            body,
            create,
            recovering=recovering,
            log=self.log,
            keep=_outlives(self),
            unless_replaced=partial(unless_replaced, log=self.log),
        )

    # -- waiting and ending ------------------------------------------------------------------------

    def _deadline(self, job: Mapping[str, Any], started: float) -> float | None:
        """Return when the wait ends, in epoch seconds: ``timeout`` counts from the job's creation.

        ``execution_timeout`` counts too: Airflow does not apply it while a task is deferred.
        """
        bounds = []
        if self.timeout is not None:
            bounds.append((parse_time(job.get("createTime")) or started) + self.seconds("timeout"))
        if self.execution_timeout is not None:
            bounds.append(started + self.execution_timeout.total_seconds())
        return min(bounds, default=None)

    def _defer(self, name: str, deadline: float | None) -> None:
        self.log.info("Waiting for %s in the triggerer.", name)
        left = None if deadline is None else timedelta(seconds=max(deadline - time.time(), 0.0))
        self.defer(
            trigger=TuningJobTrigger(
                tuning_job_name=name,
                end_time=deadline,
                cancel_on_kill=self.cancel_on_kill,
                **self.trigger_arguments(),
            ),
            method_name="execute_complete",
            timeout=None if left is None else left + BACKSTOP,
        )

    def _within_quota(
        self, submission: Submission, poll_interval: float, started: float
    ) -> tuple[Mapping[str, Any], bool]:
        """Find or create the job; while the quota of concurrent jobs is used up, pause and try again."""
        while True:
            try:
                return submission.find_or_create(poll_interval=poll_interval)
            except TuningQuotaError as error:
                self._wait_for_quota(error, started)

    def _wait_for_quota(self, error: TuningQuotaError, started: float) -> None:
        """Pause until another job may have ended, off the worker where possible."""
        bounds = [self.seconds("timeout")] if self.timeout is not None else []
        if self.execution_timeout is not None:
            bounds.append(self.execution_timeout.total_seconds())
        asked = error.api_error.retry_after if error.api_error else None
        delay = max(asked or 0.0, min(_QUOTA_DELAY, self.seconds("poll_interval")))
        if bounds and time.time() + delay - started > min(bounds):
            raise error
        self.log.warning(
            "Waiting for quota: no tuning job can be created now, and none was. Trying again in %s. %s",
            in_words(delay),
            error,
        )
        if not self.deferrable:
            time.sleep(delay)
            return
        import pendulum
        from airflow.providers.standard.triggers.temporal import DateTimeTrigger

        self.defer(
            trigger=DateTimeTrigger(moment=pendulum.now("UTC").add(seconds=max(delay, SETTLE_SECONDS))),
            method_name="execute_after_quota",
            kwargs={"started": started},
        )

    def _finish(self, context: Context, job: dict[str, Any]) -> Manifest:
        store(context, job)
        if (error := job_error(job, retry=_RETRY_CREATES)) is not None:
            raise error
        return self.succeeded(job)

    def _time_is_up(self, context: Context, hook: TuningJobHook, name: str) -> Manifest:
        job = hook.get_tuning_job(name)
        if outcome(job["state"]).ended:
            return self._finish(context, job)
        store(context, job)
        if self.cancel_on_timeout:
            # It may end at this very moment; what matters is that it does not go on.
            with suppress(TuningBadRequestError, TuningNotFoundError):
                hook.cancel_tuning_job(name)
            fate = f"Asked for its cancellation. {_RETRY_CREATES}"
        else:
            fate = "It goes on and may cost money (cancel_on_timeout=False). A retry of the task joins it."
        raise TuningWaitTimeoutError(
            f"{name} was still {state_in_words(job['state'])} when its time was up. {fate}\n"
            f"Console: {tuning_job_url(name)}",
            tuning_job_name=name,
        )

    def _without_trigger(self, context: Context, error: Exception) -> Manifest:
        """Settle a deferral that ended without an event: find the job by its labels and look at it."""
        with self.make_hook() as hook:
            submission = self._submission = self._submit_as(hook, context, self.request_body())
            job = submission.find()
            if job is None:
                raise TuningUnavailableError(f"The wait ended ({error}), and no job of this task was found.")
            if isinstance(error, TaskDeferralTimeout):
                return self._time_is_up(context, hook, job["name"])
            job = hook.get_tuning_job(job["name"])
            if outcome(job["state"]).ended:
                return self._finish(context, job)
            raise TuningUnavailableError(
                f"The triggerer could not watch {job['name']} ({error}). The job is not affected and may cost "
                "money. A retry of the task joins it.",
                tuning_job_name=job["name"],
            )


class CancelTuningJobOperator(TuningTaskMixin, BaseOperator):
    """Cancel a tuning job, and wait until it has ended.

    Cancellation is asynchronous and best effort: the job may still succeed, or fail by itself; the manifest
    says how it ended.

    :param tuning_job_name: full resource name, or a bare id where project and location are known.
    :param wait_for_completion: wait for the job's end.
    :param deferrable: wait in the triggerer.
    :param poll_interval: most seconds between two looks.
    :param timeout: seconds to wait from now, ``None`` for no bound.
    :param fail_if_ended: fail if the job had already ended or is gone; default: that is a success.

    The other parameters are those of :class:`CreateTuningJobOperator`.

    :return: the manifest; ``None`` if the job is gone.
    """

    template_fields: Sequence[str] = ("tuning_job_name", "timeout", "fail_if_ended", *SCOPE_FIELDS)
    operator_extra_links = (TuningJobLink(),)
    ui_color = "#fce8e6"

    def __init__(
        self,
        *,
        tuning_job_name: str,
        wait_for_completion: bool = True,
        deferrable: bool = True,
        poll_interval: float | str = 10.0,
        timeout: float | str | None = 3600.0,
        fail_if_ended: bool | str = False,
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
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.fail_if_ended = fail_if_ended
        self.gcp_conn_id = gcp_conn_id
        self.project_id = project_id
        self.location = location
        self.impersonation_chain = impersonation_chain
        self.api_version = api_version
        self.request_timeout = request_timeout

    def execute(self, context: Context) -> Manifest | None:
        """Ask for the cancellation, then wait for the end."""
        poll_interval = self.seconds("poll_interval")
        deadline = None if self.timeout is None else time.time() + self.seconds("timeout")
        with refusing_invalid_input():
            strict = boolean(self.fail_if_ended, "fail_if_ended")
        with self.make_hook() as hook:
            try:
                job = hook.get_tuning_job(self.tuning_job_name)
            except TuningNotFoundError:
                if strict:
                    raise
                self.log.info("%s does not exist: nothing to cancel.", self.tuning_job_name)
                return None
            store(context, job)
            if outcome(job["state"]).ended:
                return self._had_ended(job, strict)
            try:
                hook.cancel_tuning_job(job["name"])
            except TuningBadRequestError:
                job = hook.get_tuning_job(job["name"])
                if outcome(job["state"]).ended:
                    return self._had_ended(job, strict)
                raise
            self.log.info("Asked for the cancellation of %s (%s).", job["name"], state_in_words(job["state"]))
            if not self.wait_for_completion:
                return manifest(hook.get_tuning_job(job["name"]))
            if self.deferrable:
                left = None if deadline is None else timedelta(seconds=max(deadline - time.time(), 0.0))
                self.defer(
                    trigger=TuningJobTrigger(
                        tuning_job_name=job["name"], end_time=deadline, **self.trigger_arguments()
                    ),
                    method_name="execute_complete",
                    timeout=None if left is None else left + BACKSTOP,
                )
            return self._ended(
                hook.wait_until_ended(job["name"], poll_interval=poll_interval, deadline=deadline)
            )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Manifest:
        """Resume when the job has ended."""
        status = event_status(event, "tuning_job_name")
        name = str(event["tuning_job_name"])
        if status == "timeout":
            raise TuningWaitTimeoutError(
                f"{name} has not ended within {self.timeout} s of the request to cancel it. {event.get('message')}",
                tuning_job_name=name,
            )
        if status == "error":
            raise error_from_event(event, f"watch {name} end", tuning_job_name=name)
        with self.make_hook() as hook:
            return self._ended(hook.get_tuning_job(name))

    def _had_ended(self, job: dict[str, Any], strict: bool) -> Manifest:
        text = f"{job['name']} {has_ended_in_words(job['state'])} already: there was nothing to cancel."
        if strict:
            raise TuningBadRequestError(f"{text} (fail_if_ended=True)", tuning_job_name=job["name"])
        self.log.info(text)
        return manifest(job)

    def _ended(self, job: dict[str, Any]) -> Manifest:
        self.log.info("%s %s.", job["name"], has_ended_in_words(job["state"]))
        return manifest(job)


class RebaseTunedModelOperator(TuningTaskMixin, BaseOperator):
    """Re-tune a tuned model on a newer base model, and wait for the operation's end.

    Like a create, a rebase costs money and has no idempotency key: the new job carries the task instance's
    labels and is found by them on a retry.

    :param tuned_model: the tuned model, ``projects/…/models/ID[@VERSION]``; or
    :param tuning_job_name: the tuning job that made it.
    :param tuning_job: settings of the new job as the API's TuningJob: base model, display name, labels…
    :param artifact_destination: ``gs://`` prefix for artifacts.
    :param deploy_to_same_endpoint: deploy over the old model, which is undeployed: there is no way back.
    :param timeout: seconds to wait from now, ``None`` for no bound.
    :param cancel_on_kill: cancel the operation when the task is killed.
    :param cancel_on_timeout: cancel it when ``timeout`` has passed.

    The other parameters are those of :class:`CreateTuningJobOperator`.

    :return: the manifest of the new tuning job.
    """

    template_fields: Sequence[str] = (
        "tuned_model",
        "tuning_job_name",
        "tuning_job",
        "artifact_destination",
        "deploy_to_same_endpoint",
        "timeout",
        *SCOPE_FIELDS,
    )
    template_fields_renderers = {"tuning_job": "json"}  # noqa: RUF012 - Airflow's own convention
    operator_extra_links = LINKS
    ui_color = "#e8f0fe"

    _submission: Submission | None = None

    def __init__(
        self,
        *,
        tuned_model: str | None = None,
        tuning_job_name: str | None = None,
        tuning_job: Mapping[str, Any] | None = None,
        artifact_destination: str | None = None,
        deploy_to_same_endpoint: bool | str | None = None,
        wait_for_completion: bool = True,
        deferrable: bool = True,
        poll_interval: float | str = 60.0,
        timeout: float | str | None = WEEK,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        gcp_conn_id: str = DEFAULT_CONN_ID,
        project_id: str | None = None,
        location: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        api_version: str = "v1",
        request_timeout: float | str = 60.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tuned_model = tuned_model
        self.tuning_job_name = tuning_job_name
        self.tuning_job = tuning_job
        self.artifact_destination = artifact_destination
        self.deploy_to_same_endpoint = deploy_to_same_endpoint
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.gcp_conn_id = gcp_conn_id
        self.project_id = project_id
        self.location = location
        self.impersonation_chain = impersonation_chain
        self.api_version = api_version
        self.request_timeout = request_timeout

    def execute(self, context: Context) -> Manifest:
        """Find or start the rebase, then wait for it."""
        started = time.time()
        poll_interval = self.seconds("poll_interval")
        deadline = None if self.timeout is None else started + self.seconds("timeout")
        body = self.request_body()
        with self.make_hook() as hook:
            submission = self._submission = self._submit_as(hook, context, body)
            found, created = submission.find_or_create(poll_interval=poll_interval)
            name = str(found["name"])
            if created:
                self.log.info("Started %s. It costs money until it ends.", name)
            if (
                "/operations/" in name
            ):  # else: the job of an operation whose answer was lost, or an earlier one's
                if not self.wait_for_completion:
                    self._submission = None  # from here on it outlives its task
                    return manifest({"name": None, "state": None, "operation": name})
                context["ti"].xcom_push(key="operation_name", value=name)
                if self.deferrable:
                    self._defer(OperationTrigger, "operation_name", name, deadline)
                try:
                    operation = hook.wait_for_operation(name, poll_interval=poll_interval, deadline=deadline)
                except TuningWaitTimeoutError:
                    self._time_is_up(hook, name)
                return self._operation_done(context, hook, operation, deadline)
            return self._job_known(context, hook, dict(found), deadline)

    def execute_complete(self, context: Context, event: dict[str, Any], deadline: float | None) -> Manifest:
        """Resume when the operation or the job has ended."""
        key = "operation_name" if isinstance(event, dict) and "operation_name" in event else "tuning_job_name"
        status = event_status(event, key)
        name = str(event[key])
        if status == "error":
            outlook = "It is not affected and may cost money. A retry or a clear of the task joins it."
            raise error_from_event(event, f"watch {name}", outlook=outlook)
        with self.make_hook() as hook:
            if status == "timeout":
                self._adopt(hook, context, name)
                self._time_is_up(hook, name)
            if key == "operation_name":
                return self._operation_done(context, hook, hook.get_operation(name), deadline)
            return self._job_known(context, hook, hook.get_tuning_job(name), deadline)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume; a trigger that came too late must not leave behind what it waited for."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            name = self._awaited(context)
            if name is None:
                raise
            with self.make_hook() as hook:
                self._adopt(hook, context, name)
                self._time_is_up(hook, name)

    def on_kill(self) -> None:
        """Cancel what a task that is killed on a worker has started."""
        cancel_killed(self)

    def request_body(self) -> dict[str, Any]:
        """Return the checked RebaseTunedModelRequest, without our labels.

        :raises TuningInvalidInputError: naming the parameter, its value and what is allowed.
        """
        same = self.deploy_to_same_endpoint
        with refusing_invalid_input():
            return bodies.rebase_body(
                tuned_model=self.tuned_model,
                tuning_job=self.tuning_job_name,
                job=self.tuning_job,
                artifact_destination=self.artifact_destination,
                deploy_to_same_endpoint=None if same is None else boolean(same, "deploy_to_same_endpoint"),
            )

    def _submit_as(self, hook: TuningJobHook, context: Context, body: dict[str, Any]) -> Submission:
        from airflow_tuning_provider.operators.submission import Submission

        def create(labels: dict[str, str]) -> dict[str, Any]:
            with refusing_invalid_input():
                job = bodies.with_labels(body.get("tuningJob", {}), labels)
                return hook.rebase_tuned_model({**body, "tuningJob": job})

        # Whether the new job's labels can be found before the operation ends is not documented: after a
        # lost answer a second rebase could run beside the first, so none is sent without a person's retry.
        recovering = context["ti"].try_number > 1
        return Submission(
            hook,
            task_identity(context),
            body,
            create,
            recovering=recovering,
            log=self.log,
            keep=_outlives(self),
            unless_replaced=partial(unless_replaced, log=self.log),
            max_creates=1,
        )

    def _defer(
        self, trigger: type[OperationTrigger | TuningJobTrigger], key: str, name: str, deadline: float | None
    ) -> None:
        left = None if deadline is None else timedelta(seconds=max(deadline - time.time(), 0.0))
        arguments: dict[str, Any] = {key: name, "end_time": deadline, "cancel_on_kill": self.cancel_on_kill}
        self.defer(
            trigger=trigger(**arguments, **self.trigger_arguments()),
            method_name="execute_complete",
            kwargs={"deadline": deadline},
            timeout=None if left is None else left + BACKSTOP,
        )

    def _adopt(self, hook: TuningJobHook, context: Context, name: str) -> None:
        """Let a kill of this process, which has created nothing itself, find what there is to cancel."""
        if self._submission is None:
            self._submission = self._submit_as(hook, context, self.request_body())
        self._submission.adopt(name)

    def _awaited(self, context: Context) -> str | None:
        """Return the job that was waited for, or else the operation: a lost trigger does not say."""
        ti: Any = context["ti"]
        for key in ("tuning_job_name", "operation_name"):
            found = ti.xcom_pull(task_ids=ti.task_id, key=key, map_indexes=ti.map_index)
            if found:
                return str(found)
        return None

    def _operation_done(
        self, context: Context, hook: TuningJobHook, operation: dict[str, Any], deadline: float | None
    ) -> Manifest:
        if (error := operation.get("error")) is not None:
            raise TuningJobFailedError(
                f"{operation['name']} failed. The API says: {code_name(error_code(error))}: "
                f"{error.get('message')}\n{_RETRY_CREATES}"
            )
        response = operation.get("response") or {}
        name = response.get("name")
        if not name:
            raise TuningUnavailableError(f"{operation['name']} is done, but names no tuning job: {response}")
        return self._job_known(context, hook, hook.get_tuning_job(name), deadline)

    def _job_known(
        self, context: Context, hook: TuningJobHook, job: dict[str, Any], deadline: float | None
    ) -> Manifest:
        store(context, job)
        name = str(job["name"])
        if not self.wait_for_completion:
            self._submission = None  # from here on it outlives its task
        elif not outcome(job["state"]).ended:
            self._adopt(hook, context, name)
            context["ti"].xcom_push(key="tuning_job_name", value=name)
            if self.deferrable:
                self._defer(TuningJobTrigger, "tuning_job_name", name, deadline)
            try:
                job = hook.wait_until_ended(
                    name, poll_interval=self.seconds("poll_interval"), deadline=deadline
                )
            except TuningWaitTimeoutError:
                self._time_is_up(hook, name)
            store(context, job)
        if (error := job_error(job, retry=_RETRY_CREATES)) is not None:
            raise error
        return self.succeeded(job) if outcome(job["state"]).ended else manifest(job)

    def _time_is_up(self, hook: TuningJobHook, name: str) -> NoReturn:
        if self.cancel_on_timeout:
            with suppress(TuningBadRequestError, TuningNotFoundError):
                (hook.cancel_operation if "/operations/" in name else hook.cancel_tuning_job)(name)
        fate = "Asked for its cancellation." if self.cancel_on_timeout else "It goes on and may cost money."
        raise TuningWaitTimeoutError(f"{name} did not end within {self.timeout} s. {fate}")
