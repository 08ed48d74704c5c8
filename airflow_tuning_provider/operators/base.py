"""What the operators and the sensor have in common: the hook's parameters, and telling Airflow of a job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow_tuning_provider.api.identity import TaskIdentity
from airflow_tuning_provider.api.inputs import number
from airflow_tuning_provider.api.manifest import Manifest, in_words, manifest
from airflow_tuning_provider.api.states import JobState
from airflow_tuning_provider.exceptions import TuningError, refusing_invalid_input
from airflow_tuning_provider.operators.attempts import unless_replaced
from airflow_tuning_provider.provider_info import CONFIG_SECTION

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

DEFAULT_CONN_ID = "google_cloud_default"
WEEK = 7 * 24 * 3600.0

SCOPE_FIELDS: Sequence[str] = (
    "gcp_conn_id",
    "project_id",
    "location",
    "impersonation_chain",
    "api_version",
    "request_timeout",
    "poll_interval",
)


class TuningTaskMixin:
    """Parameters that say whom to ask and how often. All of them are template fields."""

    gcp_conn_id: str
    project_id: str | None
    location: str | None
    impersonation_chain: str | Sequence[str] | None
    api_version: str
    request_timeout: float | str
    poll_interval: float | str | None

    if TYPE_CHECKING:
        log: Any

    def make_hook(self) -> TuningJobHook:
        """Return a hook with this task's parameters; the HTTP libraries are imported now, not when parsing."""
        from airflow_tuning_provider.api.retry import RetryPolicy
        from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

        return TuningJobHook(
            self.gcp_conn_id,
            project_id=self.project_id,
            location=self.location,
            impersonation_chain=self.impersonation_chain,
            api_version=self.api_version,
            request_timeout=self.seconds("request_timeout"),
            retry_policy=RetryPolicy(creates_wait_for_quota=False),
        )

    def unless_replaced(self, action: Callable[[], object]) -> None:
        """Do something when killed, unless another attempt takes the place of this one.

        See :func:`airflow_tuning_provider.operators.attempts.unless_replaced`.
        """
        unless_replaced(action, log=self.log)

    def seconds(self, field: str) -> float:
        """Return a numeric parameter, which may come from a template as text.

        :raises TuningInvalidInputError: if it is not a number above 0.
        """
        with refusing_invalid_input():
            return number(getattr(self, field), field)

    def trigger_arguments(self) -> dict[str, Any]:
        """Return the trigger's share of this task's parameters. No secrets: the connection is named only."""
        return {
            "gcp_conn_id": self.gcp_conn_id,
            "impersonation_chain": self.impersonation_chain,
            "api_version": self.api_version,
            "request_timeout": self.seconds("request_timeout"),
            "poll_interval": self.seconds("poll_interval"),
        }

    def succeeded(self, job: dict[str, Any]) -> Manifest:
        """Tell the end of the story in the log, and return the result."""
        result = manifest(job)
        self.log.info(
            "Tuned model %s, endpoint %s. Prepared for %s, ran for %s; %s examples, %s billable tokens a pass, "
            "%s truncated, %s dropped.",
            result["tuned_model"],
            result["endpoint"],
            in_words(result["pending_seconds"]),
            in_words(result["running_seconds"]),
            *(
                "unknown" if result[key] is None else result[key]
                for key in (
                    "example_count",
                    "billable_token_count",
                    "truncated_example_count",
                    "dropped_example_count",
                )
            ),
        )
        if result["state"] == JobState.PARTIALLY_SUCCEEDED.value:
            self.log.warning(
                "The job succeeded partially: check its checkpoints and error. %s", job.get("error")
            )
        return result


def deployment_name() -> str:
    """Return this Airflow deployment's name, empty if it has none."""
    try:
        from airflow.sdk.configuration import conf
    except ImportError:  # Airflow 3.1
        from airflow.configuration import conf

    return conf.get(CONFIG_SECTION, "deployment", fallback="") or ""


def task_identity(context: Context, generation: str = "") -> TaskIdentity:
    """Return what identifies the task instance's jobs: never the try number.

    :param generation: see :class:`airflow_tuning_provider.api.identity.TaskIdentity`.
    """
    ti = context["ti"]
    return TaskIdentity(
        dag_id=ti.dag_id,
        run_id=ti.run_id,
        task_id=ti.task_id,
        map_index=-1 if ti.map_index is None else ti.map_index,
        deployment=deployment_name(),
        generation=generation,
    )


def event_status(event: Any, key: str) -> str:
    """Return the status of a trigger's event.

    :param key: the event's key that names what was waited for.
    :raises TuningError: if the event is not one that our triggers send.
    """
    if isinstance(event, dict) and event.get("status") in ("ended", "timeout", "error") and event.get(key):
        return str(event["status"])
    raise TuningError(
        f"The task was resumed with an event that this provider does not know: {event!r}. The job is not "
        "affected; a retry of the task joins it."
    )
