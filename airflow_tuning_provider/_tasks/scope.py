"""What all tasks have in common: whom to ask, and how an answer is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_tuning_provider._compat import configuration
from airflow_tuning_provider._errors import refusing_invalid_input
from airflow_tuning_provider.api.identity import TaskIdentity
from airflow_tuning_provider.api.inputs import boolean, number
from airflow_tuning_provider.api.manifest import Manifest, in_words, manifest
from airflow_tuning_provider.api.states import JobState
from airflow_tuning_provider.provider_info import CONFIG_SECTION, DEFAULT_CONN_ID

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

SCOPE_FIELDS: Sequence[str] = (
    "gcp_conn_id",
    "project_id",
    "location",
    "impersonation_chain",
    "api_version",
    "request_timeout",
)


class TuningTask(BaseOperator):
    """A task that calls the tuning API. All of these parameters are template fields.

    :param gcp_conn_id: Airflow connection.
    :param project_id: project; default: the connection's.
    :param location: location such as ``us-central1``; default: the connection's.
    :param impersonation_chain: service account to act as, or a chain of them.
    :param api_version: ``v1`` or ``v1beta1``.
    :param request_timeout: seconds for one HTTP request.
    """

    template_fields: Sequence[str] = SCOPE_FIELDS

    def __init__(
        self,
        *,
        gcp_conn_id: str = DEFAULT_CONN_ID,
        project_id: str | None = None,
        location: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        api_version: str = "v1",
        request_timeout: float | str = 60.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.gcp_conn_id = gcp_conn_id
        self.project_id = project_id
        self.location = location
        self.impersonation_chain = impersonation_chain
        self.api_version = api_version
        self.request_timeout = request_timeout

    def make_hook(self, patience: float = 60.0) -> TuningJobHook:
        """Return a hook with this task's parameters; the HTTP libraries are imported now, not when parsing.

        :param patience: seconds for which it sends a call again that failed and is safe to repeat.
        """
        from airflow_tuning_provider.api.retry import RetryPolicy
        from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

        return TuningJobHook(
            self.gcp_conn_id,
            project_id=self.project_id,
            location=self.location,
            impersonation_chain=self.impersonation_chain,
            api_version=self.api_version,
            request_timeout=self.seconds("request_timeout"),
            retry_policy=RetryPolicy(budget=patience, creates_wait_for_quota=False),
        )

    def seconds(self, field: str) -> float:
        """Return a numeric parameter, which may come from a template as text.

        :raises TuningInvalidInputError: if it is not a number above 0, or is longer than a year.
        """
        with refusing_invalid_input():
            return number(getattr(self, field), field)

    def flag(self, field: str) -> bool:
        """Return a parameter that is true or false, which may come from a template as text.

        :raises TuningInvalidInputError: if it is neither.
        """
        with refusing_invalid_input():
            return boolean(getattr(self, field), field)

    def succeeded(self, job: dict[str, Any]) -> Manifest:
        """Tell the end of the story in the log, and return the result."""
        result = manifest(job)
        counts = ("example_count", "billable_token_count", "truncated_example_count", "dropped_example_count")
        self.log.info(
            "Got a tuned model after %s pending and %s running. In one pass over the data: examples %s, billable "
            "tokens %s, truncated examples %s, dropped examples %s. Endpoint %s, model %s",
            in_words(result["pending_seconds"]),
            in_words(result["running_seconds"]),
            *("unknown" if result[key] is None else result[key] for key in counts),  # type: ignore[literal-required]
            result["endpoint"],
            result["tuned_model"],
        )
        if result["state"] == JobState.PARTIALLY_SUCCEEDED.value:
            self.log.warning(
                "The job succeeded partially: check its checkpoints and error. %s", job.get("error")
            )
        return result


def task_identity(context: Context) -> TaskIdentity:
    """Return what identifies the task instance's jobs: never the try number."""
    ti = context["ti"]
    return TaskIdentity(
        dag_id=ti.dag_id,
        run_id=ti.run_id,
        task_id=ti.task_id,
        map_index=-1 if ti.map_index is None else ti.map_index,
        deployment=deployment_name(),
    )


def deployment_name() -> str:
    """Return this Airflow deployment's name, empty if it has none."""
    return configuration(CONFIG_SECTION, "deployment")
