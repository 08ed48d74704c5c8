"""The result of a job, and the values it is read from."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_tuning_provider.api.manifest import Manifest, data_stats, in_words, manifest, parse_time

P = "projects/646700000001/locations/us-central1"

# Shaped as the service sends it: int64 as text, doubles as numbers, empty fields left out.
SUCCEEDED: dict[str, Any] = {
    "name": f"{P}/tuningJobs/6284700000000000001",
    "tunedModelDisplayName": "support-bot",
    "baseModel": "gemini-3.5-flash",
    "supervisedTuningSpec": {
        "trainingDatasetUri": "gs://bucket/train.jsonl",
        "hyperParameters": {
            "epochCount": "10",
            "learningRateMultiplier": 1,
            "adapterSize": "ADAPTER_SIZE_FOUR",
        },
    },
    "labels": {"team": "support"},
    "state": "JOB_STATE_SUCCEEDED",
    "createTime": "2024-11-03T21:08:07.734198Z",
    "startTime": "2024-11-03T21:08:30.888568123Z",
    "endTime": "2024-11-03T21:40:37.139132Z",
    "tunedModel": {
        "model": f"{P}/models/1402000000000000001@1",
        "endpoint": f"{P}/endpoints/77",
        "checkpoints": [
            {"checkpointId": "1", "epoch": "5", "step": "120", "endpoint": f"{P}/endpoints/76"},
            {"checkpointId": "2", "epoch": "10", "step": "240"},
        ],
    },
    "tuningDataStats": {
        "supervisedTuningDataStats": {
            "tuningDatasetExampleCount": "500",
            "totalBillableTokenCount": "255243",
            "totalTruncatedExampleCount": "3",
            "droppedExampleReasons": ["too long", "empty"],
            "tuningStepCount": "240",
            "userInputTokenDistribution": {
                "sum": "233592",
                "min": 25,
                "buckets": [{"count": 326, "left": 25, "right": 509}],
            },
        }
    },
}
EXPECTED = {
    "tuning_job_name": f"{P}/tuningJobs/6284700000000000001",
    "state": "JOB_STATE_SUCCEEDED",
    "base_model": "gemini-3.5-flash",
    "hyper_parameters": {
        "epoch_count": 10,
        "learning_rate_multiplier": 1,
        "adapter_size": "ADAPTER_SIZE_FOUR",
    },
    "tuned_model_display_name": "support-bot",
    "tuned_model": f"{P}/models/1402000000000000001@1",
    "tuned_model_version": "1",
    "endpoint": f"{P}/endpoints/77",
    "checkpoints": [
        {"checkpoint_id": "1", "epoch": 5, "step": 120, "endpoint": f"{P}/endpoints/76"},
        {"checkpoint_id": "2", "epoch": 10, "step": 240, "endpoint": None},
    ],
    "create_time": "2024-11-03T21:08:07.734198Z",
    "start_time": "2024-11-03T21:08:30.888568123Z",
    "end_time": "2024-11-03T21:40:37.139132Z",
    "pending_seconds": 23.154,
    "running_seconds": 1926.251,
    "example_count": 500,
    "billable_token_count": 255243,
    "truncated_example_count": 3,
    "dropped_example_count": 2,
    "labels": {"team": "support"},
}


def test_a_job_that_succeeded() -> None:
    before = copy.deepcopy(SUCCEEDED)
    assert manifest(SUCCEEDED) == EXPECTED
    assert before == SUCCEEDED
    assert json.loads(json.dumps(manifest(SUCCEEDED))) == EXPECTED


def test_a_job_whose_model_could_not_be_deployed() -> None:
    failed = {
        **SUCCEEDED,
        "state": "JOB_STATE_FAILED",
        "error": {"code": 13, "message": "Failed to create endpoint."},
        "tunedModel": {"model": f"{P}/models/1402000000000000001@1"},
    }
    result = manifest(failed)
    assert result["tuned_model"] == f"{P}/models/1402000000000000001@1"
    assert (result["endpoint"], result["checkpoints"]) == (None, [])
    assert set(result) == set(EXPECTED)


def test_a_job_that_has_just_been_created() -> None:
    young = {key: SUCCEEDED[key] for key in ("name", "baseModel", "createTime")}
    result = manifest({**young, "state": "JOB_STATE_PENDING"})
    unknown = {key for key, value in result.items() if value is None}
    assert unknown == set(EXPECTED) - {
        "tuning_job_name", "state", "base_model", "create_time", "checkpoints", "labels", "hyper_parameters",
    }  # fmt: skip


def test_every_key_is_always_there() -> None:
    assert list(manifest({})) == list(Manifest.__annotations__)
    assert set(manifest({})) == set(EXPECTED)
    assert list(manifest({})) == list(manifest(SUCCEEDED)), "in the same order"


@pytest.mark.parametrize(
    "source",
    [
        {"baseModel": "g"},
        {"preTunedModel": {"tunedModelName": f"{P}/models/1@1", "baseModel": "g"}},
        {"customBaseModel": "g"},
    ],
)
def test_the_base_model_may_be_told_elsewhere(source: dict[str, Any]) -> None:
    assert manifest(source)["base_model"] == "g"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"preferenceOptimizationSpec": {"hyperParameters": {"beta": 0.1}}}, {"beta": 0.1}),
        (
            {
                "reinforcementTuningSpec": {
                    "hyperParameters": {"samplesPerPrompt": "4", "thinkingLevel": "LOW"}
                }
            },
            {"samples_per_prompt": 4, "thinking_level": "LOW"},
        ),
        ({"someFutureSpec": {"hyperParameters": {"stepCount": "7"}}}, {"step_count": 7}),
        ({"someSpec": {}, "otherSpec": {"hyperParameters": {"epochCount": "2"}}}, {"epoch_count": 2}),
        (
            {"partnerModelTuningSpec": {"hyperParameters": {"learning_rate": "1e-5"}}},
            {"learning_rate": "1e-5"},
        ),
        ({"supervisedTuningSpec": {"hyperParameters": [1]}}, {}),
        ({"supervisedTuningSpec": "x"}, {}),
        ({"encryptionSpec": {"hyperParameters": {"x": 1}}}, {}),
        ({}, {}),
    ],
)
def test_hyperparameters_of_every_kind_of_tuning(spec: dict[str, Any], expected: dict[str, Any]) -> None:
    assert manifest(spec)["hyper_parameters"] == expected


@pytest.mark.parametrize("odd", [None, "x", 7, ["x"], {"x": 1}, True])
def test_odd_fields_are_unknown(odd: Any) -> None:
    job = {
        "name": ["x"],
        "state": 7,
        "tunedModel": odd,
        "tuningDataStats": odd,
        "labels": odd,
        "preTunedModel": odd,
        "baseModel": {},
    }
    assert manifest(job) == manifest({})
    assert (
        manifest({"tunedModel": {"model": odd if odd != "x" else 1, "checkpoints": [odd, odd]}})[
            "tuned_model"
        ]
        is None
    )


def test_a_job_that_ended_before_it_ran_was_pending_all_the_time() -> None:
    job = {"createTime": "2024-11-03T21:00:00Z", "endTime": "2024-11-03T21:01:00Z"}
    result = manifest(job)
    assert (result["pending_seconds"], result["running_seconds"]) == (60.0, None)


@pytest.mark.parametrize(
    ("stats", "expected"),
    [
        ({"supervisedTuningDataStats": {"tuningStepCount": "1"}}, {"tuningStepCount": "1"}),
        ({"preferenceOptimizationDataStats": {"tuningStepCount": "1"}}, {"tuningStepCount": "1"}),
        ({"reinforcementTuningDataStats": {"tuningStepCount": "1"}}, {"tuningStepCount": "1"}),
        ({"distillationDataStats": {"trainingDatasetStats": {"tuningStepCount": "1"}}}, {"tuningStepCount": "1"}),
        ({"supervisedTuningDataStats": None}, {}),
        ({}, {}),
        (None, {}),
        ([], {}),
        ("x", {}),
    ],
)  # fmt: skip
def test_statistics_of_every_kind_of_tuning(stats: Any, expected: dict[str, Any]) -> None:
    assert data_stats({"tuningDataStats": stats}) == expected


@pytest.mark.parametrize(
    ("stats", "truncated", "dropped"),
    [
        ({"tuningDatasetExampleCount": "1"}, 0, 0),
        ({"droppedExampleIndices": ["1", "5"]}, 0, 2),
        ({"droppedExampleIndices": 5, "droppedExampleReasons": "x"}, 0, 0),
        ({"totalTruncatedExampleCount": "many"}, 0, 0),
        ({}, None, None),
    ],
)
def test_counts(stats: dict[str, Any], truncated: int | None, dropped: int | None) -> None:
    result = manifest({"tuningDataStats": {"supervisedTuningDataStats": stats}})
    assert (result["truncated_example_count"], result["dropped_example_count"]) == (truncated, dropped)


_ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(st.data())
def test_one_odd_value_anywhere_leaves_a_manifest(data: st.DataObject) -> None:
    job = copy.deepcopy(SUCCEEDED)
    place: Any = job
    while True:
        key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else list(range(len(place)))))
        inner = place[key]
        if not isinstance(inner, (dict, list)) or not inner or data.draw(st.booleans()):
            break
        place = inner
    place[key] = data.draw(_ODD)
    assert set(manifest(job)) == set(EXPECTED)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("2024-11-03T21:08:07Z", 1730668087.0),
        ("2024-11-03T21:08:07.5Z", 1730668087.5),
        ("2024-11-03T21:08:07.734198Z", 1730668087.734198),
        ("2024-11-03T21:08:07.734198123Z", 1730668087.734198123),
        ("2024-11-03t21:08:07z", 1730668087.0),
        ("2024-11-03T23:38:07+02:30", 1730668087.0),
        ("2024-11-03T18:38:07-02:30", 1730668087.0),
        ("2024-11-03T21:08:07+00:00", 1730668087.0),
        ("2024-02-29T00:00:00Z", 1709164800.0),
        ("1969-12-31T23:59:59.5Z", -0.5),
        ("0001-01-01T00:00:00Z", -62135596800.0),
        ("9999-12-31T23:59:59Z", 253402300799.0),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    "value",
    [
        None, "", " ", 0, 1730668087, 1.5, True, b"2024-11-03T21:08:07Z", [], {},
        # what lenient parsers take for a time: of today, of that year, of that week
        "21:08", "21:08:07Z", "2024", "2024-11", "2024-11-03", "20241103T210807Z", "2024-W44-7", "2024-308", "P1D",
        "2024-11-03T21:08:07", "2024-11-03T21:08Z", "2024-11-03T21:08:07.Z", "2024-11-03T21:08:07,5Z",
        "2024-11-03T21:08:07.1234567890Z", "2024-11-03T21:08:07+0200", "2024-11-03T21:08:07+24:00",
        "2024-11-03T21:08:07Z\n", " 2024-11-03T21:08:07Z", "٢٠٢٤-11-03T21:08:07Z", "2024-11-03T21:08:07+02:60",
        # no such day or time
        "2023-02-29T00:00:00Z", "2024-13-01T00:00:00Z", "2024-11-31T00:00:00Z", "2024-11-03T24:00:00Z",
        "2024-11-03T21:60:00Z", "2024-11-03T21:08:60Z", "0000-01-01T00:00:00Z", "12024-11-03T21:08:07Z",
    ],
)  # fmt: skip
def test_what_is_no_time(value: Any) -> None:
    assert parse_time(value) is None


@given(
    st.text() | st.from_regex(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d\d:\d\d)", fullmatch=True)
)
def test_any_text_is_a_finite_time_or_none(text: str) -> None:
    seconds = parse_time(text)
    assert seconds is None or math.isfinite(seconds)


@given(st.datetimes(timezones=st.timezones()))
def test_times_agree_with_the_standard_library(moment: Any) -> None:
    text = moment.isoformat()
    if (
        len(text.partition("+")[2] or text.rpartition("-")[2]) == 5
    ):  # offsets of whole minutes, as RFC 3339 has them
        assert parse_time(text) == pytest.approx(moment.timestamp(), abs=1e-5)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "unknown time"),
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (10, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (125, "2 min 5 s"),
        (3599.9, "1 h"),
        (47 * 3600 + 60, "47 h 1 min"),
        (7 * 24 * 3600, "7 days"),
        (7 * 24 * 3600 + 3600, "7 days 1 h"),
    ],
)
def test_durations_in_words(seconds: float | None, words: str) -> None:
    assert in_words(seconds) == words
