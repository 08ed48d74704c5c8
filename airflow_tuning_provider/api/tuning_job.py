"""The TuningJob request body: build it from parameters, normalise it, check it.

Facts: the TuningJob schema of the discovery documents v1 and v1beta1. Proto JSON accepts snake_case and
camelCase keys alike; a bare number for an enum is its *wire number* (4 means ADAPTER_SIZE_SIXTEEN), which
is why an adapter size given as a rank is sent by name.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from airflow_tuning_provider.api.inputs import InvalidInputError, as_int
from airflow_tuning_provider.api.names import DatasetName, ModelName, TuningJobName

TuningJob = dict[str, Any]
"""A tuning job as the API's own JSON."""

ADAPTER_SIZES = {
    1: "ADAPTER_SIZE_ONE",
    2: "ADAPTER_SIZE_TWO",
    4: "ADAPTER_SIZE_FOUR",
    8: "ADAPTER_SIZE_EIGHT",
    16: "ADAPTER_SIZE_SIXTEEN",
    32: "ADAPTER_SIZE_THIRTY_TWO",
}

# Keys below which the names are the user's data, not field names: they keep their spelling.
_FREE_FORM = frozenset(
    {
        "labels", "parameters", "metricSpecParameters", "stepAutoraterConfigs", "additionalConfig",
        "otherMetadata", "properties", "defs", "default", "example", "references", "customConfigs",
        "parametersJsonSchema", "responseJsonSchema", "responseSchema",
    }
)  # fmt: skip
_SOURCES = ("baseModel", "preTunedModel", "customBaseModel")
_MAX_LABELS = 64
_LABEL_LIMIT = 64
# Letters that are lowercase or have no case, and numbers; not str.islower(), which misses those without case.
_LABEL_CATEGORIES = frozenset({"Ll", "Lo", "Lm", "Nd", "Nl", "No"})
_DISPLAY_NAME_LIMIT = 128
_KMS_KEY = (
    r"projects/[^/\s]+/locations/[a-z0-9-]+/keyRings/[A-Za-z0-9_-]{1,63}/cryptoKeys/[A-Za-z0-9_-]{1,63}"
)
_SERVICE_ACCOUNT = r"[a-zA-Z0-9][a-zA-Z0-9._-]*@[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)+"
_BUCKET = r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"
_GCS_URI = rf"{_BUCKET}/[^\x00-\x1f]+"
_GCS_PREFIX = rf"{_BUCKET}(?:/[^\x00-\x1f]*)?"


def normalize(body: object, field: str = "tuning_job") -> TuningJob:
    """Return a copy of a request body with camelCase keys, without nulls, adapter sizes by name.

    :param body: a TuningJob in camelCase, snake_case or a mixture.
    :param field: how errors call the body.
    :raises InvalidInputError: if the body is not a mapping, is not JSON, or has one field in both spellings.
    """
    if not isinstance(body, Mapping) or not body:
        raise InvalidInputError(field, body, "give the TuningJob request body as a non-empty dict")
    try:
        normal: TuningJob = _normalize(body, field)
    except RecursionError:
        raise InvalidInputError(field, "…", "it is nested too deeply, or contains itself") from None
    for name, parameters in _hyper_parameters(normal):
        if "adapterSize" in parameters:
            path = f"{field}.{name}.hyperParameters.adapterSize"
            parameters["adapterSize"] = adapter_size(parameters["adapterSize"], path)
    return normal


def _normalize(value: Any, path: str) -> Any:
    if isinstance(value, Mapping):
        result: dict[str, Any] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidInputError(path, key, "keys must be strings")
            name = _camel(key)
            if item is None:
                continue
            if name in result:
                raise InvalidInputError(f"{path}.{key}", item, f"given twice, as {name} and in snake_case")
            free = name in _FREE_FORM or (
                name == "hyperParameters" and path.endswith("partnerModelTuningSpec")
            )
            result[name] = _plain(item, f"{path}.{name}") if free else _normalize(item, f"{path}.{name}")
        return result
    if isinstance(value, (list, tuple)):
        return [_normalize(item, f"{path}[{index}]") for index, item in enumerate(value)]
    return _plain(value, path)


