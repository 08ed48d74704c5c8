"""When a job is looked at next."""

from __future__ import annotations

import pytest

from airflow_tuning_provider.api.polling import cheaper_to_walk, next_delay

RANDOMS = (0.0, 0.5, 0.999)


@pytest.mark.parametrize("random", RANDOMS)
@pytest.mark.parametrize(
    ("age", "interval", "least", "most"),
    [(0, 60, 3, 5), (0, 2, 1.8, 2), (100, 60, 5, 60), (10**9, 60, 54, 60), (10**9, 0.01, 0.009, 0.01)],
)
def test_quick_while_young_then_calmer(
    age: float, interval: float, least: float, most: float, random: float
) -> None:
    assert least <= next_delay(age, interval, random=random) <= most


@pytest.mark.parametrize("random", RANDOMS)
def test_an_older_job_is_never_looked_at_more_often(random: float) -> None:
    delays = [next_delay(age, 600, random=random) for age in range(0, 10_000, 10)]
    assert delays == sorted(delays)


def test_jobs_that_started_together_are_not_polled_together() -> None:
    assert len({next_delay(0, 60, random=random) for random in RANDOMS}) == len(RANDOMS)


@pytest.mark.parametrize(
    ("remaining", "expected"), [(100, 60), (60, 60), (7, 7), (0, 0), (-1, 0), (None, 60)]
)
def test_the_last_look_falls_on_the_deadline(remaining: float | None, expected: float) -> None:
    assert next_delay(10**6, 60, random=0.0, remaining=remaining) == expected


@pytest.mark.parametrize(
    ("due", "waiting", "pages", "walk"),
    [
        (1, 1, 0, False),  # one get is one request, as one page is
        (2, 2, 0, True),
        (100, 100, 0, True),
        (1, 10_000, 100, False),
        (100, 10_000, 100, False),
        (101, 10_000, 100, True),
        (50, 50, 80, False),  # a project with thousands of other jobs makes a walk long
        (81, 81, 80, True),
    ],
)
def test_a_walk_is_taken_only_where_it_is_cheaper(due: int, waiting: int, pages: int, walk: bool) -> None:
    assert cheaper_to_walk(due, waiting, pages) is walk
