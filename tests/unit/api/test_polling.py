"""When a job is looked at next."""

from __future__ import annotations

import math

import pytest

from airflow_tuning_provider.api.polling import (
    REQUESTS_A_MINUTE,
    REQUESTS_A_MINUTE_IN_ALL,
    budget_of,
    cheaper_to_walk,
    look_interval,
    look_requests,
    next_delay,
)

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


@pytest.mark.parametrize("random", RANDOMS)
@pytest.mark.parametrize("jobs_a_page", [100, 1000])
@pytest.mark.parametrize(("jobs", "most"), [(1, 720), (100, 720), (1_000, 900), (10_000, 6_100)])
def test_requests_an_hour_are_bounded_however_many_jobs_the_service_puts_on_a_page(
    jobs: int, most: int, jobs_a_page: int, random: float
) -> None:
    pages = math.ceil(jobs / jobs_a_page)
    requests = look_requests(jobs, pages, missing=0, may_walk=True)
    interval = look_interval(requests, 60.0, random=random, budget=budget_of(1))
    assert requests == pages
    assert requests * 3600 / interval <= most
    assert interval <= 60


@pytest.mark.parametrize("random", RANDOMS)
@pytest.mark.parametrize("requests", [0, 1, 7, 100, 5000])
@pytest.mark.parametrize("budget", [1.0, REQUESTS_A_MINUTE, 100.0])
def test_looks_take_the_whole_budget_and_no_more(requests: int, budget: float, random: float) -> None:
    interval = look_interval(requests, math.inf, random=random, budget=budget)
    spent = max(requests, 1) * 60 / interval
    assert budget / 1.1 <= spent <= budget * 1.0001


@pytest.mark.parametrize(("poll_interval", "expected"), [(0.2, 0.2), (5, 5), (60, 50), (3600, 50)])
def test_the_bound_of_the_user_counts_more_than_the_budget(poll_interval: float, expected: float) -> None:
    assert look_interval(10, poll_interval, random=0.0, budget=12.0) == expected


@pytest.mark.parametrize(
    ("waiting", "pages", "missing", "may_walk", "requests"),
    [
        (1, 0, 0, True, 1),
        (5, 1, 0, True, 1),
        (5, 80, 0, True, 5),  # a get each is less than the pages of a large project
        (5, 1, 3, True, 4),
        (5, 1, 9, True, 5),  # some have left since
        (300, 0, 0, False, 300),
        (2_500, 0, 0, True, 3),
        (2_500, 25, 0, True, 25),
    ],
)
def test_a_look_takes_what_is_cheaper(
    waiting: int, pages: int, missing: int, may_walk: bool, requests: int
) -> None:
    assert look_requests(waiting, pages, missing=missing, may_walk=may_walk) == requests


@pytest.mark.parametrize(("polls", "budget"), [(0, 12), (1, 12), (50, 12), (100, 6), (500, 1.2)])
def test_many_polls_share_what_one_caller_spends(polls: int, budget: float) -> None:
    assert budget_of(polls) == pytest.approx(budget)
    assert budget_of(polls) * polls <= REQUESTS_A_MINUTE_IN_ALL + 1e-9
