"""The request that re-tunes a tuned model on a newer base model.

The service takes the settings of the job that made the model, and overwrites what the request's ``tuningJob`` gives.
Google advises against carrying hyperparameters over to another base model: what was right for the one is not for the
other (``gemini/tuning/sft_gemini_migration_recipe.ipynb`` in GoogleCloudPlatform/generative-ai).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow_tuning_provider.api.checks import gcs_prefix
from airflow_tuning_provider.api.inputs import InvalidInputError, as_mapping, as_text
from airflow_tuning_provider.api.names import ModelName, TuningJobName, without_project
from airflow_tuning_provider.api.tuning_job import checked, hyper_parameters, specs


def rebase_body(
    *,
    tuned_model: str | None = None,
    tuning_job: str | None = None,
    job: object = None,
    artifact_destination: str | None = None,
    deploy_to_same_endpoint: bool | None = None,
) -> dict[str, Any]:
    """Build a RebaseTunedModelRequest.

    :param tuned_model: the tuned model to rebase, a Model Registry name; or
    :param tuning_job: the tuning job that made it, a full resource name.
    :param job: optional TuningJob settings of the new job (new base model, display name, labels…).
    :param artifact_destination: ``gs://`` prefix for artifacts.
    :param deploy_to_same_endpoint: deploy over the old model, which is then undeployed: no way back.
    :raises InvalidInputError: if not exactly one source is given, or a value is refused.
    """
    if (tuned_model is None) == (tuning_job is None):
        raise InvalidInputError("tuned_model", tuned_model, "give either tuned_model or tuning_job_name")
    body: dict[str, Any] = {}
    if tuned_model is not None:
        body["tunedModelRef"] = {"tunedModel": str(ModelName.parse(tuned_model, field="tuned_model"))}
    else:
        body["tunedModelRef"] = {"tuningJob": str(TuningJobName.parse(tuning_job, field="tuning_job_name"))}
    if job:
        body["tuningJob"] = checked(job)
    if artifact_destination is not None:
        prefix = gcs_prefix(artifact_destination, "artifact_destination")
        body["artifactDestination"] = {"outputUriPrefix": prefix}
    if deploy_to_same_endpoint is not None:
        body["deployToSameEndpoint"] = deploy_to_same_endpoint
    return body


def names_a_spec(body: Mapping[str, Any]) -> bool:
    """Whether a RebaseTunedModelRequest says itself how the new job is tuned.

    :param body: the request.
    """
    return any(specs(as_mapping(body.get("tuningJob"))))


def spec_without_hyper_parameters(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec of a job with its data and without its hyperparameters; empty if it has none to leave out.

    :param job: the job that made the model.
    """
    for name, given in hyper_parameters(job):
        if given:
            spec = as_mapping(job.get(name))
            return {name: {key: value for key, value in spec.items() if key != "hyperParameters"}}
    return {}


def maker(jobs: Iterable[Mapping[str, Any]], tuned_model: str) -> Mapping[str, Any] | None:
    """Return the job that made a tuned model, ``None`` if it is not among them.

    :param jobs: the tuning jobs, newest first.
    :param tuned_model: the model; without a version, its newest one.
    """
    wanted = without_project(tuned_model)
    for job in jobs:
        made = without_project(as_text(as_mapping(job.get("tunedModel")).get("model")))
        if made == wanted or ("@" not in wanted and made.partition("@")[0] == wanted):
            return job
    return None
