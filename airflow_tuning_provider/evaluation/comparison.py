"""From answers to a verdict: the scores of two models on the same examples, and what they say together.

Only numbers are kept: 16 bytes for an example and a metric, however long the texts are.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.evaluation.metrics import LabelMetric, Metric, Parse, label_metric, normalize
from airflow_tuning_provider.evaluation.statistics import (
    Paired,
    compare_means,
    compare_statistics,
    examples_needed,
    mcnemar,
    pairs_needed,
)

BETTER, WORSE, UNDECIDED = "better", "worse", "undecided"
MAX_LABELS = 50
OTHER = "(other)"
"""What stands for every answer that is none of the classes."""

Triple = tuple[str, str, str]


@dataclass
class Comparison:
    """Takes the answers to one example after the other; :meth:`result` compares the models.

    :param metrics: what is measured; the first one decides, unless ``decide_by`` names another.
    :param labels: the classes, where the answers are labels.
    :param parse: makes an answer's text into what is compared, on both sides.
    :param confidence: of the intervals, and 1 less the level of the tests.
    :param seed: of the bootstrap.
    """

    metrics: Sequence[Metric | LabelMetric]
    labels: Sequence[str] = ()
    parse: Parse | None = None
    confidence: float = 0.95
    seed: int = 0
    examples: int = 0
    _scores: dict[str, tuple[array[float], array[float]]] = field(default_factory=dict)
    _outcomes: Counter[Triple] = field(default_factory=Counter)
    _labels: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._labels = {normalize(label): label for label in self.labels}
        self._scores = {m.name: (array("d"), array("d")) for m in self.metrics if isinstance(m, Metric)}
        for metric in self.metrics:
            kind = label_metric(metric.name)
            known = isinstance(metric, Metric) or kind is None or normalize(kind[1]) in self._labels
            if isinstance(metric, LabelMetric) and not (self._labels and known):
                classes = ", ".join(map(repr, self.labels)) or "none: the references are no labels"
                raise InvalidInputError("metrics", metric.name, f"its classes are {classes}")

    def add(
        self,
        reference: str,
        candidate: str,
        baseline: str,
        given: Mapping[str, tuple[float, float]] | None = None,
    ) -> dict[str, tuple[float, float]]:
        """Take one example's answers, and return their scores by metric: the candidate's and the baseline's.

        :param given: scores that somebody else has given, by metric.
        """
        texts = [self._read(text) for text in (candidate, baseline)]
        scores: dict[str, tuple[float, float]] = {}
        for metric in self.metrics:
            if isinstance(metric, Metric):
                pair = (given or {}).get(metric.name) or tuple(
                    _score(metric, text, reference) for text in texts
                )
                for column, value in zip(self._scores[metric.name], pair, strict=True):
                    column.append(value)
                scores[metric.name] = (pair[0], pair[1])
        if self._labels:
            self._outcomes[self.label(reference), self.label(texts[0]), self.label(texts[1])] += 1
        self.examples += 1
        return scores

    def label(self, text: str) -> str:
        """Return the class that a text is, or :data:`OTHER`."""
        return self._labels.get(normalize(text), OTHER)

    @property
    def names(self) -> str:
        """All metrics by name, for people."""
        of_classes = ("recall:CLASS", "precision:CLASS", "f1:CLASS") if self._labels else ()
        return ", ".join([*(metric.name for metric in self.metrics), *of_classes])

    def measures(self, name: str) -> bool:
        """Whether a result will have a metric, or a class's such as ``recall:billing``."""
        kind = label_metric(name)
        of_class = kind is not None and kind[1] in self._labels.values()
        return of_class or any(metric.name == name for metric in self.metrics)

    def _read(self, text: str) -> str:
        # Nothing was said: there is nothing to read, and no parser may make it right.
        return str(self.parse(text)) if self.parse and text.strip() else text

    def result(self, decide_by: str | None = None) -> Result:
        """Compare the models.

        :param decide_by: the metric that the verdict is of; default: the first.
        """
        if not self.examples:
            raise ValueError("no example has answers of both models")
        found = self._label_metrics()
        for metric in self.metrics:
            if isinstance(metric, Metric):
                found[metric.name] = self._compare(metric)
        name = decide_by or self.metrics[0].name
        return Result(
            examples=self.examples,
            metrics={metric.name: found[metric.name] for metric in self.metrics},
            classes=self._classes(found),
            greater={metric.name: metric.greater_is_better for metric in self.metrics},
            flips={name: self.flips(name) for name in self._scores if self._binary(name)},
            decided_by=name,
            confidence=self.confidence,
            outcomes=dict(self._outcomes),
            labels=list(self._labels.values()),
        )

    def _binary(self, name: str) -> bool:
        return next(isinstance(m, Metric) and m.binary for m in self.metrics if m.name == name)

    def flips(self, name: str) -> tuple[int, int]:
        """Return how many examples only the candidate, and only the baseline, has right."""
        candidate, baseline = self._scores[name]
        gained = sum(one > other for one, other in zip(candidate, baseline, strict=True))
        lost = sum(one < other for one, other in zip(candidate, baseline, strict=True))
        return gained, lost

    def _compare(self, metric: Metric) -> Paired:
        paired = compare_means(*self._scores[metric.name], confidence=self.confidence, seed=self.seed)
        if metric.binary:
            p = mcnemar(*self.flips(metric.name))
            paired = Paired(
                paired.candidate,
                paired.baseline,
                paired.low,
                paired.high,
                p,
                paired.candidate_low,
                paired.candidate_high,
                "McNemar, exact",
            )
        return paired

    def _label_metrics(self) -> dict[str, Paired]:
        if not self._labels:
            return {}
        return compare_statistics(
            self._outcomes,
            partial(label_statistics, labels=tuple(self._labels.values())),
            confidence=self.confidence,
            seed=self.seed,
            resamples=1000,
        )

    def _classes(self, found: Mapping[str, Paired]) -> dict[str, dict[str, Any]]:
        support: Counter[str] = Counter()
        for (reference, _, _), count in self._outcomes.items():
            support[reference] += count
        return {
            label: {"support": support[label]} | {kind: found[f"{kind}:{label}"] for kind in PER_CLASS}
            for label in self._labels.values()
        }


