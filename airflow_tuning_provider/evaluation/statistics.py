"""Whether a difference between two models is more than chance: paired tests on the same examples.

McNemar's exact test for right and wrong (Dror et al. 2018, "The Hitchhiker's Guide to Testing Statistical Significance
in NLP"), the paired bootstrap for scores (Koehn 2004, Berg-Kirkpatrick et al. 2012). Seeded: the same answers give the
same figures.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from statistics import NormalDist
from typing import TypeVar

RESAMPLES = 2000
LARGE = 2000
"""Beyond so many examples a mean is normally distributed for all that matters, and drawing again would take long."""

_POWER = 0.8
_GAUSS_FROM = 50

Outcome = TypeVar("Outcome", bound=Hashable)


@dataclass(frozen=True)
class Paired:
    """Two models side by side in one metric.

    :param candidate: the candidate's value.
    :param baseline: the baseline's value.
    :param low: lower end of the interval of the difference.
    :param high: upper end of it.
    :param p_value: how likely a difference at least this large is if there is none.
    :param candidate_low: lower end of the interval of the candidate's own value.
    :param candidate_high: upper end of it.
    :param test: the name of the test.
    """

    candidate: float
    baseline: float
    low: float
    high: float
    p_value: float
    candidate_low: float
    candidate_high: float
    test: str

    @property
    def difference(self) -> float:
        """Candidate less baseline."""
        return self.candidate - self.baseline


def mcnemar(gained: int, lost: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    :param gained: examples that only the candidate has right.
    :param lost: examples that only the baseline has right.
    """
    total, fewer = gained + lost, min(gained, lost)
    if gained == lost:
        return 1.0
    # The binomial tail from its largest term down: each is k / (n - k + 1) of the one before.
    log_term = math.lgamma(total + 1) - math.lgamma(fewer + 1) - math.lgamma(total - fewer + 1)
    term = math.exp(log_term - total * math.log(2))
    tail = 0.0
    for k in range(fewer, -1, -1):
        tail += term
        term *= k / (total - k + 1)
        if term < tail * 1e-17:
            break
    return min(1.0, 2 * tail)


