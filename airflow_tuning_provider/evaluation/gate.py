"""Whether a candidate may go on: bounds on its metrics, and checks of the job that made it.

The bounds have MLflow's names and meaning, see ``mlflow.models.MetricThreshold``
(https://mlflow.org/docs/latest/api_reference/python_api/mlflow.models.html).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from airflow_tuning_provider.api.inputs import InvalidInputError, as_int

JOB_CHECKS = ("max_dropped_share", "max_truncated_share", "max_validation_loss_rise")
VERDICT = "verdict"
_VERDICTS = {"better": ("better",), "not_worse": ("better", "undecided")}


@dataclass(frozen=True)
class Bound:
    """What is asked of one metric; what is ``None`` is not asked.

    :param threshold: the candidate's value has to reach it.
    :param min_absolute_change: by how much it has to be better than the baseline's.
    :param min_relative_change: the same as a share of the baseline's value.
    :param min_interval_low: the interval of the difference, towards the worse, has to end at or above this.
    :param greater_is_better: whether more is better.
    """

    threshold: float | None = None
    min_absolute_change: float | None = None
    min_relative_change: float | None = None
    min_interval_low: float | None = None
    greater_is_better: bool = True

    @classmethod
    def parse(cls, value: object, field: str) -> Bound:
        """Return a bound from a mapping with these fields, or from a number: the threshold.

        :raises InvalidInputError: for a field that there is not, or a value that is no number.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = {"threshold": value}
        known = [item.name for item in fields(cls)]
        if not isinstance(value, Mapping):
            raise InvalidInputError(field, value, f"give a number, or an object with {', '.join(known)}")
        parsed: dict[str, Any] = {}
        for name, item in value.items():
            if name not in known:
                raise InvalidInputError(f"{field}.{name}", item, f"the fields are {', '.join(known)}")
            if name == "greater_is_better":
                if not isinstance(item, bool):
                    raise InvalidInputError(f"{field}.{name}", item, "give true or false")
                parsed[name] = item
            elif item is not None:
                parsed[name] = _number(item, f"{field}.{name}")
        if not set(parsed) - {"greater_is_better"}:
            raise InvalidInputError(field, value, f"give at least one of {', '.join(known[:-1])}")
        return cls(**parsed)

    def failures(self, name: str, paired: Mapping[str, Any]) -> list[str]:
        """Return a sentence for each thing that the metric does not fulfil.

        :param name: the metric.
        :param paired: its values as an evaluation's ``metrics`` has them.
        """
        sign = 1.0 if self.greater_is_better else -1.0
        candidate, baseline = float(paired["candidate"]), float(paired["baseline"])
        change = sign * (candidate - baseline)
        worst = paired["low"] if self.greater_is_better else -paired["high"]
        relative = change / abs(baseline) if baseline else math.inf if change > 0 else 0.0
        side = "below" if self.greater_is_better else "above"
        rules = (
            (self.threshold, sign * candidate, sign * (self.threshold or 0.0), f"{name} {candidate:.4g} is {side} "
             f"the threshold {self.threshold}"),
            (self.min_absolute_change, change, self.min_absolute_change, f"{name} improves by {change:+.4g}, "
             f"{self.min_absolute_change} is asked"),
            (self.min_relative_change, relative, self.min_relative_change, f"{name} improves by {relative:+.1%}, "
             f"{self.min_relative_change:.1%} is asked" if self.min_relative_change is not None else ""),
            (self.min_interval_low, worst, self.min_interval_low, f"{name} may improve by only {worst:+.4g}, "
             f"{self.min_interval_low} is asked"),
        )  # fmt: skip
        # Differences of decimal fractions: 0.85 - 0.8 is below 0.05 by a hair.
        return [
            f"{text}."
            for asked, is_, least, text in rules
            if asked is not None and is_ < (least or 0.0) - 1e-12
        ]


