"""What is kept of many answers for people: how they came, and the examples that differ most."""

from __future__ import annotations

import heapq
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_tuning_provider.api.inputs import shorten
from airflow_tuning_provider.evaluation.answers import Answer

ROLES = ("candidate", "baseline")
_SHOWN_EXAMPLES = 8
_SHOWN_CHARACTERS = 1500

Json = dict[str, Any]


@dataclass
class SideStats:
    """How one model's answers came: four bytes for each."""

    seconds: array[float] = field(default_factory=lambda: array("f"))
    finishes: Counter[str] = field(default_factory=Counter)
    input_tokens: int = 0
    output_tokens: int = 0
    blocked: int = 0
    empty: int = 0
    cut: int = 0

    def add(self, answer: Answer) -> None:
        """Take one answer."""
        self.seconds.append(answer.seconds)
        self.input_tokens += answer.input_tokens
        self.output_tokens += answer.output_tokens
        self.blocked += answer.blocked is not None
        self.empty += answer.empty and answer.blocked is None
        self.cut += answer.finish == "MAX_TOKENS"
        if answer.blocked:
            self.finishes[answer.blocked] += 1

    def counts(self) -> Json:
        """Return how many said nothing, and why."""
        return {
            "blocked": self.blocked,
            "empty": self.empty,
            "cut_off": self.cut,
            "blocked_by": dict(self.finishes),
        }

    def tokens(self) -> Json:
        """Return the billable tokens."""
        return {"input": self.input_tokens, "output": self.output_tokens}

    def latency(self) -> Json:
        """Return percentiles of the time from request to answer, in seconds."""
        ordered = sorted(self.seconds)
        return {
            f"p{share}": round(ordered[min(len(ordered) - 1, len(ordered) * share // 100)], 3)
            if ordered
            else None
            for share in (50, 90, 99)
        }


class Kept:
    """The examples that people want to see: those with the largest differences, in the order of the file.

    :param metric: by which metric.
    :param greater_is_better: whether more of it is better.
    """

    def __init__(self, metric: str, greater_is_better: bool = True) -> None:
        self._metric = metric
        self._sign = 1 if greater_is_better else -1
        self._heaps: tuple[list[tuple[float, int, Json]], list[tuple[float, int, Json]]] = ([], [])

    def add(self, row: Json, scores: Mapping[str, tuple[float, float]]) -> None:
        """Take one example's row, and keep it if it differs enough."""
        pair = scores.get(self._metric)
        if pair is None or pair[0] == pair[1]:
            return
        size = self._sign * (pair[0] - pair[1])
        heap = self._heaps[size > 0]
        # The earlier of two equal ones stays.
        item = (abs(size), -row["line"], row)
        if len(heap) < _SHOWN_EXAMPLES:
            heapq.heappush(heap, (*item[:2], _shown(row)))
        elif item[:2] > heap[0][:2]:
            heapq.heapreplace(heap, (*item[:2], _shown(row)))

    @property
    def worst(self) -> list[Json]:
        """What the candidate has become worst at."""
        return [row for *_, row in sorted(self._heaps[0], key=lambda item: (-item[0], -item[1]))]

    @property
    def best(self) -> list[Json]:
        """What it has gained most on."""
        return [row for *_, row in sorted(self._heaps[1], key=lambda item: (-item[0], -item[1]))]


def _shown(row: Json) -> Json:
    def text(value: str) -> str:
        return shorten(value, _SHOWN_CHARACTERS)

    return {
        **row,
        "question": text(row["question"]),
        "reference": text(row["reference"]),
        **{role: {**row[role], "text": text(row[role].get("text", ""))} for role in ROLES},
    }