@dataclass(frozen=True)
class Result:
    """Two models compared.

    :param examples: how many examples both have answered.
    :param metrics: each metric, in the order in which they were asked for.
    :param classes: for labels: support, recall, precision and F1 of each class.
    :param greater: whether more is better, by metric.
    :param flips: by metric of right and wrong: the examples that only the candidate, and only the baseline, has right.
    :param decided_by: the metric that the verdict is of.
    :param confidence: of the intervals.
    :param outcomes: how often reference, candidate's class and baseline's class came together.
    :param labels: the classes.
    """

    examples: int
    metrics: Mapping[str, Paired]
    classes: Mapping[str, Mapping[str, Any]]
    greater: Mapping[str, bool]
    flips: Mapping[str, tuple[int, int]]
    decided_by: str
    confidence: float
    outcomes: Mapping[Triple, int]
    labels: Sequence[str]

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``undecided``, by the metric that decides."""
        return self.verdict_of(self.decided_by)

    def verdict_of(self, name: str) -> str:
        """Return what one metric says."""
        paired = self.metrics[name]
        up = self.greater[name]
        if name in self.flips:
            if paired.p_value >= 1 - self.confidence or paired.difference == 0:
                return UNDECIDED
            return BETTER if (paired.difference > 0) is up else WORSE
        if paired.low > 0 or paired.high < 0:
            return BETTER if (paired.low > 0) is up else WORSE
        return UNDECIDED

    @property
    def needed(self) -> int | None:
        """How many examples would be needed to decide, where it is undecided and there is a difference."""
        if self.verdict != UNDECIDED:
            return None
        paired = self.metrics[self.decided_by]
        if self.decided_by in self.flips:
            return pairs_needed(*self.flips[self.decided_by], self.examples, alpha=1 - self.confidence)
        return examples_needed(paired.low, paired.high, paired.difference, self.examples)

    def sentence(self) -> str:
        """Return the verdict in words."""
        name = self.decided_by
        paired = self.metrics[name]
        figures = (
            f"{name} {paired.candidate:.4g} against {paired.baseline:.4g} on {self.examples} examples, difference "
            f"{paired.difference:+.4g} ({self.confidence:.0%} interval {paired.low:+.4g} to {paired.high:+.4g}, "
            f"p = {paired.p_value:.2g}, {paired.test})"
        )
        if self.verdict != UNDECIDED:
            return f"The candidate is {self.verdict}: {figures}."
        if paired.difference == 0:
            return f"No difference was found: {figures}."
        needed = f" About {self.needed:,} examples would be needed to tell." if self.needed else ""
        return f"It is undecided whether the candidate is better: {figures}.{needed}"

    def value(self, name: str) -> Paired | None:
        """Return a metric, or a class's such as ``recall:billing``; ``None`` if it was not measured."""
        kind = label_metric(name)
        if name in self.metrics or kind is None:
            return self.metrics.get(name)
        value = self.classes.get(kind[1], {}).get(kind[0])
        return value if isinstance(value, Paired) else None


def label_statistics(outcomes: Mapping[Triple, int], labels: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return macro-F1 and each class's recall, precision and F1, of the candidate and of the baseline.

    Macro-F1 is the mean over the classes that there are references of. What has no examples, or no answers, is 0.

    :param outcomes: how often reference, candidate's class and baseline's class came together.
    :param labels: the classes.
    """
    one, other = (_of_classes(confusion, labels) for confusion in confusions(outcomes))
    return {name: (value, other[name]) for name, value in one.items()}


def _of_classes(confusion: Mapping[tuple[str, str], int], labels: Sequence[str]) -> dict[str, float]:
    expected, given = Counter[str](), Counter[str]()
    for (reference, answer), count in confusion.items():
        expected[reference] += count
        given[answer] += count
    found = {}
    scores = []
    for label in labels:
        right = confusion.get((label, label), 0)
        found[f"recall:{label}"] = right / expected[label] if expected[label] else 0.0
        found[f"precision:{label}"] = right / given[label] if given[label] else 0.0
        found[f"f1:{label}"] = 2 * right / (expected[label] + given[label]) if right else 0.0
        if expected[label]:
            scores.append(found[f"f1:{label}"])
    return {"macro_f1": sum(scores) / len(scores) if scores else 0.0, **found}


PER_CLASS = ("recall", "precision", "f1")


def confusions(outcomes: Mapping[Triple, int]) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
    """Return the candidate's and the baseline's confusion: how often a reference got an answer."""
    candidate: Counter[tuple[str, str]] = Counter()
    baseline: Counter[tuple[str, str]] = Counter()
    for (reference, one, other), count in outcomes.items():
        candidate[reference, one] += count
        baseline[reference, other] += count
    return candidate, baseline


def _score(metric: Metric, text: str, reference: str) -> float:
    value = metric.score(text, reference)
    if isinstance(value, bool):
        return float(value)
    if not isinstance(value, (int, float)) or value != value or value in (float("inf"), float("-inf")):
        raise InvalidInputError(f"metrics[{metric.name!r}]", value, "a metric has to return a finite number")
    return float(value)