@dataclass(frozen=True)
class Gate:
    """What a candidate has to fulfil.

    :param bounds: by metric; a class's as ``recall:CLASS``, ``precision:CLASS``, ``f1:CLASS``.
    :param verdict: ``better`` or ``not_worse``; ``None`` asks nothing.
    :param job: bounds on the job: ``max_dropped_share`` and ``max_truncated_share`` of its training examples,
        ``max_validation_loss_rise`` of the last validation loss over the lowest one, as a share of that.
    """

    bounds: Mapping[str, Bound]
    verdict: str | None = None
    job: Mapping[str, float] | None = None

    @classmethod
    def parse(cls, value: object, field: str = "gate") -> Gate:
        """Return a gate from a mapping: metrics to bounds, and the keys ``verdict``, ``max_dropped_share`` …

        :raises InvalidInputError: naming what cannot be used.
        """
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping) or not value:
            raise InvalidInputError(
                field, value, "map metrics to bounds, such as {'accuracy': {'threshold': 0.8}}"
            )
        bounds: dict[str, Bound] = {}
        job: dict[str, float] = {}
        verdict: str | None = None
        for key, item in value.items():
            if key == VERDICT:
                if item not in _VERDICTS:
                    raise InvalidInputError(f"{field}.{key}", item, f"give one of {', '.join(_VERDICTS)}")
                verdict = item
            elif key in JOB_CHECKS:
                job[key] = _number(item, f"{field}.{key}")
            else:
                bounds[str(key)] = Bound.parse(item, f"{field}.{key}")
        return cls(bounds, verdict, job)

    def check(self, evaluation: Mapping[str, Any]) -> list[str]:
        """Return a sentence for everything that an evaluation does not fulfil; empty if it may go on.

        :param evaluation: the result of an evaluation, as it stands in XCom.
        :raises InvalidInputError: for a metric that was not measured.
        """
        failures: list[str] = []
        for name, bound in self.bounds.items():
            failures += bound.failures(name, metric_of(evaluation, name))
        if self.verdict and evaluation.get("verdict") not in _VERDICTS[self.verdict]:
            asked = self.verdict.replace("_", " ")
            failures.append(f"The verdict is {evaluation.get('verdict')}, {asked} is asked.")
        for name, most in (self.job or {}).items():
            failures += self._check_job(name, most, evaluation)
        return failures

    def _check_job(self, name: str, most: float, evaluation: Mapping[str, Any]) -> list[str]:
        job = evaluation.get("manifest") or {}
        if name == "max_validation_loss_rise":
            rise = evaluation.get("validation_loss_rise")
            if rise is None:
                return ["The validation loss is not known: give the evaluation the job's curves."]
            text = f"The validation loss ends {rise:.1%} above its lowest value, {most:.1%} is allowed."
            return [text] if rise > most else []
        kind = "dropped" if name == "max_dropped_share" else "truncated"
        examples, count = as_int(job.get("example_count")), as_int(job.get(f"{kind}_example_count"))
        if not examples or count is None:
            return [
                f"How many examples the job has {kind} is not known: give the job's manifest as the candidate."
            ]
        share = count / examples
        text = f"The job has {kind} {count} of {examples} examples ({share:.1%}), {most:.1%} is allowed."
        return [text] if share > most else []


def metric_of(evaluation: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a metric's values from an evaluation, a class's too.

    :raises InvalidInputError: if it was not measured.
    """
    metrics = evaluation.get("metrics") or {}
    if name in metrics:
        found: Mapping[str, Any] = metrics[name]
        return found
    kind, _, label = name.partition(":")
    classes = evaluation.get("classes") or {}
    if label and isinstance(classes.get(label, {}).get(kind), Mapping):
        of_class: Mapping[str, Any] = classes[label][kind]
        return of_class
    known = [*metrics, *(f"{kind}:{label}" for label in classes for kind in ("recall", "precision", "f1"))]
    raise InvalidInputError(
        "gate", name, f"it was not measured; there are {', '.join(known) or 'no metrics'}"
    )


def validation_loss_rise(curves: object) -> float | None:
    """Return by which share the last validation loss is above the lowest one, ``None`` if there is no such curve.

    :param curves: curve names to ``[[step, value], ...]``; Google's name is ``eval_total_loss``.
    """
    for name, points in curves.items() if isinstance(curves, Mapping) else ():
        if "eval" in str(name) and "loss" in str(name) and isinstance(points, Sequence) and points:
            values = [float(point[1]) for point in points]
            return values[-1] / min(values) - 1 if min(values) > 0 else None
    return None


def _number(value: Any, field: str) -> float:
    number = math.nan
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)
        except ValueError:
            number = math.nan
    if not math.isfinite(number):
        raise InvalidInputError(field, value, "give a number")
    return number
