"""tuningDataStats, computed from a data set in the types that the wire has (they differ by kind)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_tuning_provider.emulator.datasets import PREFERENCE, PROMPTS, Dataset

# Examples that go into one step.
BATCH_SIZE = 16
_BUCKETS = 10
# Where the user says nothing, more epochs for less data: ten for 500 examples.
_DEFAULT_PASSES = 5000
_MAX_DEFAULT_EPOCHS = 40


def default_epochs(examples: int) -> int:
    """Return the epoch count that the service picks for a data set."""
    return max(1, min(_MAX_DEFAULT_EPOCHS, round(_DEFAULT_PASSES / max(1, examples))))


def step_count(examples: int, epochs: int) -> int:
    """Return how many steps a job takes."""
    return -(-examples // BATCH_SIZE) * epochs


def tuning_data_stats(spec: str, dataset: Dataset, steps: int) -> dict[str, Any]:
    """Return the job's tuningDataStats for its kind of tuning spec."""
    if dataset.kind == PREFERENCE:
        return {"preferenceOptimizationDataStats": _preference(dataset, steps)}
    if spec == "distillationSpec":
        return {"distillationDataStats": {"trainingDatasetStats": _generic(dataset, steps)}}
    if dataset.kind == PROMPTS:
        return {"reinforcementTuningDataStats": _generic(dataset, steps)}
    return {"supervisedTuningDataStats": _supervised(dataset, steps)}


def _supervised(dataset: Dataset, steps: int) -> dict[str, Any]:
    billable = sum(dataset.input_tokens) + sum(dataset.output_tokens)
    stats: dict[str, Any] = {
        "tuningDatasetExampleCount": str(len(dataset)),
        "totalTuningCharacterCount": str(dataset.characters),
        "totalBillableCharacterCount": str(dataset.characters),
        # One pass over the data, whatever the number of epochs.
        "totalBillableTokenCount": str(billable),
        "tuningStepCount": str(steps),
        "userInputTokenDistribution": _int_sums(dataset.input_tokens),
        "userOutputTokenDistribution": _int_sums(dataset.output_tokens),
        "userMessagePerExampleDistribution": _int_sums(dataset.messages),
    }
    if dataset.shown:
        stats["userDatasetExamples"] = dataset.shown
    if dataset.truncated:
        stats["totalTruncatedExampleCount"] = str(len(dataset.truncated))
        stats["truncatedExampleIndices"] = [str(i) for i in dataset.truncated]
    return stats


def _preference(dataset: Dataset, steps: int) -> dict[str, Any]:
    # The prompt is billed once for each of the two completions.
    billable = 2 * sum(dataset.input_tokens) + sum(dataset.output_tokens)
    stats: dict[str, Any] = {
        "tuningDatasetExampleCount": str(len(dataset)),
        "tuningStepCount": str(steps),
        "totalBillableTokenCount": str(billable),
        "scoresDistribution": _double_sums(dataset.scores),
        "scoreVariancePerExampleDistribution": _double_sums(dataset.score_variances),
        "userInputTokenDistribution": _double_sums(dataset.input_tokens),
        "userOutputTokenDistribution": _double_sums(dataset.output_tokens),
    }
    if dataset.shown:
        stats["userDatasetExamples"] = dataset.shown
    return stats


def _generic(dataset: Dataset, steps: int) -> dict[str, Any]:
    billable = sum(dataset.input_tokens) + sum(dataset.output_tokens)
    stats: dict[str, Any] = {
        "tuningDatasetExampleCount": str(len(dataset)),
        "totalTuningCharacterCount": str(dataset.characters),
        "totalBillableTokenCount": str(billable),
        "tuningStepCount": str(steps),
        "userInputTokenDistribution": _double_sums(dataset.input_tokens),
        "userOutputTokenDistribution": _double_sums(dataset.output_tokens),
        "userMessagePerExampleDistribution": _double_sums(dataset.messages),
    }
    if dataset.shown:
        stats["userDatasetExamples"] = dataset.shown
    return stats


def _int_sums(values: Sequence[int]) -> dict[str, Any]:
    """A supervised distribution: int64 sums, bucket counts as doubles."""
    total = str(sum(values))
    buckets = [{"count": count, "left": left, "right": right} for count, left, right in _buckets(values)]
    return {"sum": total, "billableSum": total, **_summary(values), "buckets": buckets}


def _double_sums(values: Sequence[float]) -> dict[str, Any]:
    """Any other distribution: a double sum, bucket counts as int64."""
    buckets = [{"count": str(count), "left": left, "right": right} for count, left, right in _buckets(values)]
    return {"sum": _tidy(sum(values)), **_summary(values), "buckets": buckets}


def _tidy(number: float) -> float | int:
    return int(number) if number == int(number) else round(number, 6)


def _summary(values: Sequence[float]) -> dict[str, Any]:
    ordered = sorted(values)
    return {
        "min": _tidy(ordered[0]),
        "max": _tidy(ordered[-1]),
        "mean": _tidy(sum(ordered) / len(ordered)),
        "median": _tidy(_percentile(ordered, 50)),
        "p5": _tidy(_percentile(ordered, 5)),
        "p95": _tidy(_percentile(ordered, 95)),
    }


def _percentile(ordered: Sequence[float], percent: float) -> float:
    position = (len(ordered) - 1) * percent / 100
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def _buckets(values: Sequence[float]) -> list[tuple[int, float, float]]:
    low, high = min(values), max(values)
    if low == high:
        return [(len(values), _tidy(low), _tidy(high))]
    width = (high - low) / _BUCKETS
    counts = [0] * _BUCKETS
    for value in values:
        counts[min(_BUCKETS - 1, int((value - low) / width))] += 1
    return [
        (count, _tidy(low + i * width), _tidy(low + (i + 1) * width))
        for i, count in enumerate(counts)
        if count
    ]
