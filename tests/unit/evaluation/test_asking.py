"""Asking at a pace that a service with a quota can take: a service that is simulated, with threads that are real."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import pytest

from airflow_tuning_provider.api.errors import ApiError, ErrorKind
from airflow_tuning_provider.api.retry import RetryPolicy
from airflow_tuning_provider.evaluation import pace as pace_module
from airflow_tuning_provider.evaluation.asking import ATTEMPTS, Asker, AskingError, BudgetError, Question
from airflow_tuning_provider.evaluation.pace import Pace

ANSWER = {"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}]}
QUOTA = ApiError(ErrorKind.QUOTA, "Resource exhausted", 429)
AWAY = ApiError(ErrorKind.UNAVAILABLE, "away", 503)
QUICK = RetryPolicy(initial=0.01, max_delay=0.02)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace_module, "SHORTEST_PAUSE", 0.02)


def questions(count: int) -> Any:
    return (Question(i % 2, f"k{i}", i, "m", {}) for i in range(count))


def asker(
    ask: Any, *, most: int = 16, most_failed: float = 0, max_calls: int = 10_000, **options: Any
) -> Any:
    recorded: list[str] = []
    record = options.pop("record", lambda question, answer: recorded.append(question.key))
    made = Asker(ask, record, Pace(most), most_failed, max_calls, backoff=QUICK, **options)
    return made, recorded


class Service:
    """Refuses whatever comes while so many requests are under way."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.under_way = 0
        self.most = 0
        self.refused = 0
        self.lock = threading.Lock()

    def __call__(self, question: Question) -> Any:
        with self.lock:
            if self.under_way >= self.capacity:
                self.refused += 1
                return QUOTA
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        time.sleep(0.004)
        with self.lock:
            self.under_way -= 1
        return ANSWER


def test_all_are_answered_at_the_service_s_own_pace() -> None:
    service = Service(capacity=6)
    made, recorded = asker(service, most=32)
    tally = made.run(questions(600))
    assert sorted(recorded) == sorted(f"k{i}" for i in range(600))
    assert (tally.answered, tally.failed) == (600, {})
    assert tally.quota == service.refused > 0
    assert tally.calls == 600
    # It grew to what the service takes, and what it was refused stayed a small part.
    assert service.most == 6
    assert service.refused < 200


def test_no_refusal_no_limit_but_the_own() -> None:
    service = Service(capacity=1000)
    made, _ = asker(service, most=8)
    made.run(questions(400))
    assert service.most == 8


def test_the_window_halves_once_a_round() -> None:
    pace = Pace(32, limit=20)
    for _ in range(20):
        pace.refused(10.0, asked_at=9.0)
    assert pace.window == 10
    assert pace.resume_at > 10.0
    pace.refused(12.0, asked_at=11.0, retry_after=5)
    assert (pace.window, pace.resume_at) == (5, 17.0)
    for i in range(5):
        pace.answered(20.0 + i)
    assert pace.limit == pytest.approx(6, abs=0.2)
    for second in range(100, 110):
        pace.refused(second, asked_at=second, retry_after=1e9)
    assert pace.window == 1
    assert pace.resume_at == 109 + 60


def test_what_fails_is_asked_again() -> None:
    seen: Counter[str] = Counter()

    def ask(question: Question) -> Any:
        seen[question.key] += 1
        return AWAY if seen[question.key] < 3 else ANSWER

    made, recorded = asker(ask)
    tally = made.run(questions(20))
    assert len(recorded) == 20
    assert (tally.retried, tally.calls, tally.failed) == (40, 60, {})


def test_an_answer_of_another_shape_is_no_answer() -> None:
    seen: Counter[str] = Counter()

    def ask(question: Question) -> Any:
        seen[question.key] += 1
        return {} if seen[question.key] == 1 else ANSWER

    made, recorded = asker(ask)
    assert made.run(questions(5)).retried == 5
    assert len(recorded) == 5


def test_what_fails_for_good_is_counted_apart() -> None:
    seen: Counter[str] = Counter()

    def ask(question: Question) -> Any:
        seen[question.key] += 1
        return AWAY if question.key == "k3" else ANSWER

    made, recorded = asker(ask, most_failed=1)
    tally = made.run(questions(50))
    assert len(recorded) == 49
    assert list(tally.failed) == [(1, "k3")]
    assert seen["k3"] == ATTEMPTS


def test_above_the_share_it_stops_and_keeps_what_was_under_way() -> None:
    def ask(question: Question) -> Any:
        if question.number < 3:
            return ApiError(ErrorKind.BAD_REQUEST, "no", 400)
        time.sleep(0.05)
        return ANSWER

    made, recorded = asker(ask, most_failed=1, most=8)
    with pytest.raises(AskingError, match="2 questions have no answer") as caught:
        made.run(questions(100))
    assert caught.value.error is not None
    assert caught.value.error.kind is ErrorKind.BAD_REQUEST
    assert recorded, "what was under way is recorded"
    assert len(recorded) < 20


@pytest.mark.parametrize("kind", [ErrorKind.NOT_PERMITTED, ErrorKind.NOT_FOUND, ErrorKind.UNAUTHENTICATED])
def test_what_nobody_may_is_not_tried_further(kind: ErrorKind) -> None:
    calls: list[int] = []

    def ask(question: Question) -> Any:
        calls.append(question.number)
        return ApiError(kind, "no")

    made, _ = asker(ask, most_failed=1000)
    with pytest.raises(AskingError, match="Could not generate content with m"):
        made.run(questions(100))
    assert len(calls) <= 4


def test_no_more_calls_than_allowed() -> None:
    calls: list[int] = []

    def ask(question: Question) -> Any:
        calls.append(question.number)
        return ANSWER

    made, recorded = asker(ask, max_calls=10)
    with pytest.raises(BudgetError, match="max_calls=10"):
        made.run(questions(100))
    assert len(calls) == len(recorded) == 10


def test_a_service_that_only_refuses_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_tuning_provider.evaluation.asking.STALL_SECONDS", 0.3)
    made, _ = asker(lambda _: QUOTA)
    with pytest.raises(AskingError, match="No answer came") as caught:
        made.run(questions(5))
    assert caught.value.error is QUOTA
    assert made.tally.calls == 0


def test_it_stops_when_told() -> None:
    stop = threading.Event()

    def ask(question: Question) -> Any:
        if question.number == 20:
            stop.set()
        return ANSWER

    made, recorded = asker(ask, stopped=stop.is_set)
    with pytest.raises(AskingError, match="stopped"):
        made.run(questions(1000))
    assert len(recorded) < 60


def test_what_breaks_in_a_thread_is_raised() -> None:
    def ask(question: Question) -> Any:
        raise ZeroDivisionError

    made, _ = asker(ask)
    with pytest.raises(ZeroDivisionError):
        made.run(questions(5))
