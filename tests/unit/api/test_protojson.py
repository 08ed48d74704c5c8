"""Proto JSON: either spelling of a field, and nothing that JSON cannot say."""

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

from airflow_tuning_provider.api.identity import fingerprint
from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.protojson import normalize

DATA = "gs://bucket/train.jsonl"


def refusal(call: Callable[[], object]) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        call()
    return caught.value


def test_snake_case_is_camel_case() -> None:
    snake = {
        "base_model": "g",
        "supervised_tuning_spec": {
            "training_dataset_uri": DATA,
            "hyper_parameters": {"adapter_size": 16, "epoch_count": None},
        },
        "encryption_spec": None,
    }
    assert normalize(snake, "body") == {
        "baseModel": "g",
        "supervisedTuningSpec": {
            "trainingDatasetUri": DATA,
            "hyperParameters": {"adapterSize": 16},
        },
    }


def test_the_input_is_left_alone() -> None:
    body = {"base_model": "g", "supervised_tuning_spec": {"hyper_parameters": {"adapter_size": 4}}}
    before = json.dumps(body)
    result = normalize(MappingProxyType(body), "body")
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
def test_the_users_own_keys_keep_their_spelling(body: dict[str, Any]) -> None:
    assert normalize(body, "body") == body


def test_nulls_are_unset_and_tuples_are_lists() -> None:
    assert normalize({"a": None, "b": {"c": None}, "d": (1, {"e": None})}, "body") == {
        "b": {},
        "d": [1, {}],
    }


def test_one_field_in_both_spellings() -> None:
    error = refusal(lambda: normalize({"base_model": "a", "baseModel": "b"}, "body"))
    assert "given twice, as baseModel" in str(error)
    assert normalize({"base_model": None, "baseModel": "b"}, "body") == {"baseModel": "b"}


@pytest.mark.parametrize("key", ["_private", "_", "", "__x"])
def test_odd_keys_pass(key: str) -> None:
    assert normalize({key: 1, "a": 1}, "body") == {key: 1, "a": 1}


@pytest.mark.parametrize("body", [None, [], "{}", 7, [("baseModel", "g")]])
def test_what_is_no_body(body: Any) -> None:
    assert "JSON object" in str(refusal(lambda: normalize(body, "body")))


@pytest.mark.parametrize(
    "value", [b"x", {1}, object(), datetime(2024, 1, 1), math.inf, math.nan, 2**64, -(2**63) - 1, 1j]
)
@pytest.mark.parametrize("where", ["x", "labels"])
def test_what_is_no_json_is_named_with_its_path(value: Any, where: str) -> None:
    error = refusal(lambda: normalize({where: {"a": [0, {"b": value}]}}, "body"))
    assert error.field == f"body.{where}.a[1].b"


@pytest.mark.parametrize("where", ["x", "labels"])
def test_keys_must_be_strings(where: str) -> None:
    assert "keys must be strings" in str(refusal(lambda: normalize({where: {7: "x"}}, "body")))


@pytest.mark.parametrize("where", ["x", "labels"])
def test_an_endless_body(where: str) -> None:
    endless: dict[str, Any] = {}
    endless[where] = endless
    assert "contains itself" in str(refusal(lambda: normalize(endless, "body")))


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
    normal = normalize(body, "body")
    assert normalize(normal, "body") == normal if normal else True
    assert normalize(camel(body), "body") == normal
    assert fingerprint(normalize(backwards(body), "body")) == fingerprint(normal)
    assert fingerprint(normalize(camel(body), "body")) == fingerprint(normal)
    assert json.loads(json.dumps(normal)) == normal


@given(_BODIES, _BODIES)
def test_other_input_has_another_fingerprint(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = normalize(one, "body"), normalize(other, "body")
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (fingerprint(first) == fingerprint(second)) is same
