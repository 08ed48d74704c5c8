"""Input that may come from a template as text, and the error for input that is refused."""

from __future__ import annotations

import copy
import math
import pickle
from decimal import Decimal
from typing import Any

import pytest

from airflow_tuning_provider.api.inputs import (
    MAX_SECONDS,
    InvalidInputError,
    as_int,
    boolean,
    number,
    shorten,
)


class _Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(60, 60.0), (0.5, 0.5), ("60", 60.0), (" 1.5 ", 1.5), ("1e3", 1000.0), (Decimal("2.5"), 2.5)],
)
def test_numbers_may_be_text(value: Any, expected: float) -> None:
    assert number(value, "timeout") == expected


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        "0",
        "",
        "soon",
        None,
        True,
        False,
        math.nan,
        math.inf,
        "nan",
        "inf",
        10**400,
        [60],
        {},
        object(),
    ],
)
def test_what_is_no_number_above_zero_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"timeout=.* give a number of seconds above 0"):
        number(value, "timeout")


def test_the_minimum_is_the_callers() -> None:
    assert number("5.1", "x", minimum=5) == 5.1
    with pytest.raises(InvalidInputError, match=r"above 5"):
        number(5, "x", minimum=5)


@pytest.mark.parametrize("value", [True, "true", "True", " TRUE ", "1", "yes", "on", 1])
def test_truth(value: Any) -> None:
    assert boolean(value, "force_new") is True


@pytest.mark.parametrize("value", [False, "false", "False", "0", "no", "off", "None", "", 0, None])
def test_untruth(value: Any) -> None:
    assert boolean(value, "force_new") is False


@pytest.mark.parametrize("value", ["maybe", 2, -1, 1.5, math.nan, [], {}, b"true", object()])
def test_what_is_neither_true_nor_false_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"force_new=.* give true or false"):
        boolean(value, "force_new")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, 3),
        (-3, -3),
        ("3", 3),
        (" 3\n", 3),
        ("+3", 3),
        (3.0, 3),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
    ],
)
def test_whole_numbers(value: Any, expected: int) -> None:
    assert as_int(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 3.5, math.nan, math.inf, -math.inf, 1e300, "", "3.0", "3e2", "1_0", "٣", "0x3", "three",
        2**63, "9223372036854775808", "9" * 5000, 10**5000, b"3", [3], {"3": 3}, object(),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_is_no_whole_number_is_none(value: Any) -> None:
    assert as_int(value) is None


def test_shorten_says_where_it_cut() -> None:
    assert shorten("x" * 200) == "x" * 200
    assert shorten("x" * 201) == "x" * 199 + "…"
    assert shorten("") == ""


def test_the_error_names_field_value_and_what_is_allowed() -> None:
    error = InvalidInputError("location", "Mars", "give a location such as 'us-central1'")
    assert str(error) == "location='Mars' is not valid: give a location such as 'us-central1'"
    assert (error.field, error.value, error.expected) == (
        "location",
        "Mars",
        "give a location such as 'us-central1'",
    )


@pytest.mark.parametrize(
    "value", [_Unprintable(), 10**5000, ["x" * 10**6]], ids=lambda value: type(value).__name__
)
def test_the_error_can_be_made_of_any_value(value: Any) -> None:
    text = str(InvalidInputError("x", value, "give something else"))
    assert text.startswith("x=")
    assert len(text) < 300


def test_an_endless_value_is_shown() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert "[[...]]" in str(InvalidInputError("x", endless, "…"))


def test_the_error_survives_copies_and_pickles() -> None:
    error = InvalidInputError("location", "Mars", "give a location")
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (str(twin), twin.field, twin.value, twin.expected) == (
            str(error),
            "location",
            "Mars",
            "give a location",
        )


@pytest.mark.parametrize("value", [MAX_SECONDS + 1, 1e12, "1e15"])
def test_no_duration_is_longer_than_a_year(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"x=.* at most 31536000"):
        number(value, "x")
    assert number(MAX_SECONDS, "x") == MAX_SECONDS
    assert number(2e9, "x", maximum=3e9) == 2e9
