# ruff: noqa: E501 - the table has one line for each parameter
"""The body parameters of a tuning job, in one table: name, type, place on the wire, check, help.

A new parameter of Google's is one line of :class:`BodyParameters`. The operator's constructor, its template fields,
its documentation and the request body all come from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, TypedDict, get_args, get_origin, get_type_hints

from airflow_tuning_provider.api import checks
from airflow_tuning_provider.api.inputs import InvalidInputError, boolean
from airflow_tuning_provider.api.labels import check_labels
from airflow_tuning_provider.api.tuning_job import TuningJob, adapter_size

SUPERVISED = "supervisedTuningSpec"
PREFERENCE = "preferenceOptimizationSpec"


@dataclass(frozen=True)
class Parameter:
    """Where a parameter goes, and what it has to be.

    :param path: the field in the request body; ``{spec}`` stands for the spec of either kind of tuning. Empty for
        what is not sent itself.
    :param check: returns the value as it is sent; refuses one that the API could not accept.
    :param help: one sentence for people.
    """

    path: str
    check: Callable[[object, str], Any]
    help: str


# fmt: off
class BodyParameters(TypedDict, total=False):
    """The single parameters. What is not given (``None``) is left to the service's recommended values."""

    base_model: Annotated[str | None, Parameter("baseModel", checks.model, "model to tune, for example ``gemini-3.5-flash``. No default: which models can be tuned changes, and depends on the location.")]
    training_dataset_uri: Annotated[str | None, Parameter("{spec}.trainingDatasetUri", checks.dataset_uri, "``gs://`` URI of a JSONL file, or the resource name of a Vertex AI dataset.")]
    validation_dataset_uri: Annotated[str | None, Parameter("{spec}.validationDatasetUri", checks.dataset_uri, "the same for validation data.")]
    epoch_count: Annotated[int | str | None, Parameter("{spec}.hyperParameters.epochCount", checks.positive_integer, "passes over the training data, 1 or more.")]
    learning_rate_multiplier: Annotated[float | str | None, Parameter("{spec}.hyperParameters.learningRateMultiplier", checks.positive_number, "factor on the recommended learning rate, above 0.")]
    adapter_size: Annotated[int | str | None, Parameter("{spec}.hyperParameters.adapterSize", adapter_size, "1, 2, 4, 8, 16, 32, or the API's name for it.")]
    tuned_model_display_name: Annotated[str | None, Parameter("tunedModelDisplayName", checks.display_name, "name of the tuned model, at most 128 characters.")]
    description: Annotated[str | None, Parameter("description", checks.text, "description of the job.")]
    labels: Annotated[Mapping[str, str] | None, Parameter("labels", check_labels, "labels of the job and of the resources it makes; ours (``airflow-…``) are added.")]
    kms_key_name: Annotated[str | None, Parameter("encryptionSpec.kmsKeyName", checks.kms_key_name, "Cloud KMS key that encrypts the job and its model.")]
    encryption_spec: Annotated[Mapping[str, Any] | None, Parameter("encryptionSpec", checks.encryption_spec, "the same as the API's EncryptionSpec.")]
    service_account: Annotated[str | None, Parameter("serviceAccount", checks.service_account, "service account that the job runs as.")]
    export_last_checkpoint_only: Annotated[bool | str | None, Parameter("{spec}.exportLastCheckpointOnly", boolean, "keep no intermediate checkpoints.")]
    evaluation_config: Annotated[Mapping[str, Any] | None, Parameter(f"{SUPERVISED}.evaluationConfig", checks.evaluation_config, "the API's EvaluationConfig, to evaluate checkpoints within the job.")]
    pre_tuned_model: Annotated[str | Mapping[str, Any] | None, Parameter("preTunedModel", checks.pre_tuned_model, "tuned model to tune further (``projects/…/models/ID@VERSION``), instead of ``base_model``; or the API's PreTunedModel.")]
    pre_tuned_model_checkpoint_id: Annotated[int | str | None, Parameter("preTunedModel.checkpointId", checks.checkpoint_id, "checkpoint of it to start from.")]
    preference_optimization: Annotated[bool | str | None, Parameter("", boolean, "tune on preferences (pairs of better and worse answers).")]
    beta: Annotated[float | str | None, Parameter(f"{PREFERENCE}.hyperParameters.beta", checks.positive_number, "weight of the original model in preference optimization, above 0.")]
# fmt: on


@cache
def table(parameters: type) -> Mapping[str, Parameter]:
    """Return the parameters of a table by name, in its order.

    :param parameters: :class:`BodyParameters`, or a table like it.
    """
    return {name: hint.__metadata__[0] for name, hint in _hints(parameters).items()}


def mappings(parameters: type) -> list[str]:
    """Return the names of the parameters that may be mappings.

    :param parameters: the table.
    """
    return [
        name
        for name, hint in _hints(parameters).items()
        if any(get_origin(kind) is Mapping for kind in get_args(hint.__origin__))
    ]


def build(given: Mapping[str, object], parameters: type = BodyParameters) -> TuningJob:
    """Build a request body from single parameters; errors name the parameter.

    :param given: values by the parameter's name; ``None`` for what is not given.
    :param parameters: the table.
    :raises InvalidInputError: for the first parameter that the API could not accept.
    """
    values = {
        name: parameter.check(given[name], name)
        for name, parameter in table(parameters).items()
        if given.get(name) is not None
    }
    preference = values.pop("preference_optimization", False)
    _check_together(values)
    body: TuningJob = {}
    placed: dict[str, str] = {}
    for name, value in values.items():
        path = table(parameters)[name].path.format(spec=PREFERENCE if preference else SUPERVISED)
        if path.startswith(SUPERVISED if preference else PREFERENCE):
            raise InvalidInputError(name, value, f"only used with preference_optimization={not preference}")
        if value == {}:
            continue
        *above, last = path.split(".")
        message = body
        for step in above:
            message = message.setdefault(step, {})
        if last in message:
            other = next(
                placed[place] for place in placed if place.startswith(path) or path.startswith(place)
            )
            raise InvalidInputError(name, value, f"give either {other} or {name}")
        message[last] = value
        placed[path] = name
    return body


def _check_together(values: Mapping[str, Any]) -> None:
    if "base_model" in values and "pre_tuned_model" in values:
        raise InvalidInputError(
            "base_model", values["base_model"], "give only one of base_model, pre_tuned_model"
        )
    if "pre_tuned_model_checkpoint_id" in values and "pre_tuned_model" not in values:
        value = values["pre_tuned_model_checkpoint_id"]
        raise InvalidInputError("pre_tuned_model_checkpoint_id", value, "only used with pre_tuned_model")
    if "base_model" not in values and "pre_tuned_model" not in values:
        raise InvalidInputError("base_model", None, "give base_model or pre_tuned_model")
    checks.dataset_uri(values.get("training_dataset_uri"), "training_dataset_uri")


@cache
def _hints(parameters: type) -> dict[str, Any]:
    return get_type_hints(parameters, include_extras=True)
