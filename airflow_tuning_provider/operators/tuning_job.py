"""Operators that create, cancel and rebase Gemini tuning jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_tuning_provider._compat import AirflowSkipException
from airflow_tuning_provider._errors import refusing_invalid_input
from airflow_tuning_provider._tasks.budget import TOKENS_LABEL, Budget, mapping
from airflow_tuning_provider._tasks.paying import PayingTask
from airflow_tuning_provider._tasks.waiting import WAIT_FIELDS, Step, WaitingOperator
from airflow_tuning_provider.api.inputs import InvalidInputError, as_mapping, boolean
from airflow_tuning_provider.api.labels import with_labels
from airflow_tuning_provider.api.manifest import manifest
from airflow_tuning_provider.api.names import ModelName
from airflow_tuning_provider.api.parameters import BodyParameters, build, table
from airflow_tuning_provider.api.rebase import (
    maker,
    names_a_spec,
    rebase_body,
    spec_without_hyper_parameters,
)
from airflow_tuning_provider.api.states import has_ended_in_words, outcome
from airflow_tuning_provider.api.tuning_job import checked
from airflow_tuning_provider.exceptions import (
    TuningBadRequestError,
    TuningBudgetError,
    TuningError,
    TuningNotFoundError,
    TuningUnavailableError,
    TuningWaitTimeoutError,
)
from airflow_tuning_provider.links.tuning_job import LINKS, TuningJobLink, TuningJobsPageLink, store
from airflow_tuning_provider.operators.parameters import accepts, documented, renderers

if TYPE_CHECKING:
    from airflow.sdk import Context

Json = dict[str, Any]

_KEEP = "keepHyperParameters"


class CreateTuningJobOperator(PayingTask):
    """Create a Gemini tuning job and wait for its model.

    The job belongs to the task instance: a retry, a lost worker or a clear finds it by its labels and goes on with
    it. An automatic retry never pays for what a retry cannot mend: a job that failed for good, that somebody
    cancelled, or whose ``timeout`` has passed ends the task for good. A clear of the task pays anew then; a clear
    of a task that succeeded returns the same model at no cost.

    Give either the single parameters or a whole request body (``tuning_job``). What is not given is left to
    the service's recommended values. Facts on the fields:
    https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.tuningJobs

    :param tuning_job: whole request body in camelCase or snake_case, any tuning spec; excludes the single parameters.
    :param max_cost: US dollars that the job may be estimated to cost: the tokens of one pass, times ``epoch_count``,
        times the price. Beyond that, or where it cannot be known, nothing is created. A job that is there already is
        joined all the same.
    :param monthly_budget: US dollars for this calendar month's (UTC) jobs of the project and location, whoever created
        them, this one included.
    :param on_over_budget: ``fail`` for good, or ``skip`` the task.
    :param dataset_manifest: what ``PrepareTuningDatasetOperator`` or ``ValidateTuningDatasetOperator`` returned; the
        estimate takes the tokens from it.
    :param billable_tokens_per_epoch: the same as a number.
    :param prices: US dollars for a million training tokens, by model, before those of ``api/prices.py``.
    :param force_new: let a clear of a task that succeeded create, and pay for, a new job. Retries never do.
    :param wait_for_completion: wait for the job's end; ``False`` returns as soon as it is created.
    :param deferrable: wait in the triggerer, without a worker.
    :param poll_interval: most seconds between two looks at the job.
    :param timeout: seconds that the job may take from its creation; ``None`` for no bound. When they have passed,
        the task fails for good.
    :param cancel_on_kill: cancel the job when its task is killed.
    :param cancel_on_timeout: cancel the job when ``timeout`` has passed.
    :param gcp_conn_id: Airflow connection.
    :param project_id: project; default: the connection's.
    :param location: location such as ``us-central1``; default: the connection's.
    :param impersonation_chain: service account to act as, or a chain of them.
    :param api_version: ``v1`` or ``v1beta1``.
    :param request_timeout: seconds for one HTTP request.
    :return: the manifest, see :func:`airflow_tuning_provider.api.manifest.manifest`; with ``dataset_manifest`` also
        ``dataset``: its ``content_hash``, its ``objects`` with generation and checksum, and which of them ``changed``
        since they were published (``None`` if that could not be seen).
    """

    __doc__ = documented(__doc__, BodyParameters)

    template_fields: Sequence[str] = (
        *table(BodyParameters),
        "tuning_job",
        "timeout",
        "force_new",
        "max_cost",
        "monthly_budget",
        "on_over_budget",
        "dataset_manifest",
        "billable_tokens_per_epoch",
        "prices",
        *WAIT_FIELDS,
    )
    template_fields_renderers = {  # noqa: RUF012 - Airflow's own convention
        **renderers(BodyParameters),
        **dict.fromkeys(("tuning_job", "dataset_manifest", "prices"), "json"),
    }
    operator_extra_links = LINKS
    ui_color = "#e8f0fe"

    @accepts(BodyParameters)
    def __init__(
        self,
        *,
        tuning_job: Mapping[str, Any] | None = None,
        force_new: bool | str = False,
        max_cost: float | str | None = None,
        monthly_budget: float | str | None = None,
        on_over_budget: str = "fail",
        dataset_manifest: Mapping[str, Any] | str | None = None,
        billable_tokens_per_epoch: int | str | None = None,
        prices: Mapping[str, float] | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tuning_job = tuning_job
        self.force_new = force_new
        self.max_cost = max_cost
        self.monthly_budget = monthly_budget
        self.on_over_budget = on_over_budget
        self.dataset_manifest = dataset_manifest
        self.billable_tokens_per_epoch = billable_tokens_per_epoch
        self.prices = prices

    def wants_new(self) -> bool:
        """Return ``force_new``."""
        return self.flag("force_new")

    def request_body(self) -> Json:
        """Return the checked request body, without our labels.

        :raises TuningInvalidInputError: naming the parameter, its value and what is allowed.
        """
        given = {field: getattr(self, field) for field in table(BodyParameters)}
        with refusing_invalid_input():
            if self.tuning_job is None:
                return build(given)
            for field, value in given.items():
                if value:
                    raise InvalidInputError(
                        field, value, "give either tuning_job or single parameters, not both"
                    )
            return checked(self.tuning_job)

    def check(self) -> None:
        """Find whatever is wrong with the parameters before anything is sent."""
        super().check()
        self._budget()

    def _budget(self) -> Budget:
        with refusing_invalid_input():
            if self.on_over_budget not in ("fail", "skip"):
                raise InvalidInputError("on_over_budget", self.on_over_budget, "give fail or skip")
            return Budget.of(
                max_cost=self.max_cost,
                monthly_budget=self.monthly_budget,
                tokens=self.billable_tokens_per_epoch,
                dataset_manifest=self.dataset_manifest,
                prices=self.prices,
            )

    def before_paying(self, body: Json) -> None:
        """Refuse a job that would cost more than ``max_cost`` or ``monthly_budget`` let it."""
        try:
            self._budget().check(body, self.hook, self.log)
        except TuningBudgetError as error:
            if self.on_over_budget == "skip":
                raise AirflowSkipException(str(error)) from None
            raise

    def succeeded(self, job: Json) -> Any:
        """Return the manifest, with what is known of the job's data."""
        result = super().succeeded(job)
        if self.dataset_manifest in (None, "", "None"):
            return result
        with refusing_invalid_input():
            dataset = mapping(self.dataset_manifest, "dataset_manifest")
        objects = {
            uri: dict(as_mapping(stored))
            for uri, stored in as_mapping(dataset.get("objects")).items()
            if uri != dataset.get("held_out_dataset_uri")
        }
        told = {
            "content_hash": dataset.get("content_hash"),
            "objects": objects,
            "changed": self._changed(objects),
        }
        return {**result, "dataset": told}

    def _changed(self, objects: Mapping[str, Mapping[str, Any]]) -> list[str] | None:
        from airflow_tuning_provider.hooks.storage import Storage

        try:
            storage = Storage(gcp_conn_id=self.gcp_conn_id, impersonation_chain=self.impersonation_chain)
            changed = [uri for uri, stored in objects.items() if not storage.is_still(uri, stored)]
        except Exception as error:  # noqa: BLE001 - the model is there, whatever the storage says
            self.log.warning("Whether the job's data changed could not be seen: %s", error)
            return None
        if changed:
            self.log.warning(
                "%s changed after the data set was published: the job may have learnt other data than those of its "
                "manifest.",
                ", ".join(changed),
            )
        return changed

    def send(self, body: Json, labels: dict[str, str]) -> Json:
        """Create the job."""
        tokens = self._budget().tokens
        if tokens is not None:
            labels = {**labels, TOKENS_LABEL: str(tokens)}
        with refusing_invalid_input():
            return self.hook.create_tuning_job(with_labels(body, labels))


