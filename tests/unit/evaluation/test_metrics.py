"""Metrics of single answers, and by which names users call them."""

from __future__ import annotations

import random

import pytest

from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.evaluation import metrics
from airflow_tuning_provider.evaluation.metrics import LabelMetric, Metric, resolve


@pytest.mark.parametrize(
    ("answer", "reference", "exact", "normalized", "f1", "rouge"),
    [
        ("Paris", "Paris\n", 1, 1, 1, 1),
        ("paris.", "Paris", 0, 1, 1, 1),
        ("ＰＡＲＩＳ", "paris", 0, 1, 1, 1),
        ("the cat sat", "sat the cat", 0, 0, 1, 2 / 3),
        ("a b c d", "a x c", 0, 0, 4 / 7, 4 / 7),
        ("", "Paris", 0, 0, 0, 0),
    ],
)
def test_matches(
    answer: str, reference: str, exact: float, normalized: float, f1: float, rouge: float
) -> None:
    assert metrics.exact_match(answer, reference) == exact
    assert metrics.normalized_match(answer, reference) == normalized
    assert metrics.token_f1(answer, reference) == pytest.approx(f1)
    assert metrics.rouge_l(answer, reference) == pytest.approx(rouge)


def longest(first: list[str], second: list[str]) -> int:
    """The textbook's dynamic programme."""
    row = [0] * (len(second) + 1)
    for word in first:
        before = row[:]
        for j, other in enumerate(second, 1):
            row[j] = before[j - 1] + 1 if word == other else max(before[j], row[j - 1])
    return row[-1]


def test_the_bit_parallel_subsequence_is_the_textbook_s() -> None:
    draw = random.Random(1)
    for _ in range(500):
        one, other = (draw.choices("abcde", k=draw.randrange(0, 90)) for _ in range(2))
        assert metrics.common_subsequence(one, other) == longest(one, other)


def test_bleu_and_chrf_are_sacrebleu_s() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    answer, reference = "the quick brown fox jumps", "the quick brown dog jumps"
    assert metrics.bleu(answer, reference) == sacrebleu.sentence_bleu(answer, [reference]).score
    assert metrics.chrf(answer, reference) == sacrebleu.sentence_chrf(answer, [reference]).score
    assert metrics.bleu(reference, reference) == pytest.approx(100)


def test_a_class_is_read_off_a_longer_answer() -> None:
    parse = metrics.one_of(["order", "order status", "billing"])
    assert parse("The queue is: Billing.") == "billing"
    assert parse("order status") == "order status"
    assert parse("billing or order") == "billing or order"
    assert parse("orders") == "orders"


def length(answer: str, reference: str) -> float:
    return float(len(answer))


def test_names_callables_and_objects() -> None:
    own = Metric("mine", length, greater_is_better=False)
    found = resolve(["accuracy", "macro_f1", "recall:a b", length, own])
    assert [metric.name for metric in found] == ["accuracy", "macro_f1", "recall:a b", "length", "mine"]
    assert [type(metric) for metric in found] == [Metric, LabelMetric, LabelMetric, Metric, Metric]
    assert [metric.name for metric in resolve({"x": length})] == ["x"]
    assert [metric.name for metric in resolve("chrf")] == ["chrf"]


@pytest.mark.parametrize("given", ["accurcy", [], ["accuracy", "accuracy"], {"x": 1}, 5, ["recall:"]])
def test_what_is_no_metric(given: object) -> None:
    with pytest.raises(InvalidInputError, match=r"^metrics="):
        resolve(given)
