"""How good one answer is beside its reference. Each metric is a number a pair of texts; more is better."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_tuning_provider.api.inputs import InvalidInputError

Score = Callable[[str, str], float]
Parse = Callable[[str], str]

_WORD = re.compile(r"\w+")
_LABEL = re.compile(r"(recall|precision|f1):(.+)", re.DOTALL)


@dataclass(frozen=True)
class Metric:
    """A metric of single answers.

    :param name: how results, gates and the report call it.
    :param score: takes the answer and the reference, returns the score.
    :param binary: whether the score is only ever 0 or 1: right or wrong.
    :param greater_is_better: whether more is better.
    """

    name: str
    score: Score
    binary: bool = False
    greater_is_better: bool = True


@dataclass(frozen=True)
class LabelMetric:
    """A metric of how the classes are told apart, which only a whole set of answers has.

    :param name: ``macro_f1``, or ``recall:CLASS``, ``precision:CLASS``, ``f1:CLASS``.
    """

    name: str
    greater_is_better: bool = True


def normalize(text: str) -> str:
    """Return a text without the differences that do not matter: case, width, punctuation, white space."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_WORD.findall(folded))


def exact_match(answer: str, reference: str) -> float:
    """Return 1 if the two texts are equal but for white space around them."""
    return float(answer.strip() == reference.strip())


def normalized_match(answer: str, reference: str) -> float:
    """Return 1 if the two texts are equal but for case, punctuation and white space."""
    return float(normalize(answer) == normalize(reference))


def token_f1(answer: str, reference: str) -> float:
    """Return the harmonic mean of precision and recall of the words, in any order."""
    said, expected = normalize(answer).split(), normalize(reference).split()
    common = sum((Counter(said) & Counter(expected)).values())
    return _f1(common, len(said), len(expected))


def rouge_l(answer: str, reference: str) -> float:
    """Return ROUGE-L: the F1 of the longest common subsequence of words (Lin 2004)."""
    said, expected = normalize(answer).split(), normalize(reference).split()
    return _f1(common_subsequence(said, expected), len(said), len(expected))


def common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence: Hyyrö's bit-parallel algorithm on whole numbers."""
    places: dict[str, int] = {}
    for index, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << index
    everywhere = (1 << len(first)) - 1
    unmatched = everywhere
    for word in second:
        hits = unmatched & places.get(word, 0)
        unmatched = ((unmatched + hits) | (unmatched - hits)) & everywhere
    return len(first) - bin(unmatched).count("1")


def bleu(answer: str, reference: str) -> float:
    """Return sentence BLEU from 0 to 100, as sacrebleu has it (the extra ``eval``)."""
    return _sacrebleu().sentence_bleu(answer, [reference]).score  # type: ignore[no-any-return]


def chrf(answer: str, reference: str) -> float:
    """Return sentence chrF from 0 to 100, as sacrebleu has it (the extra ``eval``)."""
    return _sacrebleu().sentence_chrf(answer, [reference]).score  # type: ignore[no-any-return]


def one_of(labels: Iterable[str]) -> Parse:
    """Return what reads a class off an answer that says more: the only class that it names, else the whole text.

    :param labels: the classes.
    """
    known = {f" {normalize(label)} ": label for label in labels}

    def parse(text: str) -> str:
        words = f" {normalize(text)} "
        found = [label for word, label in known.items() if word in words]
        # "order status" is named by "order status late" too.
        longest = [label for label in found if not any(label != o and label in o for o in found)]
        return longest[0] if len(longest) == 1 else text

    return parse


BUILT_IN: dict[str, Metric] = {
    "exact_match": Metric("exact_match", exact_match, binary=True),
    "normalized_match": Metric("normalized_match", normalized_match, binary=True),
    "accuracy": Metric("accuracy", normalized_match, binary=True),
    "token_f1": Metric("token_f1", token_f1),
    "rouge_l": Metric("rouge_l", rouge_l),
    "bleu": Metric("bleu", bleu),
    "chrf": Metric("chrf", chrf),
}
FOR_LABELS = ("accuracy", "macro_f1")
FOR_TEXT = ("normalized_match", "token_f1", "rouge_l")


def resolve(given: object, field: str = "metrics") -> list[Metric | LabelMetric]:
    """Return the metrics that a user names.

    :param given: names, callables of answer and reference, :class:`Metric` objects; one of them or a list, or a
        mapping of names to callables.
    :param field: how errors call it.
    :raises InvalidInputError: for a name that there is not, one that is given twice, or a package that is missing.
    """
    items: list[Any]
    if isinstance(given, Mapping):
        items = [Metric(str(name), score) for name, score in given.items() if callable(score)]
        if len(items) < len(given):
            raise InvalidInputError(
                field, given, "map names to callables that take an answer and a reference"
            )
    elif isinstance(given, (list, tuple)):
        items = list(given)
    else:
        items = [given]
    metrics = [_metric(item, field) for item in items]
    if not metrics:
        raise InvalidInputError(field, given, "give at least one metric")
    names = [metric.name for metric in metrics]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InvalidInputError(field, twice[0], "give each metric once")
    return metrics


def _metric(item: Any, field: str) -> Metric | LabelMetric:
    if isinstance(item, (Metric, LabelMetric)):
        return item
    if isinstance(item, str):
        if item == "macro_f1" or _LABEL.fullmatch(item):
            return LabelMetric(item)
        if item in ("bleu", "chrf"):
            _sacrebleu()
        if item in BUILT_IN:
            return BUILT_IN[item]
    elif callable(item):
        return Metric(getattr(item, "__name__", type(item).__name__), item)
    names = ", ".join([*BUILT_IN, "macro_f1", "recall:CLASS", "precision:CLASS", "f1:CLASS"])
    raise InvalidInputError(field, item, f"give one of {names}, or a callable")


def label_metric(name: str) -> tuple[str, str] | None:
    """Return kind and class of a metric such as ``recall:billing``, ``None`` for any other."""
    match = _LABEL.fullmatch(name)
    return (match[1], match[2]) if match else None


def _sacrebleu() -> Any:
    try:
        import sacrebleu
    except ImportError:
        raise InvalidInputError(
            "metrics", "bleu or chrf", "install sacrebleu: pip install 'airflow-tuning-provider[eval]'"
        ) from None
    return sacrebleu


def _f1(common: int, said: int, expected: int) -> float:
    if not said or not expected:
        return float(said == expected)
    return 2 * common / (said + expected)