class RebaseTunedModelOperator(PayingTask):
    """Re-tune a tuned model on a newer base model, and wait for the new job's end.

    Like a create, a rebase costs money and has no idempotency key: the new job carries the task instance's labels
    and is found by them on a retry. One that may have been accepted is never sent again without a person.

    :param tuned_model: the tuned model, ``projects/…/models/ID[@VERSION]``; or
    :param tuning_job_name: the tuning job that made it.
    :param tuning_job: settings of the new job as the API's TuningJob: base model, display name, labels…
    :param keep_hyper_parameters: tune the new model with the hyperparameters of the old one; by default the service
        recommends new ones, as Google advises, unless ``tuning_job`` has a spec of its own.
    :param artifact_destination: ``gs://`` prefix for artifacts.
    :param deploy_to_same_endpoint: deploy over the old model, which is undeployed: there is no way back.
    :param timeout: seconds to wait from now, ``None`` for no bound.

    The other parameters are those of :class:`CreateTuningJobOperator`.

    :return: the manifest of the new tuning job. With ``wait_for_completion=False`` the job is not known yet: the
        operation's name is in the XCom ``operation_name``.
    """

    template_fields: Sequence[str] = (
        "tuned_model",
        "tuning_job_name",
        "tuning_job",
        "keep_hyper_parameters",
        "artifact_destination",
        "deploy_to_same_endpoint",
        "timeout",
        *WAIT_FIELDS,
    )
    template_fields_renderers = {"tuning_job": "json"}  # noqa: RUF012 - Airflow's own convention
    operator_extra_links = LINKS
    ui_color = "#e8f0fe"
    once = True

    def __init__(
        self,
        *,
        tuned_model: str | None = None,
        tuning_job_name: str | None = None,
        tuning_job: Mapping[str, Any] | None = None,
        keep_hyper_parameters: bool | str = False,
        artifact_destination: str | None = None,
        deploy_to_same_endpoint: bool | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tuned_model = tuned_model
        self.tuning_job_name = tuning_job_name
        self.tuning_job = tuning_job
        self.keep_hyper_parameters = keep_hyper_parameters
        self.artifact_destination = artifact_destination
        self.deploy_to_same_endpoint = deploy_to_same_endpoint

    def request_body(self) -> Json:
        """Return the checked RebaseTunedModelRequest, without our labels.

        Whether hyperparameters are kept is a part of it, as it decides what is trained; it is not sent.

        :raises TuningInvalidInputError: naming the parameter, its value and what is allowed.
        """
        same, keep = self.deploy_to_same_endpoint, self.flag("keep_hyper_parameters")
        with refusing_invalid_input():
            body = rebase_body(
                tuned_model=self.tuned_model,
                tuning_job=self.tuning_job_name,
                job=self.tuning_job,
                artifact_destination=self.artifact_destination,
                deploy_to_same_endpoint=None if same is None else boolean(same, "deploy_to_same_endpoint"),
            )
        return {**body, _KEEP: True} if keep else body

    def send(self, body: Json, labels: dict[str, str]) -> Json:
        """Start the rebase."""
        request = {key: value for key, value in body.items() if key != _KEEP}
        given = request.get("tuningJob", {})
        if _KEEP not in body and not names_a_spec(request):
            given = {**given, **spec_without_hyper_parameters(self._maker())}
        with refusing_invalid_input():
            job = with_labels(given, labels)
            return self.hook.rebase_tuned_model({**request, "tuningJob": job})

    def _maker(self) -> Mapping[str, Any]:
        """Return the job that made the model.

        :raises TuningError: if it cannot be had; nothing was sent then.
        """
        try:
            if self.tuning_job_name is not None:
                return self.hook.get_tuning_job(self.tuning_job_name)
            model = ModelName.parse(self.tuned_model, field="tuned_model")
            jobs = self.hook.list_tuning_jobs(
                project_id=model.project, location=model.location, page_size=1000
            )
            found = maker(jobs, str(model))
        except TuningUnavailableError as error:
            # Without the failed call, which is not the one that pays.
            raise TuningUnavailableError(f"{error}\nThe rebase was not sent. A retry tries again.") from error
        if found is None:
            with refusing_invalid_input():
                raise InvalidInputError(
                    "tuned_model",
                    self.tuned_model,
                    "the tuning job that made it was not found, so that its hyperparameters cannot be left out; give "
                    "tuning_job_name, a spec in tuning_job, or keep_hyper_parameters=True",
                )
        return found


class CancelTuningJobOperator(WaitingOperator):
    """Cancel a tuning job, and wait until it has ended.

    Cancellation is asynchronous and best effort: the job may still succeed, or fail by itself; the manifest
    says how it ended.

    :param tuning_job_name: full resource name, or a bare id where project and location are known.
    :param timeout: seconds to wait from now, ``None`` for no bound.
    :param fail_if_ended: fail if the job had already ended or is gone; default: that is a success.

    The other parameters are those of :class:`CreateTuningJobOperator`, without those that cancel.

    :return: the manifest; ``None`` if the job is gone.
    """

    template_fields: Sequence[str] = ("tuning_job_name", "timeout", "fail_if_ended", *WAIT_FIELDS)
    operator_extra_links = (TuningJobLink(), TuningJobsPageLink())
    ui_color = "#fce8e6"

    def __init__(
        self,
        *,
        tuning_job_name: str,
        fail_if_ended: bool | str = False,
        poll_interval: float | str = 10.0,
        timeout: float | str | None = 3600.0,
        **kwargs: Any,
    ) -> None:
        # To stop this task does not undo what it has asked for.
        super().__init__(
            poll_interval=poll_interval,
            timeout=timeout,
            cancel_on_kill=False,
            cancel_on_timeout=False,
            **kwargs,
        )
        self.tuning_job_name = tuning_job_name
        self.fail_if_ended = fail_if_ended

    def begin(self, context: Context) -> Step:
        """Ask for the cancellation, then wait for the end."""
        strict = self.flag("fail_if_ended")
        try:
            job = self.hook.get_tuning_job(self.tuning_job_name)
        except TuningNotFoundError:
            name = str(self.hook.full_name(self.tuning_job_name))
            # A get may lag behind the create: the cancellation tells.
            if self.cancel(name) is None:
                return self._asked(context, {"name": name})
            if strict:
                raise
            self.log.info("There is nothing to cancel: no such job exists · %s", name)
            return None
        store(context, job)
        name = str(job["name"])
        if not outcome(job["state"]).ended:
            refusal = self.cancel(name)
            job = self.hook.get_tuning_job(name)
            if refusal is None:
                return self._asked(context, job)
            if not outcome(job["state"]).ended:
                raise refusal
        text = f"{name} {has_ended_in_words(job['state'])} already: there was nothing to cancel."
        if strict:
            raise TuningBadRequestError(f"{text} (fail_if_ended=True)", tuning_job_name=name)
        self.log.info(text)
        return manifest(job)

    def _asked(self, context: Context, job: Json) -> Step:
        name = str(job["name"])
        self.log.info("Asked for the cancellation · %s", name)
        if not self.wait_for_completion:
            return manifest(job)
        context["ti"].xcom_push(key="tuning_job_name", value=name)
        return self.wait_for(name, began=self.attempt.started)

    def _awaited(self, context: Context) -> str:
        return str(self.hook.full_name(self.tuning_job_name))

    def ended(self, context: Context, seen: Json) -> Step:
        """Return the manifest, however the job ended."""
        self.log.info("The job %s · %s", has_ended_in_words(seen["state"]), seen["name"])
        return manifest(seen)

    def timed_out(self, name: str, state: str, cancelled: bool) -> TuningError:
        """Return the exception for a job that goes on although it was cancelled."""
        return TuningWaitTimeoutError(
            f"{name} has not ended within {self.timeout} s of the request to cancel it: it is "
            f"{state or 'not to be seen'}. A retry of the task asks again.",
            tuning_job_name=name,
        )
