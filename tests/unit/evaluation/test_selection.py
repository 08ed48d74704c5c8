"""The best of a sweep."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.evaluation.selection import select


def evaluation(
    name: str, value: float, *, half: float = 0.02, epochs: int = 4, passed: bool | None = None, sha: str = "x",
    adapter: str = "ADAPTER_SIZE_FOUR",
) -> dict[str, Any]:  # fmt: skip
    metrics = {"candidate": value, "candidate_low": value - half, "candidate_high": value + half}
    hyper = {"epoch_count": epochs, "adapter_size": adapter}
    return {
        "candidate": name,
        "decided_by": "macro_f1",
        "verdict": "better",
        "passed": passed,
        "metrics": {"macro_f1": metrics},
        "dataset": {"sha256": sha},
        "manifest": {
            "tuning_job_name": f"job-{name}",
            "billable_token_count": 1000,
            "hyper_parameters": hyper,
        },
    }


def test_the_best_one_wins_and_the_table_shows_all() -> None:
    found = select([evaluation("a", 0.7), evaluation("b", 0.9, epochs=9), evaluation("c", 0.8)])
    assert found.winner["candidate"] == "b"
    assert [row["candidate"] for row in found.table] == ["b", "c", "a"]
    assert found.table[0] == {
        "candidate": "b",
        "tuning_job_name": "job-b",
        "epoch_count": 9,
        "adapter_size": "ADAPTER_SIZE_FOUR",
        "metric": "macro_f1",
        "value": 0.9,
        "low": 0.88,
        "high": 0.92,
        "verdict": "better",
        "passed": None,
        "billable_tokens": 9000,
        "selected": True,
    }
    assert [row["selected"] for row in found.table] == [True, False, False]


def test_of_equals_the_cheapest() -> None:
    some = [
        evaluation("dear", 0.9, epochs=9),
        evaluation("cheap", 0.89, epochs=2),
        evaluation("bad", 0.8, epochs=1),
    ]
    assert select(some).winner["candidate"] == "cheap"
    assert "2 candidates are equal" in select(some).reason
    assert select(some, tie="best").winner["candidate"] == "dear"
    small = [
        evaluation("big", 0.9, adapter="ADAPTER_SIZE_SIXTEEN"),
        evaluation("small", 0.9, adapter="ADAPTER_SIZE_ONE"),
    ]
    assert select(small).winner["candidate"] == "small"


def test_less_can_be_better() -> None:
    some = [evaluation("a", 5, half=0.1), evaluation("b", 3, half=0.1)]
    assert select(some, greater_is_better=False).winner["candidate"] == "b"


def test_what_failed_is_left_out_and_named() -> None:
    found = select(
        [None, evaluation("a", 0.7, passed=True), evaluation("b", 0.9, passed=False)], must_pass=True
    )
    assert found.winner["candidate"] == "a"
    assert found.left_out == ["candidate 0: it has no evaluation.", "b: it did not pass its gate."]


@pytest.mark.parametrize(
    ("some", "options"),
    [
        ([], {}),
        ([None], {}),
        ([evaluation("a", 1, passed=False)], {"must_pass": True}),
        ([evaluation("a", 1), evaluation("b", 1, sha="y")], {}),
        ([evaluation("a", 1)], {"tie": "first"}),
        ([evaluation("a", 1)], {"metric": "accuracy"}),
    ],
)
def test_what_cannot_be_selected_from(some: list[Any], options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        select(some, **options)
