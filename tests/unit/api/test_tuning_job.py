"""The TuningJob request body: built, normalised, checked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import datetime
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_tuning_provider.api import tuning_job as bodies
from airflow_tuning_provider.api.identity import fingerprint
from airflow_tuning_provider.api.inputs import InvalidInputError

P = "projects/acme-ml/locations/us-central1"
DATA = "gs://bucket/train.jsonl"
KEY = f"{P}/keyRings/ring/cryptoKeys/key"
ACCOUNT = "tuner@acme-ml.iam.gserviceaccount.com"
SPEC = {"trainingDatasetUri": DATA}
SFT = {"baseModel": "gemini-3.5-flash", "supervisedTuningSpec": SPEC}


def sft(**spec: Any) -> dict[str, Any]:
    return {**SFT, "supervisedTuningSpec": {"trainingDatasetUri": DATA, **spec}}


def tuned(**parameters: Any) -> dict[str, Any]:
    return sft(hyperParameters=parameters)


def refusal(call: Callable[[], object]) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        call()
    return caught.value


class TestBuild:
    def test_only_what_is_given_is_sent(self) -> None:
        assert bodies.build(base_model="gemini-3.5-flash", training_dataset_uri=DATA) == SFT

    def test_every_parameter_has_its_place(self) -> None:
        evaluation = {
            "metrics": [{"bleuSpec": {}}],
            "outputConfig": {"gcsDestination": {"outputUriPrefix": "gs://b"}},
        }
        body = bodies.build(
            base_model="gemini-3.5-flash",
            training_dataset_uri=DATA,
            validation_dataset_uri=f"{P}/datasets/5",
            epoch_count="3",
            learning_rate_multiplier="0.5",
            adapter_size=4,
            export_last_checkpoint_only=True,
            evaluation_config=evaluation,
            tuned_model_display_name="support",
            description="weekly",
            labels={"team": "support"},
            kms_key_name=KEY,
            service_account=ACCOUNT,
        )
        assert body == {
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
                "evaluationConfig": evaluation,
            },
            "tunedModelDisplayName": "support",
            "description": "weekly",
            "labels": {"team": "support"},
            "encryptionSpec": {"kmsKeyName": KEY},
            "serviceAccount": ACCOUNT,
        }

    def test_preference_optimization(self) -> None:
        body = bodies.build(
            base_model="g", training_dataset_uri=DATA, preference_optimization=True, beta="0.1"
        )
        assert body == {
            "baseModel": "g",
            "preferenceOptimizationSpec": {"trainingDatasetUri": DATA, "hyperParameters": {"beta": 0.1}},
        }

    @pytest.mark.parametrize("checkpoint", [2, "2"])
    def test_continuous_tuning(self, checkpoint: Any) -> None:
        model = f"{P}/models/1@2"
        body = bodies.build(
            pre_tuned_model=model, pre_tuned_model_checkpoint_id=checkpoint, training_dataset_uri=DATA
        )
        assert body["preTunedModel"] == {"tunedModelName": model, "checkpointId": "2"}
        as_mapping = {"tuned_model_name": model, "checkpoint_id": "2"}
        assert bodies.build(pre_tuned_model=as_mapping, training_dataset_uri=DATA) == body

    @pytest.mark.parametrize("labels", [None, {}])
    def test_no_labels_are_none(self, labels: Any) -> None:
        assert "labels" not in bodies.build(base_model="g", training_dataset_uri=DATA, labels=labels)

    @pytest.mark.parametrize(
        ("parameters", "field", "hint"),
        [
            ({"base_model": None}, "base_model", "give base_model or pre_tuned_model"),
            ({"base_model": ""}, "base_model", "name of a model"),
            ({"base_model": "two words"}, "base_model", "name of a model"),
            ({"base_model": 25}, "base_model", "name of a model"),
            ({"base_model": b"g"}, "base_model", "bytes is not JSON"),
            ({"pre_tuned_model": f"{P}/models/1"}, "base_model", "give only one of baseModel, preTunedModel"),
            ({"training_dataset_uri": None}, "training_dataset_uri", "give gs://BUCKET/OBJECT"),
            ({"training_dataset_uri": "s3://b/o"}, "training_dataset_uri", "give gs://BUCKET/OBJECT"),
            ({"validation_dataset_uri": ""}, "validation_dataset_uri", "give gs://BUCKET/OBJECT"),
            ({"epoch_count": 0}, "epoch_count", "1 or more"),
            ({"epoch_count": True}, "epoch_count", "1 or more"),
            ({"epoch_count": "9" * 5000}, "epoch_count", "1 or more"),
            ({"epoch_count": 10**5000}, "epoch_count", "at most 64 bits"),
            ({"learning_rate_multiplier": -1}, "learning_rate_multiplier", "above 0"),
            ({"learning_rate_multiplier": math.nan}, "learning_rate_multiplier", "finite"),
            ({"adapter_size": 3}, "adapter_size", "give one of 1, 2, 4, 8, 16, 32"),
            ({"adapter_size": True}, "adapter_size", "give one of 1, 2, 4, 8, 16, 32"),
            ({"beta": 0.1}, "beta", "preference_optimization=True"),
            ({"beta": 0, "preference_optimization": True}, "beta", "above 0"),
            ({"preference_optimization": True, "evaluation_config": {}}, "evaluation_config", "not part of"),
            ({"evaluation_config": {"metrics": []}}, "evaluation_config", "needs metrics and outputConfig"),
            ({"evaluation_config": "x"}, "evaluation_config", "JSON object"),
            ({"export_last_checkpoint_only": "true"}, "export_last_checkpoint_only", "true or false"),
            ({"tuned_model_display_name": ""}, "tuned_model_display_name", "1 to 128"),
            ({"tuned_model_display_name": "x" * 129}, "tuned_model_display_name", "1 to 128"),
            ({"description": 7}, "description", "string"),
            ({"labels": {"Team": "x"}}, "labels key", "lowercase"),
            ({"labels": {"team": 7}}, "labels['team']", "give a string"),
            ({"labels": {7: "x"}}, "labels", "keys must be strings"),
            ({"labels": "team=x"}, "labels", "JSON object"),
            ({"labels": ["team"]}, "labels", "JSON object"),
            ({"kms_key_name": "key"}, "kms_key_name", "keyRings"),
            ({"kms_key_name": KEY, "encryption_spec": {}}, "kms_key_name", "either"),
            ({"encryption_spec": KEY}, "encryption_spec", "JSON object"),
            ({"encryption_spec": {"kms_key_name": "key"}}, "encryption_spec.kmsKeyName", "keyRings"),
            ({"service_account": "tuner"}, "service_account", "e-mail"),
            ({"pre_tuned_model_checkpoint_id": "2"}, "pre_tuned_model_checkpoint_id", "only used with"),
        ],
    )  # fmt: skip
    def test_errors_name_the_parameter(self, parameters: dict[str, Any], field: str, hint: str) -> None:
        given = {"base_model": "g", "training_dataset_uri": DATA, **parameters}
        error = refusal(lambda: bodies.build(**given))
        assert error.field == field
        assert hint in str(error)

    @pytest.mark.parametrize(
        ("model", "checkpoint", "field"),
        [
            ("1234", None, "pre_tuned_model"),
            (f"{P}/endpoints/1", None, "pre_tuned_model"),
            ({}, None, "pre_tuned_model"),
            ([f"{P}/models/1"], None, "pre_tuned_model"),
            ({"tunedModelName": f"{P}/models/1", "checkpointId": 2}, None, "pre_tuned_model_checkpoint_id"),
            ({"tunedModelName": f"{P}/models/1"}, 2, "pre_tuned_model_checkpoint_id"),
            (f"{P}/models/1", "", "pre_tuned_model_checkpoint_id"),
        ],
    )
    def test_errors_of_continuous_tuning(self, model: Any, checkpoint: Any, field: str) -> None:
        error = refusal(
            lambda: bodies.build(
                pre_tuned_model=model, pre_tuned_model_checkpoint_id=checkpoint, training_dataset_uri=DATA
            )
        )
        assert error.field == field


class TestNormalize:
    def test_snake_case_is_camel_case(self) -> None:
        snake = {
            "base_model": "g",
            "supervised_tuning_spec": {
                "training_dataset_uri": DATA,
                "hyper_parameters": {"adapter_size": 16, "epoch_count": None},
            },
            "encryption_spec": None,
        }
        assert bodies.normalize(snake) == {
            "baseModel": "g",
            "supervisedTuningSpec": {
                "trainingDatasetUri": DATA,
                "hyperParameters": {"adapterSize": "ADAPTER_SIZE_SIXTEEN"},
            },
        }

    def test_the_input_is_left_alone(self) -> None:
        body = {"base_model": "g", "supervised_tuning_spec": {"hyper_parameters": {"adapter_size": 4}}}
        before = json.dumps(body)
        result = bodies.normalize(MappingProxyType(body))
        result["supervisedTuningSpec"]["hyperParameters"]["adapterSize"] = "changed"
        assert json.dumps(body) == before

    @pytest.mark.parametrize(
        "body",
        [
            {"labels": {"my_team": "a", "my-team": "b"}},
            {"partnerModelTuningSpec": {"hyperParameters": {"learning_rate": 1, "adapter_size": 3, "x": None}}},
            {"supervisedTuningSpec": {"evaluationConfig": {"metrics": [{"metadata": {"otherMetadata": {"a_b": 1}}}]}}},
        ],
    )  # fmt: skip
    def test_the_users_own_keys_keep_their_spelling(self, body: dict[str, Any]) -> None:
        assert bodies.normalize(body) == body

    def test_nulls_are_unset_and_tuples_are_lists(self) -> None:
        assert bodies.normalize({"a": None, "b": {"c": None}, "d": (1, {"e": None})}) == {
            "b": {},
            "d": [1, {}],
        }

    def test_one_field_in_both_spellings(self) -> None:
        error = refusal(lambda: bodies.normalize({"base_model": "a", "baseModel": "b"}))
        assert "given twice, as baseModel" in str(error)
        assert bodies.normalize({"base_model": None, "baseModel": "b"}) == {"baseModel": "b"}

    @pytest.mark.parametrize("key", ["_private", "_", "", "__x"])
    def test_odd_keys_pass(self, key: str) -> None:
        assert bodies.normalize({key: 1, "a": 1}) == {key: 1, "a": 1}

    @pytest.mark.parametrize("body", [None, {}, [], "{}", 7, [("baseModel", "g")]])
    def test_what_is_no_body(self, body: Any) -> None:
        assert "non-empty dict" in str(refusal(lambda: bodies.normalize(body)))

    @pytest.mark.parametrize(
        "value", [b"x", {1}, object(), datetime(2024, 1, 1), math.inf, math.nan, 2**64, -(2**63) - 1, 1j]
    )
    @pytest.mark.parametrize("where", ["x", "labels"])
    def test_what_is_no_json_is_named_with_its_path(self, value: Any, where: str) -> None:
        error = refusal(lambda: bodies.normalize({where: {"a": [0, {"b": value}]}}))
        assert error.field == f"tuning_job.{where}.a[1].b"

    @pytest.mark.parametrize("where", ["x", "labels"])
    def test_keys_must_be_strings(self, where: str) -> None:
        assert "keys must be strings" in str(refusal(lambda: bodies.normalize({where: {7: "x"}})))

    @pytest.mark.parametrize("where", ["x", "labels"])
    def test_an_endless_body(self, where: str) -> None:
        endless: dict[str, Any] = {}
        endless[where] = endless
        assert "contains itself" in str(refusal(lambda: bodies.normalize(endless)))

    def test_errors_call_the_body_as_the_caller_does(self) -> None:
        error = refusal(lambda: bodies.normalize(tuned(adapterSize=3), "job"))
        assert error.field == "job.supervisedTuningSpec.hyperParameters.adapterSize"


class TestChecked:
    @pytest.mark.parametrize(
        "body",
        [
            SFT,
            {"baseModel": "g", "preferenceOptimizationSpec": {"trainingDatasetUri": DATA}},
            # v1beta1
            {"baseModel": "g", "fullFineTuningSpec": {**SPEC, "hyperParameters": {"batchSize": "8"}}},
            {
                "baseModel": "g",
                "reinforcementTuningSpec": {
                    "trainingDatasetUri": DATA,
                    "singleRewardConfig": {"rewardName": "r", "stringMatchRewardScorer": {}},
                    "hyperParameters": {"adapterSize": 8, "samplesPerPrompt": 4, "thinkingLevel": "LOW"},
                },
            },
            {
                "baseModel": "claude",
                "partnerModelTuningSpec": {**SPEC, "hyperParameters": {"adapterSize": 3, "any": [1]}},
            },
            {"distillationSpec": {"promptDatasetUri": DATA, "hyperParameters": {"epochCount": 1}}},
            {"distillationSpec": {"tunedTeacherModelSource": f"{P}/tuningJobs/1", "trainingDatasetUri": DATA}},
            {"baseModel": "veo-3", "veoTuningSpec": {"trainingDatasetUri": DATA, "hyperParameters": {}}},
            {"baseModel": "veo-3", "veoLoraTuningSpec": {**SPEC, "videoOrientation": "PORTRAIT"}},
            {"customBaseModel": "gs://b/model", "outputUri": "gs://b/out", "supervisedTuningSpec": SPEC},
            {"baseModel": "g", "someFutureTuningSpec": {"dataset": 1}, "someFutureField": {"x": [1]}},
        ],
        ids=lambda body: next(name for name in body if name.endswith("Spec")),
    )  # fmt: skip
    def test_every_kind_of_tuning_passes(self, body: dict[str, Any]) -> None:
        job = bodies.checked(body)
        assert set(job) == set(body)
        assert bodies.checked(job) == job

    @pytest.mark.parametrize(
        ("body", "field", "hint"),
        [
            ({"baseModel": "g"}, "tuning_job", "no tuning spec"),
            ({"baseModel": "g", "supervisedTuningSpec": None}, "tuning_job", "no tuning spec"),
            ({"baseModel": "g", "encryptionSpec": {"kmsKeyName": KEY}}, "tuning_job", "no tuning spec"),
            (
                {"supervisedTuningSpec": {"trainingDatasetUri": DATA}},
                "tuning_job.baseModel",
                "give base_model",
            ),
            (
                {**SFT, "customBaseModel": "x"},
                "tuning_job.baseModel",
                "only one of baseModel, customBaseModel",
            ),
            (
                {**SFT, "distillationSpec": {}},
                "tuning_job.distillationSpec",
                "only one of supervisedTuningSpec",
            ),
            ({**SFT, "supervisedTuningSpec": []}, "tuning_job.supervisedTuningSpec", "JSON object"),
            (
                {**SFT, "supervisedTuningSpec": {}},
                "tuning_job.supervisedTuningSpec.trainingDatasetUri",
                "gs://",
            ),
            (
                {"baseModel": "g", "fullFineTuningSpec": {}},
                "tuning_job.fullFineTuningSpec.trainingDatasetUri",
                "gs://",
            ),
            (
                {"baseModel": "g", "veoTuningSpec": {"trainingDatasetUri": "x"}},
                "tuning_job.veoTuningSpec.trainingDatasetUri",
                "gs://",
            ),
            (
                {"distillationSpec": {"promptDatasetUri": "x"}},
                "tuning_job.distillationSpec.promptDatasetUri",
                "gs://",
            ),
            (sft(hyperParameters=[1]), "tuning_job.supervisedTuningSpec.hyperParameters", "JSON object"),
            (
                sft(evaluationConfig={}),
                "tuning_job.supervisedTuningSpec.evaluationConfig",
                "needs metrics and",
            ),
            (
                sft(exportLastCheckpointOnly=1),
                "tuning_job.supervisedTuningSpec.exportLastCheckpointOnly",
                "true or false",
            ),
            ({**SFT, "labels": {"a": None}}, "tuning_job.labels['a']", "give a string"),
            ({**SFT, "labels": []}, "tuning_job.labels", "JSON object"),
            ({**SFT, "encryptionSpec": {}}, "tuning_job.encryptionSpec.kmsKeyName", "keyRings"),
            ({**SFT, "serviceAccount": 7}, "tuning_job.serviceAccount", "e-mail"),
            ({**SFT, "baseModel": ["g"]}, "tuning_job.baseModel", "name of a model"),
        ],
    )
    def test_what_the_api_would_refuse(self, body: dict[str, Any], field: str, hint: str) -> None:
        error = refusal(lambda: bodies.checked(body))
        assert error.field == field
        assert hint in str(error)

    @pytest.mark.parametrize("value", [3, "3", " 3 ", 3.0])
    def test_whole_numbers(self, value: Any) -> None:
        job = bodies.checked(tuned(epochCount=value))
        assert job["supervisedTuningSpec"]["hyperParameters"]["epochCount"] == 3
        assert fingerprint(job) == fingerprint(bodies.checked(tuned(epochCount=3)))

    @pytest.mark.parametrize(
        "value", [0, -1, 3.5, "3.5", "three", "", True, False, 2**63, "9" * 5000, [3], {}]
    )
    def test_what_is_no_number_of_epochs(self, value: Any) -> None:
        error = refusal(lambda: bodies.checked(tuned(epochCount=value)))
        assert error.field == "tuning_job.supervisedTuningSpec.hyperParameters.epochCount"
        assert "1 or more" in str(error)

    @pytest.mark.parametrize("value", [1, 1.0, "1", "1.0", " 1e0 "])
    def test_one_number_in_any_spelling_is_the_same_input(self, value: Any) -> None:
        job = bodies.checked(tuned(learningRateMultiplier=value))
        assert fingerprint(job) == fingerprint(bodies.checked(tuned(learningRateMultiplier=1)))

    @pytest.mark.parametrize("value", [0, -0.1, "nan", "inf", "", "x", True, "9" * 400, [1], {}])
    def test_what_is_no_learning_rate(self, value: Any) -> None:
        assert "above 0" in str(refusal(lambda: bodies.checked(tuned(learningRateMultiplier=value))))


class TestAdapterSizes:
    @pytest.mark.parametrize(
        ("rank", "name"),
        [(1, "ONE"), (2, "TWO"), (4, "FOUR"), (8, "EIGHT"), (16, "SIXTEEN"), (32, "THIRTY_TWO")],
    )
    def test_a_rank_is_sent_by_name(self, rank: int, name: str) -> None:
        for spelling in (rank, str(rank), f" {rank} ", float(rank), f"ADAPTER_SIZE_{name}"):
            assert bodies.adapter_size(spelling) == f"ADAPTER_SIZE_{name}"

    @pytest.mark.parametrize(
        "value",
        [0, 3, 5, 6, 64, -4, True, False, None, "", "4.0", "four", "FOUR", "adapter_size_four", "ADAPTER_SIZE_FOUR\n",
         4.5, math.nan, math.inf, [4], {}, b"4", "9" * 5000],
        ids=lambda value: type(value).__name__,
    )  # fmt: skip
    def test_other_sizes(self, value: Any) -> None:
        error = refusal(lambda: bodies.adapter_size(value))
        assert error.field == "adapter_size"
        assert "ADAPTER_SIZE_FOUR" in error.expected


class TestDatasets:
    @pytest.mark.parametrize(
        "uri",
        [DATA, "gs://b_1.x-y/a b/ü.jsonl", "gs://abc/o?x#y%20", f"{P}/datasets/12", "gs://bucket/dir/*"],
    )
    def test_uris(self, uri: str) -> None:
        assert bodies.check_dataset_uri(uri, "x") == uri

    @pytest.mark.parametrize(
        "uri",
        ["gs://", "gs://bucket", "gs://bucket/", "gs:///o", "gs://Bucket/o", "GS://bucket/o", "gs://b/o", " gs://bucket/o",
         "gs://bucket/o\n", "gs://bucket/o\x00", "https://storage.googleapis.com/b/o", "s3://b/o", "/tmp/o", "",
         f"{P}/datasets/", f"{P}/models/1", "projects/p", None, 7, b"gs://bucket/o", ["gs://bucket/o"]],
    )  # fmt: skip
    def test_other_uris(self, uri: Any) -> None:
        refusal(lambda: bodies.check_dataset_uri(uri, "x"))

    @pytest.mark.parametrize(
        ("job", "expected"),
        [
            (SFT, DATA),
            ({"distillationSpec": {"promptDatasetUri": DATA}}, DATA),
            ({"veoTuningSpec": {"trainingDatasetUri": DATA}}, DATA),
            ({"encryptionSpec": {"kmsKeyName": "k"}}, None),
            ({"supervisedTuningSpec": None}, None),
            ({"supervisedTuningSpec": {"trainingDatasetUri": 7}}, None),
            ({}, None),
        ],
    )
    def test_the_dataset_of_a_job(self, job: dict[str, Any], expected: str | None) -> None:
        assert bodies.training_dataset(job) == expected


class TestLabels:
    @pytest.mark.parametrize(
        "labels",
        [{}, {"a": ""}, {"a-b_1": "x"}, {"x" * 64: "y" * 64}, {"équipe": "データ"}, {"задача": "день"}, {"1": "-"}],
    )  # fmt: skip
    def test_labels(self, labels: dict[str, str]) -> None:
        assert bodies.check_labels(labels, "labels") == labels

    @pytest.mark.parametrize(
        ("labels", "field"),
        [
            ({"": "x"}, "labels key"),
            ({"A": "x"}, "labels key"),
            ({"a.b": "x"}, "labels key"),
            ({"a b": "x"}, "labels key"),
            ({"a\n": "x"}, "labels key"),
            ({"x" * 65: "x"}, "labels key"),
            ({"\U0001d400": "x"}, "labels key"),  # a capital without a lowercase form
            ({"\u01c5": "x"}, "labels key"),  # a title-case letter
            ({"a": "X"}, "labels['a']"),
            ({"a": "É"}, "labels['a']"),
            ({"a": "x/y"}, "labels['a']"),
            ({"a": "x\n"}, "labels['a']"),
            ({"a": "\U0001f600"}, "labels['a']"),
            ({"a": "x" * 65}, "labels['a']"),
            ({"a": None}, "labels['a']"),
            ({"a": 1}, "labels['a']"),
            ({f"l{n}": "" for n in range(65)}, "labels"),
            ([("a", "b")], "labels"),
            (None, "labels"),
        ],
    )
    def test_labels_that_are_refused(self, labels: Any, field: str) -> None:
        assert refusal(lambda: bodies.check_labels(labels, "labels")).field == field

    def test_ours_are_added_and_win(self) -> None:
        job = {**SFT, "labels": {"team": "a", "ours": "theirs"}}
        assert bodies.with_labels(job, {"ours": "x"})["labels"] == {"team": "a", "ours": "x"}
        assert job["labels"] == {"team": "a", "ours": "theirs"}
        assert bodies.with_labels(SFT, {"ours": "x"}) == {**SFT, "labels": {"ours": "x"}}

    def test_the_error_says_how_many_labels_are_left_to_the_user(self) -> None:
        job = {**SFT, "labels": {f"l{n}": "" for n in range(60)}}
        error = refusal(lambda: bodies.with_labels(job, {f"ours{n}": "" for n in range(5)}))
        assert str(error) == "labels=60 is not valid: give at most 59 labels: this provider adds 5"


class TestRebase:
    MODEL = f"{P}/models/1@1"
    JOB = f"{P}/tuningJobs/1"

    def test_bodies(self) -> None:
        assert bodies.rebase_body(tuned_model=self.MODEL) == {"tunedModelRef": {"tunedModel": self.MODEL}}
        assert bodies.rebase_body(
            tuning_job=self.JOB,
            job={"base_model": "g", "labels": {"a": "b"}},
            artifact_destination="gs://bucket/out",
            deploy_to_same_endpoint=False,
        ) == {
            "tunedModelRef": {"tuningJob": self.JOB},
            "tuningJob": {"baseModel": "g", "labels": {"a": "b"}},
            "artifactDestination": {"outputUriPrefix": "gs://bucket/out"},
            "deployToSameEndpoint": False,
        }

    @pytest.mark.parametrize(
        ("arguments", "field"),
        [
            ({}, "tuned_model"),
            ({"tuned_model": MODEL, "tuning_job": JOB}, "tuned_model"),
            ({"tuned_model": JOB}, "tuned_model"),
            ({"tuning_job": "1"}, "tuning_job_name"),
            ({"tuning_job": MODEL}, "tuning_job_name"),
            ({"tuned_model": MODEL, "artifact_destination": "/tmp"}, "artifact_destination"),
            ({"tuned_model": MODEL, "artifact_destination": "gs://"}, "artifact_destination"),
            ({"tuned_model": MODEL, "artifact_destination": b"gs://bucket"}, "artifact_destination"),
            ({"tuned_model": MODEL, "artifact_destination": ""}, "artifact_destination"),
            ({"tuned_model": MODEL, "job": {"labels": {"A": "b"}}}, "tuning_job.labels key"),
            ({"tuned_model": MODEL, "job": "x"}, "tuning_job"),
        ],
    )
    def test_refusals(self, arguments: dict[str, Any], field: str) -> None:
        assert refusal(lambda: bodies.rebase_body(**arguments)).field == field

    @pytest.mark.parametrize("prefix", ["gs://bucket", "gs://bucket/", "gs://bucket/a/b"])
    def test_prefixes(self, prefix: str) -> None:
        body = bodies.rebase_body(tuned_model=self.MODEL, artifact_destination=prefix)
        assert body["artifactDestination"] == {"outputUriPrefix": prefix}


class TestContents:
    TURN = {"role": "user", "parts": [{"text": "hi"}]}  # noqa: RUF012

    @pytest.mark.parametrize("contents", ["hi", TURN, [TURN], (TURN,), iter([TURN]), MappingProxyType(TURN)])
    def test_contents(self, contents: Any) -> None:
        assert bodies.as_contents(contents) == [self.TURN]

    @pytest.mark.parametrize("contents", [None, 7, [], ["hi"], [TURN, "hi"], b"hi", [None]])
    def test_what_is_no_contents(self, contents: Any) -> None:
        assert refusal(lambda: bodies.as_contents(contents)).field == "contents"


# -- properties -------------------------------------------------------------------------------------

_WORDS = st.lists(st.text("abcxyz", min_size=1, max_size=4), min_size=1, max_size=3).map("_".join)
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
)
_JSON = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=4),
    max_leaves=12,
)
_BODIES = st.dictionaries(_WORDS, _JSON, min_size=1, max_size=5)


def camel(value: Any) -> Any:
    """Spell every key in camelCase, by another way than the code under test."""
    if isinstance(value, dict):
        return {
            "".join(
                part if index == 0 else part.capitalize() for index, part in enumerate(key.split("_"))
            ): camel(item)
            for key, item in value.items()
        }
    return [camel(item) for item in value] if isinstance(value, list) else value


def backwards(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: backwards(value[key]) for key in reversed(list(value))}
    return [backwards(item) for item in value] if isinstance(value, list) else value


@given(_BODIES)
def test_normalize_is_idempotent_and_blind_to_spelling_and_order(body: dict[str, Any]) -> None:
    normal = bodies.normalize(body)
    assert bodies.normalize(normal) == normal if normal else True
    assert bodies.normalize(camel(body)) == normal
    assert fingerprint(bodies.normalize(backwards(body))) == fingerprint(normal)
    assert fingerprint(bodies.normalize(camel(body))) == fingerprint(normal)
    assert json.loads(json.dumps(normal)) == normal


@given(_BODIES, _BODIES)
def test_other_input_has_another_fingerprint(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = bodies.normalize(one), bodies.normalize(other)
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (fingerprint(first) == fingerprint(second)) is same


@given(st.recursive(
    _SCALARS | st.binary(max_size=3) | st.floats() | st.integers(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["baseModel", "supervised_tuning_spec", "labels", "hyperParameters", "training_dataset_uri", "adapterSize",
             "epoch_count", "preTunedModel", "tunedModelName", "encryptionSpec", "kmsKeyName", "distillationSpec",
             "evaluationConfig", "learningRate", "serviceAccount", "tunedModelDisplayName", "description", "x"]
        )
        | st.integers(),
        inner,
        max_size=5,
    ),
    max_leaves=25,
))  # fmt: skip
def test_any_body_is_checked_or_refused_in_words(body: Any) -> None:
    try:
        job: Any = bodies.checked(body)
    except InvalidInputError as error:
        job = error
    if isinstance(job, InvalidInputError):
        assert job.field.startswith("tuning_job")
        assert len(str(job)) < 700
    else:
        assert bodies.checked(job) == job
        assert json.dumps(job)
