"""Google Cloud console URLs, in one place: Google renames these pages now and then.

The job's page is the one that Google's own SDK prints (``vertexai.tuning``).
"""

from __future__ import annotations

from urllib.parse import quote

from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.names import EndpointName, ModelName, TuningJobName

_CONSOLE = "https://console.cloud.google.com/vertex-ai"


def tuning_job_url(name: object) -> str | None:
    """Return the console page of a tuning job, ``None`` if ``name`` is not one."""
    try:
        job = TuningJobName.parse(name, field="name")
    except InvalidInputError:
        return None
    return (
        f"{_CONSOLE}/generative/language/locations/{job.location}/tuning/tuningJob/{job.resource_id}"
        f"?project={quote(job.project)}"
    )


def tuned_model_url(name: object) -> str | None:
    """Return the console page of a model in the Model Registry, ``None`` if ``name`` is not one."""
    try:
        model = ModelName.parse(name, field="name")
    except InvalidInputError:
        return None
    version = f"/versions/{model.version}" if model.version else ""
    path = f"models/locations/{model.location}/models/{model.resource_id}{version}"
    return f"{_CONSOLE}/{path}?project={quote(model.project)}"


def endpoint_url(name: object) -> str | None:
    """Return the console page of an endpoint, ``None`` if ``name`` is not one."""
    try:
        endpoint = EndpointName.parse(name, field="name")
    except InvalidInputError:
        return None
    return (
        f"{_CONSOLE}/online-prediction/locations/{endpoint.location}/endpoints/{endpoint.resource_id}"
        f"?project={quote(endpoint.project)}"
    )
