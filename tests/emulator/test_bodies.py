"""Which request bodies are accepted, what becomes of them, and how bad ones are refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_tuning_provider.emulator.errors import ApiError
from airflow_tuning_provider.emulator.protojson import load_json, parse, prune
from airflow_tuning_provider.emulator.schema import ENUMS, MESSAGES, camel_case, snake_case
from airflow_tuning_provider.emulator.validation import check_job

from .discovery import _schemas, assert_valid

TRAIN = "gs://b/train.jsonl"
V1 = "type.googleapis.com/google.cloud.aiplatform.v1"


def job(**fields: Any) -> dict[str, Any]:
    return {"baseModel": "gemini-3.5-flash", "supervisedTuningSpec": {"trainingDatasetUri": TRAIN}, **fields}


def sft(**fields: Any) -> dict[str, Any]:
    return job(supervisedTuningSpec={"trainingDatasetUri": TRAIN, **fields})


def accept(body: Any, version: str = "v1", location: str = "us-central1") -> dict[str, Any]:
    parsed = parse("TuningJob", body, version, "tuning_job")
    check_job(parsed, location)
    assert_valid(parsed, "TuningJob", version)
    return parsed


def refuse(body: Any, version: str = "v1") -> ApiError:
    with pytest.raises(ApiError) as e:
        accept(body, version)
    assert (e.value.http, e.value.status) == (400, "INVALID_ARGUMENT")
    return e.value


# --- the shapes that Google's clients send


@pytest.mark.parametrize(
    ("version", "body"),
    [
        ("v1", job()),
        (
            # google-genai: nested models in snake case, with explicit nulls.
            "v1",
            sft(
                validationDatasetUri="gs://b/val.jsonl",
                hyperParameters={
                    "epochCount": 3,
                    "learningRateMultiplier": 1.5,
                    "adapterSize": "ADAPTER_SIZE_FOUR",
                },
                evaluationConfig={
                    "metrics": [
                        {"aggregation_metrics": ["AVERAGE"], "bleu_spec": {}},
                        {"bleu_spec": None, "rouge_spec": {"rouge_type": "rougeL", "use_stemmer": None}},
                    ],
                    "outputConfig": {"gcs_destination": {"output_uri_prefix": "gs://b/eval/"}},
                    "autoraterConfig": {"samplingCount": 2},
                },
            )
            | {
                "encryptionSpec": {"kms_key_name": "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"}
            },
        ),
        (
            "v1",
            {
                "baseModel": "gemini-3.5-flash",
                "preferenceOptimizationSpec": {
                    "trainingDatasetUri": TRAIN,
                    "hyperParameters": {"epochCount": 1, "adapterSize": "ADAPTER_SIZE_EIGHT", "beta": 0.1},
                },
            },
        ),
        (
            "v1",
            {
                "preTunedModel": {
                    "checkpoint_id": "2",
                    "tuned_model_name": "projects/p/locations/l/models/1@1",
                },
                "supervisedTuningSpec": {"trainingDatasetUri": TRAIN},
                "tunedModelDisplayName": "v2",
            },
        ),
        # google-cloud-aiplatform: int64 as string, enums by number.
        ("v1", sft(hyperParameters={"epochCount": "3", "adapterSize": 2})),
        (
            "v1beta1",
            {"baseModel": "m", "distillationSpec": {"trainingDatasetUri": TRAIN, "baseTeacherModel": "t"}},
        ),
        (
            "v1beta1",
            {
                "baseModel": "m",
                "reinforcementTuningSpec": {
                    "trainingDatasetUri": TRAIN,
                    "singleRewardConfig": {"autoraterScorer": {"autoraterConfig": {"autoraterModel": "m"}}},
                    "hyperParameters": {"samplesPerPrompt": 4},
                },
            },
        ),
        (
            "v1beta1",
            {
                "baseModel": "m",
                "partnerModelTuningSpec": {
                    "trainingDatasetUri": TRAIN,
                    "hyper_parameters": {"epoch_count": "x"},
                },
            },
        ),
        # People, after the documentation: both cases in one body.
        (
            "v1",
            {
                "base_model": "m",
                "supervisedTuningSpec": {"training_dataset_uri": TRAIN, "hyper_parameters": {}},
            },
        ),
        # A Vertex data set instead of a file.
        ("v1", sft(trainingDatasetUri="projects/p/locations/us-central1/datasets/1")),
    ],
)
def test_what_clients_send_is_accepted(version: str, body: dict[str, Any]) -> None:
    accept(body, version)


def test_the_canonical_form() -> None:
    hyper = {"epoch_count": 3.0, "learning_rate_multiplier": "0.5", "adapter_size": "2"}
    parsed = accept(
        {**sft(hyper_parameters=hyper, exportLastCheckpointOnly=False), "labels": {}, "description": ""}
    )
    assert parsed["supervisedTuningSpec"] == {
        "trainingDatasetUri": TRAIN,
        "hyperParameters": {
            "epochCount": "3",
            "learningRateMultiplier": 0.5,
            "adapterSize": "ADAPTER_SIZE_FOUR",
        },
    }
    assert "description" not in parsed


def test_output_only_fields_are_ignored() -> None:
    given = {"name": "x", "state": "whatever", "createTime": 5, "tunedModel": {"model": "x"}, "error": None}
    assert accept(job(**given)) == accept(job())


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (3, "3"),
        ("3", "3"),
        (3.0, "3"),
        ("3.0", "3"),
        (1e2, "100"),
        ("9223372036854775807", "9223372036854775807"),
    ],
)
def test_int64_forms(value: Any, stored: str) -> None:
    assert accept(sft(hyperParameters={"epochCount": value}))["supervisedTuningSpec"]["hyperParameters"] == {
        "epochCount": stored
    }


@pytest.mark.parametrize(
    "value", [3.5, "3.5", "x", "1_0", " 3", "٣", True, {}, "9223372036854775808", "NaN", 1e300]
)
def test_bad_int64(value: Any) -> None:
    error = refuse(sft(hyperParameters={"epochCount": value}))
    path = "tuning_job.supervised_tuning_spec.hyper_parameters.epoch_count"
    assert error.message.startswith(f"Invalid value at '{path}' (TYPE_INT64), ")
    assert error.details[0]["fieldViolations"][0]["field"] == path


@pytest.mark.parametrize("value", ["FOUR", 8, "adapter_size_four", 1.5, True, {}])
def test_bad_enum(value: Any) -> None:
    error = refuse(sft(hyperParameters={"adapterSize": value}))
    assert f"hyper_parameters.adapter_size' ({V1}.AdapterSize), " in error.message


def test_adapter_sizes_have_googles_numbers_and_not_their_ranks() -> None:
    size = {n: name for name, n in ENUMS["AdapterSize"].items()}
    assert (size[4], size[6]) == ("ADAPTER_SIZE_SIXTEEN", "ADAPTER_SIZE_TWO")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            job(foo=1),
            "Invalid JSON payload received. Unknown name \"foo\" at 'tuning_job': Cannot find field.",
        ),
        (job(foo=None), "Unknown name \"foo\" at 'tuning_job'"),
        (sft(trainingData=1), "Unknown name \"trainingData\" at 'tuning_job.supervised_tuning_spec'"),
        (
            sft(evaluationConfig={"metrics": [{}, {"rouge_spec": {"kind": "l"}}]}),
            "'tuning_job.supervised_tuning_spec.evaluation_config.metrics[1].rouge_spec': Cannot find field.",
        ),
        (job(reinforcementTuningSpec={}), 'Unknown name "reinforcementTuningSpec"'),
        (sft(tuningMode="TUNING_MODE_FULL"), 'Unknown name "tuningMode"'),
        (job(baseModel=5), "Invalid value at 'tuning_job.base_model' (TYPE_STRING), 5"),
        (job(labels={"a": 1}), "Invalid value at 'tuning_job.labels[0].value' (TYPE_STRING), 1"),
        (job(baseModel=["m"]), "Proto field is not repeating, cannot start list."),
        (sft(exportLastCheckpointOnly="yes"), '(TYPE_BOOL), "yes"'),
        (
            sft(evaluationConfig={"metrics": [{"predefinedMetricSpec": {"metricSpecParameters": [1]}}]}),
            "Proto field is not repeating",
        ),
        (job(supervisedTuningSpec="x"), f'({V1}.SupervisedTuningSpec), "x"'),
        ([], f"Invalid value at 'tuning_job' ({V1}.TuningJob), []"),
        (job(preTunedModel={"tunedModelName": "m"}), "oneof field 'source_model' is already set."),
        (
            job(preferenceOptimizationSpec={"trainingDatasetUri": TRAIN}),
            "oneof field 'tuning_spec' is already set. Cannot set 'preferenceOptimizationSpec'",
        ),
    ],
)
def test_the_parsers_words(body: Any, message: str) -> None:
    error = refuse(body)
    assert message in error.message
    assert error.details[0]["@type"] == "type.googleapis.com/google.rpc.BadRequest"


def test_every_violation_is_told() -> None:
    error = refuse(job(foo=1, bar=2))
    assert len(error.details[0]["fieldViolations"]) == 2
    assert error.message.count("Cannot find field.") == 2


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"supervisedTuningSpec": {"trainingDatasetUri": TRAIN}}, "base_model"),
        ({"baseModel": "m"}, "tuning_spec"),
        (job(supervisedTuningSpec={}), "supervised_tuning_spec.training_dataset_uri"),
        (job(encryptionSpec={}), "encryption_spec.kms_key_name"),
        (
            job(encryptionSpec={"kmsKeyName": "projects/p/locations/x/keyRings/r/cryptoKeys/k"}),
            "kms_key_name",
        ),
        (job(baseModel=None, preTunedModel={}), "pre_tuned_model.tuned_model_name"),
        (job(tunedModelDisplayName="x" * 129), "tuned_model_display_name"),
        (job(labels={"Team": "a"}), "labels"),
        (job(labels={"1team": "a"}), "labels"),
        (job(labels={"team": "A B"}), "labels"),
        (job(labels={"team": "a" * 65}), "labels"),
        (job(labels={f"k{i}": "v" for i in range(65)}), "labels"),
        (sft(hyperParameters={"epochCount": -1}), "hyper_parameters.epoch_count"),
        (sft(hyperParameters={"learningRateMultiplier": -0.1}), "hyper_parameters.learning_rate_multiplier"),
        (sft(hyperParameters={"learningRateMultiplier": "NaN"}), "hyper_parameters.learning_rate_multiplier"),
        (sft(evaluationConfig={"autoraterConfig": {"samplingCount": 33}}), "autorater_config.sampling_count"),
        (sft(evaluationConfig={"metrics": [{"rougeSpec": {}}]}), "evaluation_config.output_config"),
    ],
)
def test_vertex_ais_own_words(body: dict[str, Any], field: str) -> None:
    error = refuse(body)
    assert error.message.startswith("List of found errors:\t1.Field: tuning_job.")
    assert any(v["field"].endswith(field) for v in error.details[0]["fieldViolations"])


def test_labels_may_be_international() -> None:
    accept(job(labels={"straße": "größe-1", "équipe": "", "名前": "値"}))


@pytest.mark.parametrize(
    "raw",
    [b"{", b"{'a': 1}", b'{"a": 1,}', b"\xff", b"[" * 100_000, b'{"a": NaN}', b'"\\ud800"', b"1" * 5000],
)
def test_a_body_that_is_no_json(raw: bytes) -> None:
    with pytest.raises(ApiError, match=r"Invalid JSON payload received\."):
        load_json(raw)


def test_a_body_that_is_too_deep() -> None:
    deep: Any = {}
    for _ in range(5000):
        deep = {"items": deep}
    with pytest.raises(ApiError, match="Message too deep"):
        parse("GenerateContentRequest", {"systemInstruction": deep}, "v1")


def test_user_data_in_unlisted_messages_is_left_alone() -> None:
    schema = {
        "type": "OBJECT",
        "properties": {"snake_case_name": {"type": "STRING", "property_ordering": ["x"]}},
    }
    config = {
        "metrics": [{"rougeSpec": {}}],
        "outputConfig": {"gcsDestination": {"outputUriPrefix": "gs://b/o"}},
        "inference_generation_config": {"response_schema": schema, "temperature": 0},
    }
    parsed = accept(sft(evaluationConfig=config))["supervisedTuningSpec"]["evaluationConfig"]
    properties = parsed["inferenceGenerationConfig"]["responseSchema"]["properties"]
    assert properties == {"snake_case_name": {"type": "STRING", "propertyOrdering": ["x"]}}
    assert parsed["inferenceGenerationConfig"]["temperature"] == 0


def test_v1_does_not_show_what_only_v1beta1_has() -> None:
    parsed = accept(sft(tuningMode="TUNING_MODE_FULL", hyperParameters={"batchSize": 4}), "v1beta1")
    shown = prune("TuningJob", parsed, "v1")
    assert_valid(shown, "TuningJob")
    assert shown["supervisedTuningSpec"] == {"trainingDatasetUri": TRAIN, "hyperParameters": {}}
    assert prune("TuningJob", parsed, "v1beta1") == parsed


# --- the table against the discovery document


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
@pytest.mark.parametrize("message", sorted(MESSAGES))
def test_the_table_has_the_fields_of_the_discovery_document(message: str, version: str) -> None:
    common = {
        "Operation": "GoogleLongrunningOperation",
        "ListOperationsResponse": "GoogleLongrunningListOperationsResponse",
        "Status": "GoogleRpcStatus",
    }
    name = common.get(message, "GoogleCloudAiplatform" + version.capitalize() + message)
    schema = _schemas(version).get(name)
    if schema is None:
        assert version == "v1"
        return
    ours = {f.name for f in MESSAGES[message].values() if f.known_to(version)}
    assert ours == set(schema.get("properties", {}))


@given(st.from_regex(r"[a-z]{2,6}([A-Z][a-z]{1,6}){0,3}", fullmatch=True))
def test_names_survive_both_cases(name: str) -> None:
    assert camel_case(snake_case(name)) == name


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
names = st.sampled_from(
    ["baseModel", "labels", "supervised_tuning_spec", "trainingDatasetUri", "hyperParameters"]
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(names | st.text(max_size=6), inner, max_size=4)
    ),
)


@given(values)
def test_any_body_is_accepted_or_refused(body: Any) -> None:
    try:
        accept(body)
    except ApiError as e:
        assert e.http == 400  # noqa: PT017
