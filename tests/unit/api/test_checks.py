"""Checks of single parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_tuning_provider.api import checks
from airflow_tuning_provider.api.inputs import InvalidInputError

P = "projects/acme-ml/locations/us-central1"
DATA = "gs://bucket/train.jsonl"


def refusal(call: Callable[[], object]) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        call()
    return caught.value


class TestDatasets:
    @pytest.mark.parametrize(
        "uri",
        [DATA, "gs://b_1.x-y/a b/ü.jsonl", "gs://abc/o?x#y%20", f"{P}/datasets/12", "gs://bucket/dir/*"],
    )
    def test_uris(self, uri: str) -> None:
        assert checks.dataset_uri(uri, "x") == uri

    @pytest.mark.parametrize(
        "uri",
        ["gs://", "gs://bucket", "gs://bucket/", "gs:///o", "gs://Bucket/o", "GS://bucket/o", "gs://b/o", " gs://bucket/o",
         "gs://bucket/o\n", "gs://bucket/o\x00", "https://storage.googleapis.com/b/o", "s3://b/o", "/tmp/o", "",
         f"{P}/datasets/", f"{P}/models/1", "projects/p", None, 7, b"gs://bucket/o", ["gs://bucket/o"]],
    )  # fmt: skip
    def test_other_uris(self, uri: Any) -> None:
        refusal(lambda: checks.dataset_uri(uri, "x"))


@pytest.mark.parametrize("value", [3, "3", " 3 ", 3.0])
def test_whole_numbers(value: Any) -> None:
    number = checks.positive_integer(value, "x")
    assert (number, type(number)) == (3, int)


@pytest.mark.parametrize(
    "value", [0, -1, 3.5, "3.5", "three", "", True, False, 2**63, "9" * 5000, [3], {}, None]
)
def test_what_is_no_number_of_epochs(value: Any) -> None:
    assert "1 or more" in str(refusal(lambda: checks.positive_integer(value, "x")))


@pytest.mark.parametrize("value", [1, 1.0, "1", "1.0", " 1e0 "])
def test_one_number_in_any_spelling(value: Any) -> None:
    assert checks.positive_number(value, "x") == 1


@pytest.mark.parametrize("value", [0, -0.1, "nan", "inf", "", "x", True, "9" * 400, 10**400, [1], {}, None])
def test_what_is_no_learning_rate(value: Any) -> None:
    assert "above 0" in str(refusal(lambda: checks.positive_number(value, "x")))