def _plain(value: Any, path: str) -> Any:
    """Copy JSON data as it is; refuse what JSON cannot say."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise InvalidInputError(path, wrong[0], "keys must be strings")
        return {key: _plain(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, (int, float)):
        raise InvalidInputError(path, value, "give a finite number of at most 64 bits")
    raise InvalidInputError(path, value, f"{type(value).__name__} is not JSON")


def _camel(key: str) -> str:
    head, *tail = key.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in tail) if head else key


def build(
    *,
    base_model: Any = None,
    training_dataset_uri: Any = None,
    validation_dataset_uri: Any = None,
    epoch_count: Any = None,
    learning_rate_multiplier: Any = None,
    adapter_size: Any = None,
    beta: Any = None,
    preference_optimization: bool = False,
    export_last_checkpoint_only: bool | None = None,
    evaluation_config: Any = None,
    pre_tuned_model: Any = None,
    pre_tuned_model_checkpoint_id: Any = None,
    tuned_model_display_name: Any = None,
    description: Any = None,
    labels: Any = None,
    kms_key_name: Any = None,
    encryption_spec: Any = None,
    service_account: Any = None,
) -> TuningJob:
    """Build and check a request body from the operator's parameters; errors name those parameters.

    Unset (``None``) parameters are left out, so that the service's own recommended values apply.

    :param base_model: model to tune; or ``pre_tuned_model``.
    :param training_dataset_uri: ``gs://`` JSONL file, or the resource name of a Vertex AI dataset.
    :param validation_dataset_uri: the same for validation data.
    :param epoch_count: passes over the training data, 1 or more.
    :param learning_rate_multiplier: factor on the recommended learning rate, above 0.
    :param adapter_size: a rank, or the API's name for it; see :func:`adapter_size`.
    :param beta: weight of the original model in preference optimization, above 0.
    :param preference_optimization: tune on preferences instead of examples.
    :param export_last_checkpoint_only: keep no intermediate checkpoints.
    :param evaluation_config: the API's EvaluationConfig.
    :param pre_tuned_model: Model Registry name of a model to tune further, or the API's PreTunedModel.
    :param pre_tuned_model_checkpoint_id: checkpoint of it to start from.
    :param tuned_model_display_name: name of the tuned model, at most 128 characters.
    :param description: description of the job.
    :param labels: labels of the job.
    :param kms_key_name: Cloud KMS key; or ``encryption_spec``.
    :param encryption_spec: the API's EncryptionSpec.
    :param service_account: service account that the job runs as.
    :raises InvalidInputError: for the first parameter that the API could not accept.
    """
    if kms_key_name is not None and encryption_spec is not None:
        raise InvalidInputError("kms_key_name", kms_key_name, "give either kms_key_name or encryption_spec")
    if beta is not None and not preference_optimization:
        raise InvalidInputError("beta", beta, "only used with preference_optimization=True")
    if preference_optimization and evaluation_config is not None:
        raise InvalidInputError("evaluation_config", evaluation_config, "not part of preference optimization")
    hyper_parameters = {
        "epochCount": epoch_count,
        "learningRateMultiplier": learning_rate_multiplier,
        "adapterSize": adapter_size,
        "beta": beta,
    }
    spec = {
        "trainingDatasetUri": training_dataset_uri,
        "validationDatasetUri": validation_dataset_uri,
        "hyperParameters": _without_nones(hyper_parameters) or None,
        "exportLastCheckpointOnly": export_last_checkpoint_only,
        "evaluationConfig": evaluation_config,
    }
    spec_name = "preferenceOptimizationSpec" if preference_optimization else "supervisedTuningSpec"
    body = {
        "baseModel": base_model,
        "preTunedModel": _pre_tuned_model(pre_tuned_model, pre_tuned_model_checkpoint_id),
        spec_name: spec,
        "tunedModelDisplayName": tuned_model_display_name,
        "description": description,
        "labels": labels or None,
        "encryptionSpec": {"kmsKeyName": kms_key_name} if kms_key_name is not None else encryption_spec,
        "serviceAccount": service_account,
    }
    parameter_names = {
        "baseModel": "base_model",
        "preTunedModel": "pre_tuned_model",
        "preTunedModel.tunedModelName": "pre_tuned_model",
        "preTunedModel.checkpointId": "pre_tuned_model_checkpoint_id",
        f"{spec_name}.trainingDatasetUri": "training_dataset_uri",
        f"{spec_name}.validationDatasetUri": "validation_dataset_uri",
        f"{spec_name}.hyperParameters.epochCount": "epoch_count",
        f"{spec_name}.hyperParameters.learningRateMultiplier": "learning_rate_multiplier",
        f"{spec_name}.hyperParameters.adapterSize": "adapter_size",
        f"{spec_name}.hyperParameters.beta": "beta",
        f"{spec_name}.exportLastCheckpointOnly": "export_last_checkpoint_only",
        f"{spec_name}.evaluationConfig": "evaluation_config",
        "tunedModelDisplayName": "tuned_model_display_name",
        "description": "description",
        "labels": "labels",
        "encryptionSpec": "encryption_spec",
        "encryptionSpec.kmsKeyName": "kms_key_name"
        if encryption_spec is None
        else "encryption_spec.kmsKeyName",
        "serviceAccount": "service_account",
    }
    try:
        return checked(body)
    except InvalidInputError as error:
        path = error.field.removeprefix("tuning_job.")
        field = parameter_names.get(path, path)
        raise InvalidInputError(field, error.value, error.expected) from None


def _pre_tuned_model(value: Any, checkpoint_id: Any) -> Any:
    if value is None:
        if checkpoint_id is not None:
            raise InvalidInputError(
                "pre_tuned_model_checkpoint_id", checkpoint_id, "only used with pre_tuned_model"
            )
        return None
    if isinstance(value, Mapping):
        if checkpoint_id is not None:
            raise InvalidInputError(
                "pre_tuned_model_checkpoint_id", checkpoint_id, "already part of the pre_tuned_model dict"
            )
        return value
    return _without_nones(
        {"tunedModelName": value, "checkpointId": None if checkpoint_id is None else str(checkpoint_id)}
    )


def checked(body: object, field: str = "tuning_job") -> TuningJob:
    """Normalise a request body and refuse what the API is known to refuse.

    Fields that this version does not know pass through: Google adds specs faster than clients follow.

    :raises InvalidInputError: naming the field, the value and what is allowed.
    """
    job = normalize(body, field)
    specs = [name for name in job if name.endswith("Spec") and name != "encryptionSpec"]
    sources = [name for name in _SOURCES if name in job]
    if len(sources) > 1:
        raise InvalidInputError(
            f"{field}.{sources[0]}", job[sources[0]], f"give only one of {', '.join(sources)}"
        )
    if not sources and "distillationSpec" not in specs:  # which names its teacher instead
        raise InvalidInputError(f"{field}.baseModel", None, "give base_model or pre_tuned_model")
    if len(specs) > 1:
        raise InvalidInputError(f"{field}.{specs[1]}", "…", f"give only one of {', '.join(specs)}")
    if not specs:
        raise InvalidInputError(field, sorted(job), "it has no tuning spec such as supervisedTuningSpec")
    _check_source(job, field)
    for name in specs:
        _check_spec(job[name], f"{field}.{name}")
    _check_metadata(job, field)
    return job


def _check_source(job: TuningJob, field: str) -> None:
    if "baseModel" in job and not _is_word(job["baseModel"]):
        raise InvalidInputError(
            f"{field}.baseModel", job["baseModel"], "give the name of a model that can be tuned"
        )
    if "preTunedModel" in job:
        source = _mapping(job["preTunedModel"], f"{field}.preTunedModel")
        ModelName.parse(source.get("tunedModelName"), field=f"{field}.preTunedModel.tunedModelName")
        if not _is_word(source.get("checkpointId", "1")):
            raise InvalidInputError(
                f"{field}.preTunedModel.checkpointId",
                source["checkpointId"],
                "give a checkpoint id such as '2'",
            )


def _check_spec(spec: object, path: str) -> None:
    spec = _mapping(spec, path)
    # Distillation and a few others name their dataset differently; those the service checks.
    required = path.endswith(("supervisedTuningSpec", "preferenceOptimizationSpec", "fullFineTuningSpec"))
    for name in ("trainingDatasetUri", "validationDatasetUri", "promptDatasetUri"):
        if name in spec or (required and name == "trainingDatasetUri"):
            check_dataset_uri(spec.get(name), f"{path}.{name}")
    if "exportLastCheckpointOnly" in spec and not isinstance(spec["exportLastCheckpointOnly"], bool):
        raise InvalidInputError(
            f"{path}.exportLastCheckpointOnly", spec["exportLastCheckpointOnly"], "give true or false"
        )
    if "evaluationConfig" in spec:
        config = _mapping(spec["evaluationConfig"], f"{path}.evaluationConfig")
        missing = [name for name in ("metrics", "outputConfig") if not config.get(name)]
        if missing:
            raise InvalidInputError(f"{path}.evaluationConfig", config, f"it needs {' and '.join(missing)}")
    if path.endswith("partnerModelTuningSpec"):
        return
    parameters = _mapping(spec.get("hyperParameters", {}), f"{path}.hyperParameters")
    for name, check in _NUMBERS.items():
        if name in parameters:
            parameters[name] = check(parameters[name], f"{path}.hyperParameters.{name}")


def _check_metadata(job: TuningJob, field: str) -> None:
    if "labels" in job:
        check_labels(job["labels"], f"{field}.labels")
    name = job.get("tunedModelDisplayName")
    if name is not None and not (isinstance(name, str) and 0 < len(name) <= _DISPLAY_NAME_LIMIT):
        raise InvalidInputError(
            f"{field}.tunedModelDisplayName", name, f"give 1 to {_DISPLAY_NAME_LIMIT} characters"
        )
    if "description" in job and not isinstance(job["description"], str):
        raise InvalidInputError(f"{field}.description", job["description"], "give a string")
    if "encryptionSpec" in job:
        key = _mapping(job["encryptionSpec"], f"{field}.encryptionSpec").get("kmsKeyName")
        if not isinstance(key, str) or not re.fullmatch(_KMS_KEY, key):
            raise InvalidInputError(
                f"{field}.encryptionSpec.kmsKeyName",
                key,
                "give projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY",
            )
    account = job.get("serviceAccount")
    if account is not None and not (isinstance(account, str) and re.fullmatch(_SERVICE_ACCOUNT, account)):
        raise InvalidInputError(f"{field}.serviceAccount", account, "give a service account's e-mail address")


def check_dataset_uri(value: object, field: str) -> str:
    """Return ``value`` if it is a ``gs://`` object or a Vertex AI dataset's resource name.

    :param field: how errors call the value.
    :raises InvalidInputError: if it is anything else.
    """
    if isinstance(value, str) and value.startswith("projects/"):
        return str(DatasetName.parse(value, field=field))
    if isinstance(value, str) and re.fullmatch(_GCS_URI, value):
        return value
    raise InvalidInputError(
        field, value, "give gs://BUCKET/OBJECT.jsonl, or the resource name of a Vertex AI dataset"
    )


def check_labels(labels: object, field: str) -> dict[str, str]:
    """Return ``labels`` if the API accepts them.

    Keys and values: at most 64 characters, lowercase letters of any script, digits, ``_`` and ``-``
    (TuningJob.labels in the discovery document).

    :param field: how errors call the value.
    :raises InvalidInputError: naming the label at fault.
    """
    labels = _mapping(labels, field)
    if len(labels) > _MAX_LABELS:
        raise InvalidInputError(field, len(labels), f"give at most {_MAX_LABELS} labels")
    rule = f"use at most {_LABEL_LIMIT} lowercase letters, digits, '_' and '-'"
    for key, value in labels.items():
        if not key or not _is_label_text(key):
            raise InvalidInputError(f"{field} key", key, f"{rule}, at least one")
        if not isinstance(value, str):
            raise InvalidInputError(f"{field}[{key!r}]", value, "give a string")
        if not _is_label_text(value):
            raise InvalidInputError(f"{field}[{key!r}]", value, rule)
    return labels


def _is_label_text(text: str) -> bool:
    return len(text) <= _LABEL_LIMIT and all(
        char in "_-" or unicodedata.category(char) in _LABEL_CATEGORIES for char in text
    )


def adapter_size(value: object, field: str = "adapter_size") -> str:
    """Return the enum name for ``value``: a rank (1, 2, 4, 8, 16, 32, also as text) or an enum name.

    :param field: how errors call the value.
    :raises InvalidInputError: for any other size.
    """
    if isinstance(value, str) and value in ADAPTER_SIZES.values():
        return value
    if (rank := as_int(value)) in ADAPTER_SIZES:
        return ADAPTER_SIZES[rank]
    ranks = ", ".join(map(str, ADAPTER_SIZES))
    raise InvalidInputError(field, value, f"give one of {ranks}, or a name such as 'ADAPTER_SIZE_FOUR'")


def _positive_integer(value: object, field: str) -> int:
    number = as_int(value)
    if number is None or number < 1:
        raise InvalidInputError(field, value, "give a whole number, 1 or more")
    return number


def _positive_number(value: object, field: str) -> float:
    number = math.nan
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            number = float(value)
    if not 0 < number < math.inf:
        raise InvalidInputError(field, value, "give a number above 0")
    return number  # always a float: 1 and 1.0 are the same input


_NUMBERS: dict[str, Callable[[object, str], float]] = {
    "epochCount": _positive_integer,
    "stepCount": _positive_integer,
    "batchSize": _positive_integer,
    "learningRateMultiplier": _positive_number,
    "learningRate": _positive_number,
    "beta": _positive_number,
}


def training_dataset(job: Mapping[str, Any]) -> str | None:
    """Return the training dataset's URI of a job, whatever its spec."""
    for name, spec in job.items():
        if name.endswith("Spec") and isinstance(spec, Mapping):
            uri = spec.get("trainingDatasetUri") or spec.get("promptDatasetUri")
            if isinstance(uri, str):
                return uri
    return None


