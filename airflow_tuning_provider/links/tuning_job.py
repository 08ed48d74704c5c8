"""Links from a task to the Google Cloud console.

Airflow's UI shows what is stored in XCom under a link's key. The operators store it as soon as the job
exists, so that the link is there while the job runs and after it failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

from airflow_tuning_provider.api import console
from airflow_tuning_provider.api.inputs import as_mapping

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context
    from airflow.sdk.types import TaskInstanceKey


class _StoredLink(BaseOperatorLink):
    """A link whose URL the operator has stored in XCom."""

    name = ""
    key = ""

    @property
    def xcom_key(self) -> str:
        return self.key

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the stored URL, empty if there is none yet."""
        from airflow.sdk.execution_time.xcom import XCom

        return XCom.get_value(ti_key=ti_key, key=self.key) or ""


class TuningJobLink(_StoredLink):
    """The tuning job's page."""

    name = "Tuning job"
    key = "tuning_job_url"


class TunedModelLink(_StoredLink):
    """The tuned model in the Model Registry."""

    name = "Tuned model"
    key = "tuned_model_url"


class TunedEndpointLink(_StoredLink):
    """The endpoint that serves the tuned model."""

    name = "Tuned model endpoint"
    key = "tuned_endpoint_url"


LINKS = (TuningJobLink(), TunedModelLink(), TunedEndpointLink())


def urls(job: Mapping[str, Any]) -> dict[str, str]:
    """Return the URLs that a job gives, by XCom key."""
    tuned = as_mapping(job.get("tunedModel"))
    found = {
        TuningJobLink.key: console.tuning_job_url(job.get("name")),
        TunedModelLink.key: console.tuned_model_url(tuned.get("model")),
        TunedEndpointLink.key: console.endpoint_url(tuned.get("endpoint")),
    }
    return {key: url for key, url in found.items() if url}


def store(context: Context, job: Mapping[str, Any]) -> None:
    """Store the URLs that are known by now for the UI.

    :param context: the task's context.
    :param job: the job as the API returned it.
    """
    for key, url in urls(job).items():
        context["ti"].xcom_push(key=key, value=url)
