"""The request that re-tunes a tuned model on a newer base model."""

from __future__ import annotations

from typing import Any

from airflow_tuning_provider.api.checks import gcs_prefix
from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.names import ModelName, TuningJobName
from airflow_tuning_provider.api.tuning_job import checked


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