def compare_means(
    candidate: Sequence[float],
    baseline: Sequence[float],
    *,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Paired:
    """Compare two means of scores on the same examples.

    By the paired percentile bootstrap; from more than :data:`LARGE` examples on, by the normal distribution that it
    has then.

    :param candidate: the candidate's scores.
    :param baseline: the baseline's, in the same order.
    :param confidence: of the intervals, such as 0.95.
    """
    n = len(candidate)
    if n != len(baseline) or n == 0:
        raise ValueError("the same number of scores is needed, at least one")
    means = math.fsum(candidate) / n, math.fsum(baseline) / n
    if n > LARGE:
        return _normal(candidate, baseline, means, confidence)
    random = Random(seed)
    indices = range(n)
    ours, differences = [], []
    for _ in range(resamples):
        drawn = random.choices(indices, k=n)
        own = sum(map(candidate.__getitem__, drawn)) / n
        ours.append(own)
        differences.append(own - sum(map(baseline.__getitem__, drawn)) / n)
    return _percentiles(ours, differences, means, confidence)


def compare_statistics(
    outcomes: Mapping[Outcome, int],
    statistics: Callable[[Mapping[Outcome, int]], Mapping[str, tuple[float, float]]],
    *,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Paired]:
    """Compare statistics of a whole set, such as macro-F1, by the paired bootstrap over its outcomes.

    For large sets each outcome's count is drawn by itself (the Poisson bootstrap), so that the time depends on how many
    different outcomes there are and not on how many examples.

    :param outcomes: how many examples had each outcome, of both models together.
    :param statistics: takes such counts and returns, by name, the candidate's and the baseline's value.
    """
    total = sum(outcomes.values())
    random = Random(seed)
    kinds, counts = list(outcomes), list(outcomes.values())
    cumulated = list(accumulate(counts))
    values = statistics(outcomes)
    ours: dict[str, list[float]] = {name: [] for name in values}
    differences: dict[str, list[float]] = {name: [] for name in values}
    for _ in range(resamples):
        sample: Mapping[Outcome, int]
        if total <= LARGE:
            sample = Counter(random.choices(kinds, cum_weights=cumulated, k=total))
        else:
            sample = {kind: _poisson(count, random) for kind, count in zip(kinds, counts, strict=True)}
        for name, (own, other) in statistics(sample).items():
            ours[name].append(own)
            differences[name].append(own - other)
    return {name: _percentiles(ours[name], differences[name], values[name], confidence) for name in values}


def pairs_needed(gained: int, lost: int, examples: int, *, alpha: float = 0.05) -> int | None:
    """Return how many examples McNemar's test would need for a difference like this one, with a power of 80 %.

    :param examples: the examples that there are.
    :return: ``None`` if there is no difference to be found.
    """
    differing = gained + lost
    if gained == lost:
        return None
    share = gained / differing
    # All on one side would need none by the formula, which knows no variance then.
    share = min(max(share, 1 / (differing + 2)), 1 - 1 / (differing + 2))
    normal = NormalDist()
    one, other = normal.inv_cdf(1 - alpha / 2), normal.inv_cdf(_POWER)
    pairs = ((one / 2 + other * math.sqrt(share * (1 - share))) / (share - 0.5)) ** 2
    return max(math.ceil(pairs * examples / differing), examples + 1)


def examples_needed(low: float, high: float, difference: float, examples: int) -> int | None:
    """Return how many examples an interval would need to leave 0 out, with a power of 80 %.

    The width of an interval falls with the root of their number.

    :param low: lower end of the interval that there is, of 95 %.
    :param high: upper end of it.
    :param examples: the examples that there are.
    """
    if difference == 0 or high <= low:
        return None
    normal = NormalDist()
    error = (high - low) / 2 / normal.inv_cdf(0.975)
    wanted = (normal.inv_cdf(0.975) + normal.inv_cdf(_POWER)) * error / abs(difference)
    return max(math.ceil(examples * wanted**2), examples + 1)


def _normal(
    candidate: Sequence[float], baseline: Sequence[float], means: tuple[float, float], confidence: float
) -> Paired:
    n = len(candidate)
    difference = means[0] - means[1]
    spread = math.fsum(
        (one - other - difference) ** 2 for one, other in zip(candidate, baseline, strict=True)
    )
    error = math.sqrt(spread / (n - 1) / n)
    own = math.sqrt(math.fsum((one - means[0]) ** 2 for one in candidate) / (n - 1) / n)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = 2 * NormalDist().cdf(-abs(difference) / error) if error else float(difference == 0)
    return Paired(
        *means,
        difference - z * error,
        difference + z * error,
        p,
        means[0] - z * own,
        means[0] + z * own,
        "paired z",
    )


def _percentiles(
    ours: list[float], differences: list[float], values: tuple[float, float], confidence: float
) -> Paired:
    ours.sort()
    differences.sort()
    tail = (1 - confidence) / 2
    below = sum(difference <= 1e-12 for difference in differences)
    above = sum(difference >= -1e-12 for difference in differences)
    p = min(1.0, 2 * (min(below, above) + 1) / (len(differences) + 1))
    return Paired(
        *values,
        _quantile(differences, tail),
        _quantile(differences, 1 - tail),
        p,
        _quantile(ours, tail),
        _quantile(ours, 1 - tail),
        "paired bootstrap",
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    lower = math.floor(place)
    upper = min(lower + 1, len(ordered) - 1)
    return ordered[lower] + (ordered[upper] - ordered[lower]) * (place - lower)


def _poisson(mean: int, random: Random) -> int:
    if mean >= _GAUSS_FROM:
        return max(0, round(random.gauss(mean, math.sqrt(mean))))
    limit, product, count = math.exp(-mean), random.random(), 0
    while product > limit:
        product *= random.random()
        count += 1
    return count
