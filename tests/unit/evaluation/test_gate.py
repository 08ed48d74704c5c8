"""What a gate asks, with MLflow's fields."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.evaluation.gate import Gate, validation_loss_rise

EVALUATION: dict[str, Any] = {
    "verdict": "undecided",
    "metrics": {
        "accuracy": {"candidate": 0.85, "baseline": 0.8, "difference": 0.05, "low": -0.01, "high": 0.11},
        "errors": {"candidate": 3.0, "baseline": 4.0, "difference": -1.0, "low": -2.0, "high": 0.5},
        "zero": {"candidate": 0.1, "baseline": 0.0, "difference": 0.1, "low": 0.1, "high": 0.1},
    },
    "classes": {
        "billing": {"support": 9, "recall": {"candidate": 0.6, "baseline": 0.7, "low": -0.3, "high": 0.1}}
    },
    "manifest": {"example_count": 200, "dropped_example_count": 3, "truncated_example_count": 0},
    "validation_loss_rise": 0.2,
}


@pytest.mark.parametrize(
    ("gate", "passes"),
    [
        ({"accuracy": 0.85}, True),
        ({"accuracy": 0.851}, False),
        ({"accuracy": {"threshold": 0.8}}, True),
        # 0.85 - 0.8 is 0.04999999999999993.
        ({"accuracy": {"min_absolute_change": 0.05}}, True),
        ({"accuracy": {"min_absolute_change": 0.06}}, False),
        ({"accuracy": {"min_relative_change": 0.06}}, True),
        ({"accuracy": {"min_relative_change": "0.07"}}, False),
        ({"accuracy": {"min_interval_low": -0.02}}, True),
        ({"accuracy": {"min_interval_low": 0}}, False),
        ({"accuracy": {"min_absolute_change": -0.1}}, True),
        ({"zero": {"min_relative_change": 0.5}}, True),
        ({"errors": {"threshold": 3, "greater_is_better": False}}, True),
        ({"errors": {"threshold": 2.9, "greater_is_better": False}}, False),
        (
            {"errors": {"min_absolute_change": 1, "min_relative_change": 0.25, "greater_is_better": False}},
            True,
        ),
        ({"errors": {"min_absolute_change": 1.1, "greater_is_better": False}}, False),
        ({"errors": {"min_interval_low": -0.5, "greater_is_better": False}}, True),
        ({"errors": {"min_interval_low": -0.4, "greater_is_better": False}}, False),
        ({"recall:billing": {"min_absolute_change": -0.05}}, False),
        ({"recall:billing": 0.6}, True),
        ({"verdict": "not_worse"}, True),
        ({"verdict": "better"}, False),
        ({"max_dropped_share": 0.02, "max_truncated_share": 0}, True),
        ({"max_dropped_share": 0.01}, False),
        ({"max_validation_loss_rise": 0.2}, True),
        ({"max_validation_loss_rise": 0.1}, False),
    ],
)
def test_what_passes(gate: dict[str, Any], passes: bool) -> None:
    failures = Gate.parse(gate).check(EVALUATION)
    assert (not failures) is passes, failures


def test_each_failure_is_a_sentence_with_its_figures() -> None:
    gate = Gate.parse({"accuracy": {"threshold": 0.9, "min_absolute_change": 0.1}, "verdict": "better"})
    assert gate.check(EVALUATION) == [
        "accuracy 0.85 is below the threshold 0.9.",
        "accuracy improves by +0.05, 0.1 is asked.",
        "The verdict is undecided, better is asked.",
    ]


def test_what_is_not_known_does_not_pass() -> None:
    unknown = {**EVALUATION, "manifest": None, "validation_loss_rise": None}
    for check in ("max_dropped_share", "max_truncated_share", "max_validation_loss_rise"):
        (failure,) = Gate.parse({check: 1}).check(unknown)
        assert "not known" in failure


@pytest.mark.parametrize(
    ("gate", "field"),
    [
        ({}, "gate"),
        ([], "gate"),
        ({"accuracy": {}}, "gate.accuracy"),
        ({"accuracy": {"treshold": 1}}, "gate.accuracy.treshold"),
        ({"accuracy": {"threshold": "x"}}, "gate.accuracy.threshold"),
        ({"accuracy": {"threshold": True}}, "gate.accuracy.threshold"),
        ({"accuracy": {"threshold": 1, "greater_is_better": "yes"}}, "gate.accuracy.greater_is_better"),
        ({"accuracy": {"greater_is_better": True}}, "gate.accuracy"),
        ({"verdict": "best"}, "gate.verdict"),
        ({"max_dropped_share": None}, "gate.max_dropped_share"),
    ],
)
def test_what_is_no_gate(gate: Any, field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Gate.parse(gate)
    assert caught.value.field == field


@pytest.mark.parametrize("name", ["recal:billing", "recall:zzz", "f1:billing", "accurcy"])
def test_a_metric_that_was_not_measured_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="was not measured"):
        Gate.parse({name: 1}).check(EVALUATION)


def test_the_validation_loss_that_rises() -> None:
    assert validation_loss_rise({"/eval_total_loss": [[1, 2.0], [2, 1.0], [3, 1.5]]}) == pytest.approx(0.5)
    assert validation_loss_rise({"eval_total_loss": [[1, 2.0], [2, 1.0]]}) == 0
    assert validation_loss_rise({"train_total_loss": [[1, 2.0]]}) is None
    assert validation_loss_rise(None) is None
