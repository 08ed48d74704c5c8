"""Links from a task to the Google Cloud console.

Airflow's UI shows what is stored in XCom under a link's key. The operators store it as soon as the job
exists, so that the link is there while the job runs and after it failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from airflow.sdk import BaseOperatorLink

from airflow_tuning_provider._compat import configuration
from airflow_tuning_provider.api import console
from airflow_tuning_provider.api.identity import DAG_LABEL, RUN_LABEL, TASK_LABEL, labels_of
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


class TuningJobsPageLink(_StoredLink):
    """The page *Tuning jobs* of Airflow's own UI, at the jobs of this task."""

    name = "Tuning jobs"
    key = "tuning_jobs_page_url"


LINKS = (TuningJobLink(), TunedModelLink(), TunedEndpointLink(), TuningJobsPageLink())
PAGE_PATH = "/plugin/tuning_jobs"
"""Where Airflow's UI shows the page."""


def urls(job: Mapping[str, Any]) -> dict[str, str]:
    """Return the URLs that a job gives, by XCom key."""
    tuned = as_mapping(job.get("tunedModel"))
    found = {
        TuningJobLink.key: console.tuning_job_url(job.get("name")),
        TunedModelLink.key: console.tuned_model_url(tuned.get("model")),
        TunedEndpointLink.key: console.endpoint_url(tuned.get("endpoint")),
        TuningJobsPageLink.key: page_url(job),
    }
    return {key: url for key, url in found.items() if url}


def store(context: Context, job: Mapping[str, Any]) -> None:
    """Store the URLs that are known by now for the UI.

    :param context: the task's context.
    :param job: the job as the API returned it.
    """
    for key, url in urls(job).items():
        context["ti"].xcom_push(key=key, value=url)


def page_url(job: Mapping[str, Any]) -> str:
    """Return the address of the page *Tuning jobs* with the jobs of the task that created this one.

    :param job: the job; without our labels, the page shows it alone. Empty for what is no job.
    """
    if not console.tuning_job_url(job.get("name")):
        return ""
    labels = labels_of(job)
    wanted = {"dag": labels.get(DAG_LABEL), "run": labels.get(RUN_LABEL), "task": labels.get(TASK_LABEL)}
    if not all(wanted.values()):
        wanted = {"text": str(job.get("name")).rpartition("/")[2]}
    return f"{configuration('api', 'base_url').rstrip('/')}{PAGE_PATH}?{urlencode(wanted)}"
