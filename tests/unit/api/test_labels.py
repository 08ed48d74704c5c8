"""Labels: what the API accepts, and how ours are added."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.labels import check_labels, with_labels

SFT = {
    "baseModel": "gemini-3.5-flash",
    "supervisedTuningSpec": {"trainingDatasetUri": "gs://bucket/train.jsonl"},
}


def refusal(call: Callable[[], object]) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        call()
    return caught.value


class TestLabels:
    @pytest.mark.parametrize(
        "labels",
        [{}, {"a": ""}, {"a-b_1": "x"}, {"x" * 64: "y" * 64}, {"équipe": "データ"}, {"задача": "день"}, {"1": "-"}],
    )  # fmt: skip
    def test_labels(self, labels: dict[str, str]) -> None:
        assert check_labels(labels, "labels") == labels

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
        assert refusal(lambda: check_labels(labels, "labels")).field == field

    def test_ours_are_added_and_win(self) -> None:
        job = {**SFT, "labels": {"team": "a", "ours": "theirs"}}
        assert with_labels(job, {"ours": "x"})["labels"] == {"team": "a", "ours": "x"}
        assert job["labels"] == {"team": "a", "ours": "theirs"}
        assert with_labels(SFT, {"ours": "x"}) == {**SFT, "labels": {"ours": "x"}}

    def test_the_error_says_how_many_labels_are_left_to_the_user(self) -> None:
        job = {**SFT, "labels": {f"l{n}": "" for n in range(60)}}
        error = refusal(lambda: with_labels(job, {f"ours{n}": "" for n in range(5)}))
        assert str(error) == "labels=60 is not valid: give at most 59 labels: this provider adds 5"
