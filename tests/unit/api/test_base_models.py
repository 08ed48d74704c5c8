"""The table of retirements, and what users put before it."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from airflow_tuning_provider.api.base_models import AS_OF, BASE_MODELS, SOURCE, model_id, table_with
from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.emulator.models import MODELS


def test_the_table_agrees_with_the_emulator_s() -> None:
    """They may not import each other: what both say must be the same."""
    assert set(BASE_MODELS) == set(MODELS)
    for name, model in MODELS.items():
        if model.until is not None:
            assert BASE_MODELS[name].retires == model.until
            assert BASE_MODELS[name].rebase_to == model.rebased_to
        else:
            retires = BASE_MODELS[name].retires
            assert retires is None or retires > AS_OF


def test_a_rebase_ends_on_a_model_that_lives_longer() -> None:
    for row in BASE_MODELS.values():
        target = BASE_MODELS[row.rebase_to]
        assert target.retires is None or target.retires > AS_OF
        if row.retires is not None and row.rebase_to != row.name:
            assert target.retires is None or target.retires > row.retires


def test_days() -> None:
    row = BASE_MODELS["gemini-3.5-flash"]
    assert row.retires is not None
    assert [row.days_left(row.retires + timedelta(days)) for days in (-60, 0, 1)] == [60, 0, -1]
    assert SOURCE.startswith("https://docs.cloud.google.com/")


def test_rows_of_the_user_come_first() -> None:
    table = table_with(
        {
            "gemini-3.5-flash": "2028-01-01",
            "gemini-9": {"retires": date(2030, 1, 2), "rebase_to": "gemini-10"},
            "gemini-8": None,
        }
    )
    assert table["gemini-3.5-flash"].retires == date(2028, 1, 1)
    assert table["gemini-3.5-flash"].rebase_to == BASE_MODELS["gemini-3.5-flash"].rebase_to
    assert (table["gemini-9"].retires, table["gemini-9"].rebase_to) == (date(2030, 1, 2), "gemini-10")
    assert (table["gemini-8"].retires, table["gemini-8"].rebase_to) == (None, "gemini-8")
    assert table["gemini-2.5-pro"] == BASE_MODELS["gemini-2.5-pro"]
    assert table_with(None) == dict(BASE_MODELS)


@pytest.mark.parametrize(
    ("rows", "field"),
    [
        ([], "table"),
        ("x", "table"),
        ({"m": "soon"}, r"table\['m'\]\['retires'\]"),
        ({"m": 5}, r"table\['m'\]\['retires'\]"),
        ({"m": {"retire": "2027-01-01"}}, r"table\['m'\]"),
        ({1: "2027-01-01"}, r"table\[1\]"),
        ({"m": {"retires": None, "rebase_to": "../x"}}, r"table\['m'\]\['rebase_to'\]"),
        ({"m": {"retires": None, "rebase_to": 5}}, r"table\['m'\]\['rebase_to'\]"),
    ],
)
def test_bad_rows_are_located(rows: Any, field: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^{field}="):
        table_with(rows)


def test_the_id_of_a_model() -> None:
    assert model_id("publishers/google/models/gemini-3.5-flash") == "gemini-3.5-flash"
    assert model_id("gemini-3.5-flash@001") == "gemini-3.5-flash"
