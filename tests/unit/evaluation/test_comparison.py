"""From answers to a verdict."""

from __future__ import annotations

import random
from typing import Any

import pytest

from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.evaluation.comparison import Comparison, Result, label_statistics
from airflow_tuning_provider.evaluation.metrics import Metric, one_of, resolve

LABELS = ["a", "b", "c"]


def compare(rows: list[tuple[str, str, str]], metrics: Any = "accuracy", **options: Any) -> Result:
    decide_by = options.pop("decide_by", None)
    comparison = Comparison(resolve(metrics), **options)
    for row in rows:
        comparison.add(*row)
    return comparison.result(decide_by)


def rows(both: int = 0, gained: int = 0, lost: int = 0, neither: int = 0) -> list[tuple[str, str, str]]:
    return (
        [("a", "a", "a")] * both
        + [("a", "a", "x")] * gained
        + [("a", "x", "a")] * lost
        + [("a", "x", "x")] * neither
    )


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        ((50, 12, 2), "better"),
        ((50, 2, 12), "worse"),
        ((50, 7, 5), "undecided"),
        ((50, 0, 0), "undecided"),
        # Five against none is not enough, as twice 0.5 ** 5 is above 0.05; six are.
        ((50, 5, 0), "undecided"),
        ((50, 6, 0), "better"),
    ],
)
def test_right_and_wrong_are_decided_by_mcnemar(counts: tuple[int, int, int], verdict: str) -> None:
    found = compare(rows(*counts))
    assert found.verdict == verdict
    assert found.flips == {"accuracy": counts[1:]}
    assert found.metrics["accuracy"].test == "McNemar, exact"
    assert verdict in found.sentence() or counts[1] == counts[2]


def test_the_number_that_would_be_needed() -> None:
    found = compare(rows(80, 12, 8))
    assert found.verdict == "undecided"
    assert found.needed is not None
    assert found.needed > 300
    assert f"About {found.needed:,} examples" in found.sentence()
    assert compare(rows(80)).needed is None
    assert compare(rows(80, 20)).needed is None


def distance(answer: str, reference: str) -> float:
    return float(abs(len(answer) - len(reference)))


def test_a_score_of_which_less_is_better() -> None:
    metric = Metric("distance", distance, greater_is_better=False)
    found = compare([("xxx", "x" * (3 + i % 2), "x" * (6 + i % 3)) for i in range(60)], [metric])
    assert found.metrics["distance"].difference < 0
    assert (found.verdict, found.metrics["distance"].test) == ("better", "paired bootstrap")


def test_the_first_metric_decides_unless_another_is_named() -> None:
    some = rows(50, 12, 2)
    assert compare(some, ["token_f1", "accuracy"]).decided_by == "token_f1"
    assert compare(some, ["token_f1", "accuracy"], decide_by="accuracy").decided_by == "accuracy"


def test_classes_beside_a_second_way_to_count() -> None:
    draw = random.Random(2)
    some = [(r, r if draw.random() < 0.8 else draw.choice(LABELS), draw.choice([*LABELS, "zzz"])) for r in
            draw.choices(LABELS, k=400)]  # fmt: skip
    found = compare(some, ["macro_f1", "recall:b"], labels=LABELS)
    sklearn_like = []
    for label in LABELS:
        right = sum(r == a == label for r, a, _ in some)
        expected, said = sum(r == label for r, _, _ in some), sum(a == label for _, a, _ in some)
        sklearn_like.append(2 * right / (expected + said))
        assert found.classes[label]["recall"].candidate == pytest.approx(right / expected)
        assert found.classes[label]["precision"].candidate == pytest.approx(right / said)
        assert found.classes[label]["support"] == expected
    assert found.metrics["macro_f1"].candidate == pytest.approx(sum(sklearn_like) / 3)
    assert found.metrics["recall:b"] == found.classes["b"]["recall"]
    assert found.value("f1:c") == found.classes["c"]["f1"]
    assert found.value("f1:zzz") is None
    assert found.verdict == "better"
    assert sum(found.outcomes.values()) == 400


def test_a_class_that_no_example_has_does_not_count() -> None:
    found = label_statistics({("a", "a", "a"): 3, ("b", "c", "b"): 1}, ["a", "b", "c"])
    assert found["f1:c"] == (0, 0)
    assert found["macro_f1"] == (0.5, 1)


def test_a_refusal_is_wrong_whatever_the_parser_says() -> None:
    found = compare([("a", "", "The answer is A.")] * 10, labels=["a", "b"], parse=lambda _: "a")
    assert found.metrics["accuracy"].candidate == 0
    assert found.metrics["accuracy"].baseline == 1
    assert found.classes["a"]["recall"].candidate == 0


def test_answers_are_parsed_on_both_sides() -> None:
    found = compare([("a", "It is A!", "a")] * 3, labels=["a", "b"], parse=one_of(["a", "b"]))
    assert found.metrics["accuracy"].candidate == found.metrics["accuracy"].baseline == 1


@pytest.mark.parametrize(("metric", "labels"), [("macro_f1", []), ("recall:zzz", LABELS)])
def test_a_metric_of_classes_that_there_are_not(metric: str, labels: list[str]) -> None:
    with pytest.raises(InvalidInputError, match=metric):
        Comparison(resolve(metric), labels)


@pytest.mark.parametrize("value", [float("nan"), "1", None, float("inf")])
def test_a_metric_that_gives_no_number(value: Any) -> None:
    comparison = Comparison(resolve({"mine": lambda *_: value}))
    with pytest.raises(InvalidInputError, match="mine"):
        comparison.add("a", "b", "c")
