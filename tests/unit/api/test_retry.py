"""When a call is sent again, and after how long."""

from __future__ import annotations

import pytest

from airflow_tuning_provider.api.calls import Calls
from airflow_tuning_provider.api.errors import ApiError, ErrorKind
from airflow_tuning_provider.api.retry import RetryPolicy, is_ambiguous, may_repeat

CALLS = Calls("p", "us-central1")
GET = CALLS.get("1")
CREATE = CALLS.create(
    {"baseModel": "gemini-3.5-flash", "supervisedTuningSpec": {"trainingDatasetUri": "gs://bucket/a.jsonl"}}
)
POLICY = RetryPolicy(budget=60, initial=1, multiplier=2, max_delay=30)


def error(kind: ErrorKind, *, sent: bool = True, retry_after: float | None = None) -> ApiError:
    return ApiError(kind, "no", sent=sent, retry_after=retry_after)


DOWN = error(ErrorKind.UNAVAILABLE)

#         kind, sent: get again, create again, ambiguous
CASES = [
    (ErrorKind.BAD_REQUEST, True, False, False, False),
    (ErrorKind.BAD_REQUEST, False, False, False, False),
    (ErrorKind.UNAUTHENTICATED, True, False, False, False),
    (ErrorKind.NOT_PERMITTED, True, False, False, False),
    (ErrorKind.NOT_FOUND, True, False, False, False),
    (ErrorKind.QUOTA, True, True, True, False),
    (ErrorKind.QUOTA, False, True, True, False),
    (ErrorKind.UNAVAILABLE, True, True, False, True),
    (ErrorKind.UNAVAILABLE, False, True, True, False),
    (ErrorKind.BAD_RESPONSE, True, True, False, True),
    (ErrorKind.BAD_RESPONSE, False, True, True, False),
]


@pytest.mark.parametrize(("kind", "sent", "get", "create", "ambiguous"), CASES)
def test_what_may_be_repeated(kind: ErrorKind, sent: bool, get: bool, create: bool, ambiguous: bool) -> None:
    failed = error(kind, sent=sent)
    assert may_repeat(GET, failed) is get
    assert may_repeat(CREATE, failed) is create
    assert is_ambiguous(failed) is ambiguous
    assert (POLICY.delay(CREATE, failed, failures=1, elapsed=0, random=0.5) is not None) is create


def test_every_kind_is_decided() -> None:
    assert {case[0] for case in CASES} == set(ErrorKind)
    assert not any(create and ambiguous for *_, create, ambiguous in CASES), "that could pay twice"


@pytest.mark.parametrize(
    ("failures", "bound"), [(0, 1), (1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (10**6, 30)]
)
def test_backoff_grows_to_its_bound_with_full_jitter(failures: int, bound: float) -> None:
    assert POLICY.backoff(failures, 0.0) == 0.1, "never a busy loop"
    assert POLICY.backoff(failures, 0.5) == bound / 2
    assert POLICY.backoff(failures, 0.999) == pytest.approx(bound, rel=0.01)


def test_the_budget_is_not_overdrawn() -> None:
    assert POLICY.delay(GET, DOWN, failures=6, elapsed=45, random=0.5) == 15
    assert POLICY.delay(GET, DOWN, failures=6, elapsed=46, random=0.5) is None


@pytest.mark.parametrize(("max_repeats", "sent_again"), [(0, 0), (1, 1), (3, 3)])
def test_the_number_of_repeats_is_bounded(max_repeats: int, sent_again: int) -> None:
    policy = RetryPolicy(max_repeats=max_repeats)
    delays = [policy.delay(GET, DOWN, failures=n, elapsed=0, random=0.5) for n in range(1, 6)]
    assert sum(delay is not None for delay in delays) == sent_again


@pytest.mark.parametrize("random", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("wish", [0.0, 0.001, 3.0, 50.0])
def test_the_servers_wish_is_a_minimum(wish: float, random: float) -> None:
    failed = error(ErrorKind.QUOTA, retry_after=wish)
    delay = POLICY.delay(CREATE, failed, failures=1, elapsed=0, random=random)
    assert delay is not None
    assert max(wish, 0.1) <= delay <= wish + 1, "at least a little, even if the server says 0"


def test_a_wish_beyond_the_budget_gives_up_at_once() -> None:
    failed = error(ErrorKind.UNAVAILABLE, retry_after=61)
    assert POLICY.delay(GET, failed, failures=1, elapsed=0, random=0) is None
