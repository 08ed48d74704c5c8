"""The examples that are shown, and how answers came."""

from __future__ import annotations

import pytest

from airflow_tuning_provider.evaluation.answers import Answer
from airflow_tuning_provider.evaluation.summary import Kept, SideStats


def row(line: int) -> dict[str, object]:
    return {
        "line": line,
        "question": "q" * 5000,
        "reference": "r",
        "candidate": {"text": "c"},
        "baseline": {},
    }


@pytest.mark.parametrize("greater", [True, False])
def test_the_largest_differences_the_earlier_first(greater: bool) -> None:
    kept = Kept("m", greater)
    for line in range(1, 101):
        size = (line % 10) / 10 * (1 if line % 2 else -1)
        kept.add(row(line), {"m": (0.5 + size, 0.5), "other": (0, 1)})
    odd, even = [9, 19, 29, 39, 49, 59, 69, 79], [8, 18, 28, 38, 48, 58, 68, 78]
    best, worst = [[shown["line"] for shown in some] for some in (kept.best, kept.worst)]
    assert (best, worst) == ((odd, even) if greater else (even, odd))
    assert len(kept.best[0]["question"]) == 1500


def test_equal_scores_and_other_metrics_are_not_shown() -> None:
    kept = Kept("m")
    kept.add(row(1), {"m": (1, 1)})
    kept.add(row(2), {"other": (1, 0)})
    assert kept.best == kept.worst == []


def test_how_answers_came() -> None:
    stats = SideStats()
    for i in range(100):
        stats.add(Answer("x", "STOP", None, 10, 2, i / 100))
    stats.add(Answer("", None, "SAFETY"))
    stats.add(Answer(" ", "STOP"))
    stats.add(Answer("x", "MAX_TOKENS"))
    assert stats.counts() == {"blocked": 1, "empty": 1, "cut_off": 1, "blocked_by": {"SAFETY": 1}}
    assert stats.tokens() == {"input": 1000, "output": 200}
    assert stats.latency() == {"p50": 0.48, "p90": 0.89, "p99": 0.98}
    assert SideStats().latency() == {"p50": None, "p90": None, "p99": None}