def _hyper_parameters(job: TuningJob) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each spec's name and hyperparameters, where these are the API's and not a partner's own."""
    for name, spec in job.items():
        if name.endswith("Spec") and name != "partnerModelTuningSpec" and isinstance(spec, dict):
            parameters = spec.get("hyperParameters")
            if isinstance(parameters, dict):
                yield name, parameters


def _mapping(value: object, field: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInputError(field, value, "give a JSON object (dict)")
    return value


def _is_word(value: object) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[^\s\x00-\x1f]{1,512}", value))


def _without_nones(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


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
    reference: dict[str, str] = {}
    if tuned_model is not None:
        reference["tunedModel"] = str(ModelName.parse(tuned_model, field="tuned_model"))
    if tuning_job is not None:
        reference["tuningJob"] = str(TuningJobName.parse(tuning_job, field="tuning_job_name"))
    if artifact_destination is not None and not (
        isinstance(artifact_destination, str) and re.fullmatch(_GCS_PREFIX, artifact_destination)
    ):
        raise InvalidInputError("artifact_destination", artifact_destination, "give gs://BUCKET/PREFIX")
    new_job = normalize(job) if job else None
    if new_job and "labels" in new_job:
        check_labels(new_job["labels"], "tuning_job.labels")
    body = {
        "tunedModelRef": reference,
        "tuningJob": new_job,
        "artifactDestination": {"outputUriPrefix": artifact_destination} if artifact_destination else None,
        "deployToSameEndpoint": deploy_to_same_endpoint,
    }
    return _without_nones(body)


def with_labels(job: TuningJob, extra: Mapping[str, str]) -> TuningJob:
    """Return the body with ``extra`` labels added; the job's own labels win no conflict with them.

    :param job: a normalised request body.
    :param extra: labels that this provider adds.
    :raises InvalidInputError: if there would be more labels than the API takes.
    """
    own = job.get("labels", {})
    labels = {**own, **extra}
    if len(labels) > _MAX_LABELS:
        room = f"give at most {_MAX_LABELS - len(extra)} labels: this provider adds {len(extra)}"
        raise InvalidInputError("labels", len(own), room)
    check_labels(labels, "labels")
    return {**job, "labels": labels}


def as_contents(
    contents: str | Mapping[str, Any] | Iterable[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Return ``generateContent`` contents; a plain string becomes one user turn.

    :param contents: a prompt, one Content, or several.
    :raises InvalidInputError: if it is anything else.
    """
    if isinstance(contents, str):
        return [{"role": "user", "parts": [{"text": contents}]}]
    turns = [contents] if isinstance(contents, Mapping) else contents
    turns = list(turns) if isinstance(turns, Iterable) else []
    if not turns or not all(isinstance(turn, Mapping) for turn in turns):
        raise InvalidInputError("contents", contents, "give a string, or a list of the API's Content objects")
    return [dict(turn) for turn in turns]
