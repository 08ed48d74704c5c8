"""The table of body parameters, and the body that is built from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any

import pytest

from airflow_tuning_provider.api import checks
from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.parameters import BodyParameters, Parameter, build, mappings, table

P = "projects/acme-ml/locations/us-central1"
DATA = "gs://bucket/train.jsonl"
KEY = f"{P}/keyRings/ring/cryptoKeys/key"
ACCOUNT = "tuner@acme-ml.iam.gserviceaccount.com"
SFT = {"baseModel": "gemini-3.5-flash", "supervisedTuningSpec": {"trainingDatasetUri": DATA}}
EVALUATION = {
    "metrics": [{"bleuSpec": {}}],
    "outputConfig": {"gcsDestination": {"outputUriPrefix": "gs://b"}},
}


def body(**given: Any) -> dict[str, Any]:
    return build(given)


def refusal(call: Callable[[], object]) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        call()
    return caught.value


def test_only_what_is_given_is_sent() -> None:
    assert body(base_model="gemini-3.5-flash", training_dataset_uri=DATA) == SFT


def test_every_parameter_has_its_place() -> None:
    job = body(
        base_model="gemini-3.5-flash",
        training_dataset_uri=DATA,
        validation_dataset_uri=f"{P}/datasets/5",
        epoch_count="3",
        learning_rate_multiplier="0.5",
        adapter_size=4,
        export_last_checkpoint_only=True,
        evaluation_config=EVALUATION,
        tuned_model_display_name="support",
        description="weekly",
        labels={"team": "support"},
        kms_key_name=KEY,
        service_account=ACCOUNT,
    )
    assert job == {
        "baseModel": "gemini-3.5-flash",
        "supervisedTuningSpec": {
            "trainingDatasetUri": DATA,
            "validationDatasetUri": f"{P}/datasets/5",
            "hyperParameters": {
                "epochCount": 3,
                "learningRateMultiplier": 0.5,
                "adapterSize": "ADAPTER_SIZE_FOUR",
            },
            "exportLastCheckpointOnly": True,
            "evaluationConfig": EVALUATION,
        },
        "tunedModelDisplayName": "support",
        "description": "weekly",
        "labels": {"team": "support"},
        "encryptionSpec": {"kmsKeyName": KEY},
        "serviceAccount": ACCOUNT,
    }


def test_preference_optimization() -> None:
    job = body(base_model="g", training_dataset_uri=DATA, preference_optimization=True, beta="0.1")
    assert job == {
        "baseModel": "g",
        "preferenceOptimizationSpec": {"trainingDatasetUri": DATA, "hyperParameters": {"beta": 0.1}},
    }


@pytest.mark.parametrize("checkpoint", [2, "2"])
def test_continuous_tuning(checkpoint: Any) -> None:
    model = f"{P}/models/1@2"
    job = body(pre_tuned_model=model, pre_tuned_model_checkpoint_id=checkpoint, training_dataset_uri=DATA)
    assert job["preTunedModel"] == {"tunedModelName": model, "checkpointId": "2"}
    as_mapping = {"tuned_model_name": model, "checkpoint_id": "2"}
    assert body(pre_tuned_model=as_mapping, training_dataset_uri=DATA) == job


@pytest.mark.parametrize("labels", [None, {}])
def test_no_labels_are_none(labels: Any) -> None:
    assert "labels" not in body(base_model="g", training_dataset_uri=DATA, labels=labels)


@pytest.mark.parametrize(
    ("parameters", "field", "hint"),
    [
        ({"base_model": None}, "base_model", "give base_model or pre_tuned_model"),
        ({"base_model": ""}, "base_model", "name of a model"),
        ({"base_model": "two words"}, "base_model", "name of a model"),
        ({"base_model": 25}, "base_model", "name of a model"),
        ({"base_model": b"g"}, "base_model", "name of a model"),
        ({"pre_tuned_model": f"{P}/models/1"}, "base_model", "give only one of base_model, pre_tuned_model"),
        ({"training_dataset_uri": None}, "training_dataset_uri", "give gs://BUCKET/OBJECT"),
        ({"training_dataset_uri": "s3://b/o"}, "training_dataset_uri", "give gs://BUCKET/OBJECT"),
        ({"validation_dataset_uri": ""}, "validation_dataset_uri", "give gs://BUCKET/OBJECT"),
        ({"epoch_count": 0}, "epoch_count", "1 or more"),
        ({"epoch_count": True}, "epoch_count", "1 or more"),
        ({"epoch_count": "9" * 5000}, "epoch_count", "1 or more"),
        ({"epoch_count": 10**5000}, "epoch_count", "1 or more"),
        ({"learning_rate_multiplier": -1}, "learning_rate_multiplier", "above 0"),
        ({"learning_rate_multiplier": math.nan}, "learning_rate_multiplier", "above 0"),
        ({"adapter_size": 3}, "adapter_size", "give one of 1, 2, 4, 8, 16, 32"),
        ({"adapter_size": True}, "adapter_size", "give one of 1, 2, 4, 8, 16, 32"),
        ({"beta": 0.1}, "beta", "preference_optimization=True"),
        ({"beta": 0, "preference_optimization": True}, "beta", "above 0"),
        ({"preference_optimization": True, "evaluation_config": EVALUATION}, "evaluation_config", "optimization=False"),
        ({"evaluation_config": {"metrics": []}}, "evaluation_config", "needs metrics and outputConfig"),
        ({"evaluation_config": "x"}, "evaluation_config", "JSON object"),
        ({"export_last_checkpoint_only": "maybe"}, "export_last_checkpoint_only", "true or false"),
        ({"tuned_model_display_name": ""}, "tuned_model_display_name", "1 to 128"),
        ({"tuned_model_display_name": "x" * 129}, "tuned_model_display_name", "1 to 128"),
        ({"description": 7}, "description", "string"),
        ({"labels": {"Team": "x"}}, "labels key", "lowercase"),
        ({"labels": {"team": 7}}, "labels['team']", "give a string"),
        ({"labels": {7: "x"}}, "labels key", "lowercase"),
        ({"labels": "team=x"}, "labels", "JSON object"),
        ({"labels": ["team"]}, "labels", "JSON object"),
        ({"kms_key_name": "key"}, "kms_key_name", "keyRings"),
        ({"kms_key_name": KEY, "encryption_spec": {"kmsKeyName": KEY}}, "encryption_spec", "either kms_key_name or"),
        ({"encryption_spec": KEY}, "encryption_spec", "JSON object"),
        ({"encryption_spec": {"kms_key_name": "key"}}, "encryption_spec.kmsKeyName", "keyRings"),
        ({"service_account": "tuner"}, "service_account", "e-mail"),
        ({"pre_tuned_model_checkpoint_id": "2"}, "pre_tuned_model_checkpoint_id", "only used with"),
    ],
)  # fmt: skip
def test_errors_name_the_parameter(parameters: dict[str, Any], field: str, hint: str) -> None:
    given = {"base_model": "g", "training_dataset_uri": DATA, **parameters}
    error = refusal(lambda: build(given))
    assert error.field == field
    assert hint in str(error)


@pytest.mark.parametrize(
    ("model", "checkpoint", "field"),
    [
        ("1234", None, "pre_tuned_model"),
        (f"{P}/endpoints/1", None, "pre_tuned_model"),
        ({}, None, "pre_tuned_model"),
        ([f"{P}/models/1"], None, "pre_tuned_model"),
        ({"tunedModelName": f"{P}/models/1", "checkpointId": ""}, None, "pre_tuned_model.checkpointId"),
        ({"tunedModelName": f"{P}/models/1", "checkpointId": "1"}, 2, "pre_tuned_model_checkpoint_id"),
        (f"{P}/models/1", "", "pre_tuned_model_checkpoint_id"),
    ],
)
def test_errors_of_continuous_tuning(model: Any, checkpoint: Any, field: str) -> None:
    error = refusal(
        lambda: body(
            pre_tuned_model=model, pre_tuned_model_checkpoint_id=checkpoint, training_dataset_uri=DATA
        )
    )
    assert error.field == field


def test_a_checkpoint_may_be_named_beside_the_api_s_own_object() -> None:
    model = {"tuned_model_name": f"{P}/models/1"}
    job = body(pre_tuned_model=model, pre_tuned_model_checkpoint_id=2, training_dataset_uri=DATA)
    assert job["preTunedModel"] == {"tunedModelName": f"{P}/models/1", "checkpointId": "2"}
    assert model == {"tuned_model_name": f"{P}/models/1"}


def test_text_from_templates() -> None:
    job = body(
        base_model="g",
        training_dataset_uri=DATA,
        preference_optimization="False",
        export_last_checkpoint_only="True",
    )
    assert job["supervisedTuningSpec"] == {"trainingDatasetUri": DATA, "exportLastCheckpointOnly": True}


class Longer(BodyParameters, total=False):
    """The table with one more line."""

    batch_size: Annotated[
        int | None, Parameter("{spec}.hyperParameters.batchSize", checks.positive_integer, "examples a step.")
    ]


def test_a_new_parameter_is_one_line() -> None:
    given = {"base_model": "g", "training_dataset_uri": DATA, "batch_size": "8", "epoch_count": 1}
    job = build(given, Longer)
    assert job["supervisedTuningSpec"]["hyperParameters"] == {"epochCount": 1, "batchSize": 8}
    assert refusal(lambda: build({**given, "batch_size": 0}, Longer)).field == "batch_size"
    assert list(table(Longer)) == [*table(BodyParameters), "batch_size"]


def test_every_line_is_complete() -> None:
    for parameter in table(BodyParameters).values():
        assert parameter.help.endswith(".")
    assert mappings(BodyParameters) == ["labels", "encryption_spec", "evaluation_config", "pre_tuned_model"]
