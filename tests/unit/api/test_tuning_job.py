"""The TuningJob request body: checked for its shape only."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.tuning_job import adapter_size, checked, training_dataset

P = "projects/acme-ml/locations/us-central1"
DATA = "gs://bucket/train.jsonl"
SPEC = {"trainingDatasetUri": DATA}
SFT = {"baseModel": "gemini-3.5-flash", "supervisedTuningSpec": SPEC}


def tuned(**parameters: Any) -> dict[str, Any]:
    return {**SFT, "supervisedTuningSpec": {**SPEC, "hyperParameters": parameters}}


def refusal(call: Callable[[], object]) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(
    "body",
    [
        SFT,
        {"baseModel": "g", "preferenceOptimizationSpec": SPEC},
        {"baseModel": "g", "fullFineTuningSpec": {**SPEC, "hyperParameters": {"batchSize": "8"}}},
        {"baseModel": "g", "reinforcementTuningSpec": {**SPEC, "hyperParameters": {"thinkingLevel": "LOW"}}},
        {"baseModel": "claude", "partnerModelTuningSpec": {"hyperParameters": {"adapterSize": 3, "any": [1]}}},
        {"distillationSpec": {"promptDatasetUri": DATA, "hyperParameters": {"epochCount": 1}}},
        {"distillationSamplingSpec": {"promptDatasetUri": DATA}},
        {"baseModel": "veo-3", "veoLoraTuningSpec": {**SPEC, "videoOrientation": "PORTRAIT"}},
        # any number of sources: Google tells whether they go together
        {"baseModel": "g", "customBaseModel": "gs://b/model", "outputUri": "gs://b/out", "supervisedTuningSpec": SPEC},
        {"baseModel": "g", "preTunedModel": {"tunedModelName": f"{P}/models/1@Production"}, "x": 1},
        {"supervisedTuningSpec": SPEC},
        # what may come
        {**SFT, "safetySpec": {"level": 3}, "rolloutSpec": {"stages": [1]}},
        {"baseModel": "g", "someFutureField": {"x": [1]}},
        tuned(adapterSize="ADAPTER_SIZE_UNSPECIFIED"),
        tuned(adapterSize="ADAPTER_SIZE_SIXTY_FOUR"),
        tuned(adapterSize="HUGE"),
        tuned(adapterSize={"rank": 4}),
        tuned(epochCount=0, learningRate="auto"),
        # what is odd, and Google's to refuse
        {**SFT, "encryptionSpec": {"kmsKeyName": "projects/p/locations/l/keyRings/r/cryptoKeys/K"}},
        {**SFT, "encryptionSpec": {}, "serviceAccount": 7, "tunedModelDisplayName": "x" * 300},
        {"baseModel": ["g"], "supervisedTuningSpec": []},
    ],
)  # fmt: skip
def test_what_is_json_passes_as_it_is(body: dict[str, Any]) -> None:
    job = checked(body)
    assert job == body
    assert checked(job) == job


@pytest.mark.parametrize("body", [None, {}, [], "{}", 7, [("baseModel", "g")], {"baseModel": None}])
def test_what_is_no_body(body: Any) -> None:
    assert "non-empty dict" in str(refusal(lambda: checked(body)))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({**SFT, "labels": {"Team": "x"}}, "tuning_job.labels key"),
        ({**SFT, "labels": {"team": None}}, "tuning_job.labels['team']"),
        ({**SFT, "labels": []}, "tuning_job.labels"),
        ({"base_model": "g", "baseModel": "g"}, "tuning_job.baseModel"),
        ({**SFT, "x": math.nan}, "tuning_job.x"),
    ],
)
def test_what_is_refused(body: dict[str, Any], field: str) -> None:
    assert refusal(lambda: checked(body)).field == field


@pytest.mark.parametrize(
    "spec", ["supervisedTuningSpec", "preference_optimization_spec", "distillationSpec", "someFutureSpec"]
)
@pytest.mark.parametrize("rank", [16, "16", 16.0])
def test_a_rank_in_a_whole_body_is_sent_by_name(spec: str, rank: Any) -> None:
    (job,) = checked({spec: {"hyper_parameters": {"adapter_size": rank}}}).values()
    assert job == {"hyperParameters": {"adapterSize": "ADAPTER_SIZE_SIXTEEN"}}


@pytest.mark.parametrize("number", [3, "3", 0, 64, 4.5, True])
def test_a_number_that_is_no_rank_would_be_another_size_on_the_wire(number: Any) -> None:
    error = refusal(lambda: checked(tuned(adapterSize=number), "job"))
    assert error.field == "job.supervisedTuningSpec.hyperParameters.adapterSize"


class TestAdapterSizes:
    @pytest.mark.parametrize(
        ("rank", "name"),
        [(1, "ONE"), (2, "TWO"), (4, "FOUR"), (8, "EIGHT"), (16, "SIXTEEN"), (32, "THIRTY_TWO")],
    )
    def test_a_rank_is_sent_by_name(self, rank: int, name: str) -> None:
        for spelling in (rank, str(rank), f" {rank} ", float(rank), f"ADAPTER_SIZE_{name}"):
            assert adapter_size(spelling, "adapter_size") == f"ADAPTER_SIZE_{name}"

    @pytest.mark.parametrize(
        "value",
        [0, 3, 5, 6, 64, -4, True, False, None, "", "4.0", "four", "FOUR", "adapter_size_four", "ADAPTER_SIZE_FOUR\n",
         4.5, math.nan, math.inf, [4], {}, b"4", "9" * 5000],
        ids=lambda value: type(value).__name__,
    )  # fmt: skip
    def test_other_sizes(self, value: Any) -> None:
        error = refusal(lambda: adapter_size(value, "adapter_size"))
        assert error.field == "adapter_size"
        assert "ADAPTER_SIZE_FOUR" in error.expected


@pytest.mark.parametrize("name", ["ADAPTER_SIZE_UNSPECIFIED", "ADAPTER_SIZE_ONE_HUNDRED"])
def test_names_that_come_later_pass(name: str) -> None:
    assert adapter_size(name, "adapter_size") == name


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
def test_the_dataset_of_a_job(job: dict[str, Any], expected: str | None) -> None:
    assert training_dataset(job) == expected


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
)


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
        job: Any = checked(body)
    except InvalidInputError as error:
        job = error
    if isinstance(job, InvalidInputError):
        assert job.field.startswith("tuning_job")
        assert len(str(job)) < 700
    else:
        assert checked(job) == job
        assert json.dumps(job)
