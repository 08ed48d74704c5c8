"""The statistics, beside scipy's and on simulated data whose truth is known."""

from __future__ import annotations

import random
from collections import Counter
from statistics import NormalDist

import pytest

from airflow_tuning_provider.evaluation.statistics import (
    compare_means,
    compare_statistics,
    examples_needed,
    mcnemar,
    pairs_needed,
)

scipy_stats = pytest.importorskip("scipy.stats")


@pytest.mark.parametrize("gained", [0, 1, 2, 5, 17, 40, 1000])
@pytest.mark.parametrize("lost", [0, 1, 3, 5, 30, 41, 1200])
def test_mcnemar_is_the_binomial_test(gained: int, lost: int) -> None:
    expected = scipy_stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(gained, lost) == mcnemar(lost, gained)


def test_mcnemar_of_very_many() -> None:
    assert mcnemar(50_400, 49_600) == pytest.approx(scipy_stats.binomtest(50_400, 100_000).pvalue, rel=1e-6)


def simulated(draw: random.Random, n: int, shift: float) -> tuple[list[float], list[float]]:
    """Correlated scores from 0 to 1 whose means differ by ``shift``."""
    base = [draw.betavariate(2, 2) for _ in range(n)]
    return [0.5 * one + 0.5 * draw.betavariate(2, 2) + shift for one in base], base


def test_the_bootstrap_s_intervals_hold_the_truth_as_often_as_they_say() -> None:
    shift = 0.05
    draw = random.Random(7)
    runs, held, own = 400, 0, 0
    for run in range(runs):
        found = compare_means(*simulated(draw, 80, shift), seed=run, resamples=300)
        held += found.low <= shift <= found.high
        own += found.candidate_low <= 0.5 + shift <= found.candidate_high
    # 95 % of 400 is 380 with a standard deviation of 4.4.
    assert 364 <= held <= 394
    assert 364 <= own <= 394


def test_the_bootstrap_agrees_with_scipy_s() -> None:
    one, other = simulated(random.Random(3), 200, 0.03)
    found = compare_means(one, other, seed=1)
    differences = ([a - b for a, b in zip(one, other, strict=True)],)
    theirs = scipy_stats.bootstrap(
        differences, lambda x, axis: x.mean(axis), method="percentile", n_resamples=5000
    )
    assert found.low == pytest.approx(theirs.confidence_interval.low, abs=0.004)
    assert found.high == pytest.approx(theirs.confidence_interval.high, abs=0.004)


def test_large_sets_go_on_where_small_ones_end() -> None:
    one, other = simulated(random.Random(5), 2001, 0.02)
    large, small = compare_means(one, other), compare_means(one[:2000], other[:2000], resamples=1000)
    assert (large.test, small.test) == ("paired z", "paired bootstrap")
    assert large.low == pytest.approx(small.low, abs=0.002)
    assert large.high == pytest.approx(small.high, abs=0.002)
    expected = scipy_stats.ttest_rel(one, other).pvalue
    assert large.p_value == pytest.approx(expected, rel=0.05, abs=1e-12)


def test_the_same_seed_gives_the_same_figures() -> None:
    pair = simulated(random.Random(2), 50, 0.01)
    assert compare_means(*pair, seed=4) == compare_means(*pair, seed=4)
    assert compare_means(*pair, seed=4) != compare_means(*pair, seed=5)


def test_no_difference_at_all() -> None:
    found = compare_means([1.0, 0.0, 1.0], [1.0, 0.0, 1.0])
    assert (found.low, found.high, found.p_value) == (0, 0, 1)
    found = compare_means([0.5] * 3000, [0.5] * 3000)
    assert (found.low, found.high, found.p_value) == (0, 0, 1)


def test_nothing_to_compare() -> None:
    with pytest.raises(ValueError, match="same number"):
        compare_means([], [])
    with pytest.raises(ValueError, match="same number"):
        compare_means([1.0], [1.0, 2.0])


@pytest.mark.parametrize("n", [1000, 100_000])
def test_statistics_of_a_whole_set(n: int) -> None:
    """The share of an outcome: its interval is known from the binomial distribution, small sets and large."""
    outcomes = Counter({("a", "b"): int(0.6 * n), ("b", "a"): int(0.3 * n), ("b", "b"): int(0.1 * n)})

    def shares(counts: object) -> dict[str, tuple[float, float]]:
        given = dict(counts)  # type: ignore[call-overload]
        total = sum(given.values())
        one = sum(c for (one, _), c in given.items() if one == "a") / total
        other = sum(c for (_, other), c in given.items() if other == "a") / total
        return {"share": (one, other)}

    found = compare_statistics(outcomes, shares, resamples=1500)["share"]
    assert (found.candidate, found.baseline) == (0.6, 0.3)
    error = (0.6 * 0.4 / n) ** 0.5 * NormalDist().inv_cdf(0.975)
    assert found.candidate_low == pytest.approx(0.6 - error, abs=error / 5)
    assert found.candidate_high == pytest.approx(0.6 + error, abs=error / 5)
    paired = ((0.9 - 0.3**2) / n) ** 0.5 * NormalDist().inv_cdf(0.975)
    assert found.low == pytest.approx(0.3 - paired, abs=paired / 5)


def test_as_many_examples_as_are_said_to_be_needed_suffice() -> None:
    """Eight times in ten, which is the power that was asked for."""
    share, differing, n = 0.6, 0.2, 200
    gained, lost = int(n * differing * share), int(n * differing * (1 - share))
    needed = pairs_needed(gained, lost, n)
    assert needed is not None
    draw = random.Random(11)
    found = 0
    for _ in range(400):
        pairs = [draw.random() < share for _ in range(int(needed * differing))]
        found += mcnemar(sum(pairs), len(pairs) - sum(pairs)) < 0.05
    assert 0.73 <= found / 400 <= 0.87


def test_needed_for_scores() -> None:
    # Half a width of 0.1 around 0.05: the interval ends at 0, the power is a half; 0.8 needs (2.80 / 1.96)² as many.
    assert examples_needed(0.0, 0.1, 0.05, 100) == pytest.approx(205, abs=1)
    assert examples_needed(-0.1, 0.1, 0.0, 100) is None
    assert pairs_needed(4, 4, 100) is None
    assert pairs_needed(3, 0, 100) is not None
