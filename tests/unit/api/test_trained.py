"""What of a body decides what is trained, and how it compares with a job."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_tuning_provider.api.identity import fingerprint
from airflow_tuning_provider.api.parameters import build
from airflow_tuning_provider.api.trained import differences, trained
from airflow_tuning_provider.api.tuning_job import checked

P = "projects/acme-ml/locations/us-central1"
DATA = "gs://bucket/train.jsonl"
BODY = build(
    {
        "base_model": "gemini-3.5-flash",
        "training_dataset_uri": DATA,
        "epoch_count": 3,
        "learning_rate_multiplier": 1,
        "adapter_size": 4,
        "export_last_checkpoint_only": False,
    }
)
# As the service gives it back: int64 as text, false left out, the rest filled in.
JOB: dict[str, Any] = {
    "name": "projects/646700000001/locations/us-central1/tuningJobs/7",
    "baseModel": "gemini-3.5-flash",
    "tunedModelDisplayName": "gemini-3.5-flash-0b7c",
    "supervisedTuningSpec": {
        "trainingDatasetUri": DATA,
        "validationDatasetUri": "gs://bucket/split.jsonl",
        "hyperParameters": {
            "epochCount": "3",
            "learningRateMultiplier": 1,
            "adapterSize": "ADAPTER_SIZE_FOUR",
            "batchSize": "16",
        },
    },
    "state": "JOB_STATE_RUNNING",
    "labels": {"airflow-job-key": "k"},
}


def changed(value: Any, *path: str, root: dict[str, Any] = JOB) -> dict[str, Any]:
    """Return a copy of a job with one field changed, or without it if ``value`` is ``...``."""
    head, *rest = path
    if rest:
        return {**root, head: changed(value, *rest, root=root.get(head, {}))}
    copy = {**root, head: value}
    if value is ...:
        del copy[head]
    return copy


def test_what_does_not_change_the_model_is_left_out() -> None:
    cosmetic = {
        "labels": {"a": "b"},
        "description": "x",
        "tunedModelDisplayName": "y",
        "tuned_model_display_name": "z",
    }
    assert trained({**BODY, **cosmetic}) == trained(BODY)
    rebase = {"tunedModelRef": {"tunedModel": f"{P}/models/1"}}
    assert trained({**rebase, "tuningJob": {**BODY, **cosmetic}}) == {**rebase, "tuningJob": trained(BODY)}
    assert "labels" in trained({"x": {"labels": {}}})["x"], "only those of the job itself"


@pytest.mark.parametrize("spelling", [3, 3.0, "3", "3.0", "30e-1"])
def test_a_number_in_any_spelling_is_the_same_input(spelling: Any) -> None:
    body = {"supervisedTuningSpec": {"hyperParameters": {"epochCount": spelling}}}
    snake = {"supervised_tuning_spec": {"hyper_parameters": {"epoch_count": spelling}}}
    expected = {"supervisedTuningSpec": {"hyperParameters": {"epochCount": 3}}}
    assert trained(body) == trained(snake) == expected
    assert fingerprint(trained(body)) == fingerprint(expected)


@pytest.mark.parametrize("text", ["003", "1e999", "-", "0x10", " 3", "3 ", "", "1_000", "٣", "true", "1.5.1"])
def test_other_text_stays(text: str) -> None:
    assert trained({"x": text}) == {"x": text}


def test_whole_numbers_are_exact() -> None:
    assert trained({"x": "9007199254740993", "y": "-1"}) == {"x": 9007199254740993, "y": -1}


def test_a_job_that_trains_what_is_asked_for() -> None:
    assert differences(BODY, JOB) == []
    assert differences({"description": "other", "labels": {"a": "b"}, **BODY}, JOB) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("baseModel",), "gemini-3.1-flash-lite"),
        (("baseModel",), ...),
        (("baseModel",), ["gemini-3.5-flash"]),
        (("supervisedTuningSpec", "trainingDatasetUri"), "gs://bucket/other.jsonl"),
        (("supervisedTuningSpec", "hyperParameters", "epochCount"), "4"),
        (("supervisedTuningSpec", "hyperParameters", "epochCount"), ...),
        (("supervisedTuningSpec", "hyperParameters", "epochCount"), True),
        (("supervisedTuningSpec", "hyperParameters", "learningRateMultiplier"), 1.5),
        (("supervisedTuningSpec", "hyperParameters", "adapterSize"), "ADAPTER_SIZE_EIGHT"),
        (("supervisedTuningSpec", "exportLastCheckpointOnly"), True),
    ],
)
def test_a_field_with_another_value_is_named(path: tuple[str, ...], value: Any) -> None:
    assert differences(BODY, changed(value, *path)) == [".".join(path)]


def test_several_are_named() -> None:
    assert differences(BODY, {}) == [
        "baseModel",
        "supervisedTuningSpec.trainingDatasetUri",
        "supervisedTuningSpec.hyperParameters.epochCount",
        "supervisedTuningSpec.hyperParameters.learningRateMultiplier",
        "supervisedTuningSpec.hyperParameters.adapterSize",
    ]
    assert differences({"preferenceOptimizationSpec": {"trainingDatasetUri": DATA}}, JOB) == [
        "preferenceOptimizationSpec.trainingDatasetUri"
    ]


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [
        ([1, "2"], ["1", 2], []),
        ([1, 2], [1, 3], ["x[1]"]),
        ([1], [1, 2], ["x"]),
        ([{"a_b": 1}], [{"aB": "1"}], []),
        ([{"a": {"b": 1}}], [{"a": {"b": 2}}], ["x[0].a.b"]),
        ({"a": 1}, [1], ["x"]),
        ({"a": 1}, "a", ["x"]),
        ({}, ..., []),
        ([], ..., []),
        ("", ..., []),
        (0, ..., []),
        (False, ..., []),
        ("TUNING_MODE_UNSPECIFIED", ..., []),
        ("TUNING_MODE_FULL", ..., ["x"]),
        (True, 1, ["x"]),
        (0, False, ["x"]),
        # a project's number stands for whatever it was called; two names are two projects
        (f"{P}/models/1@2", "projects/646/locations/us-central1/models/1@2", []),
        (f"{P}/models/1@2", "projects/646/locations/us-central1/models/1@3", ["x"]),
        (f"{P}/models/1", "projects/other/locations/us-central1/models/1", ["x"]),
        ("projects/1/locations/l/models/1", "projects/2/locations/l/models/1", ["x"]),
    ],
)
def test_values(wanted: Any, found: Any, expected: list[str]) -> None:
    assert differences({"x": wanted}, {} if found is ... else {"x": found}) == expected


def test_the_users_own_keys_keep_their_spelling() -> None:
    body = {"partnerModelTuningSpec": {"hyperParameters": {"learning_rate": 1}}}
    other = {"partnerModelTuningSpec": {"hyperParameters": {"learningRate": 1}}}
    assert differences(body, body) == []
    assert differences(body, other) == ["partnerModelTuningSpec.hyperParameters.learning_rate"]
    assert trained(body) == body


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["x", "a_b", "labels", "hyperParameters", "someSpec"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(st.sampled_from(["x", "base_model", "supervised_tuning_spec"]), _JSON, max_size=3), _JSON
)
def test_no_job_differs_from_its_own_body_and_none_breaks_the_comparison(
    body: dict[str, Any], other: Any
) -> None:
    assert differences(body, body) == []
    assert trained(trained(body)) == trained(body)
    assert isinstance(differences(body, {"x": other, "supervisedTuningSpec": other}), list)


def test_a_whole_body_is_compared_as_it_is_sent() -> None:
    body = checked(
        {
            "base_model": "gemini-3.5-flash",
            "supervised_tuning_spec": {"hyper_parameters": {"adapter_size": 4}},
        }
    )
    assert differences(body, JOB) == []
