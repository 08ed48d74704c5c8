"""Asking many questions at once, at a pace that the service can take, until each has an answer or is given up.

What went wrong on the way says nothing of the model: it is tried again, and counted apart.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import queue
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from airflow_tuning_provider.api.errors import ApiError, ErrorKind
from airflow_tuning_provider.api.responses import bad_response
from airflow_tuning_provider.api.retry import RetryPolicy
from airflow_tuning_provider.evaluation.answers import Answer, read_answer
from airflow_tuning_provider.evaluation.pace import LONGEST_PAUSE, Pace

log = logging.getLogger(__name__)

ATTEMPTS = 6
"""How often a question is asked at most; refusals for lack of quota do not count."""
STALL_SECONDS = 900.0
"""Without a single answer for so long, the service is taken for unavailable."""
TELL_SECONDS = 15.0

_FATAL = (ErrorKind.UNAUTHENTICATED, ErrorKind.NOT_PERMITTED, ErrorKind.NOT_FOUND)


@dataclass(frozen=True)
class Question:
    """One request to one model.

    :param side: 0 for the candidate, 1 for the baseline.
    :param key: what identifies it among those of its side.
    :param number: the example's line number.
    :param model: full name of what is asked.
    :param request: the GenerateContentRequest.
    """

    side: int
    key: str
    number: int
    model: str
    request: dict[str, Any]


class AskingError(Exception):
    """Asking has to stop; the answers so far are kept.

    :param message: why.
    :param error: the failed call, if one is the reason.
    :param what: the failed call in words.
    """

    def __init__(self, message: str, error: ApiError | None = None, what: str = "") -> None:
        super().__init__(message)
        self.error = error
        self.what = what


class BudgetError(AskingError):
    """Asking has to stop because it has cost what it may."""


@dataclass
class Tally:
    """How the asking went.

    :param calls: requests that were sent, without those refused for lack of quota.
    :param answered: answers that came.
    :param quota: refusals for lack of quota.
    :param retried: requests that were sent again for another reason.
    :param failed: questions that were given up, by side and key, with what went wrong.
    """

    calls: int = 0
    answered: int = 0
    quota: int = 0
    retried: int = 0
    failed: dict[tuple[int, str], str] = field(default_factory=dict)


@dataclass
class Asker:
    """Asks questions from threads; the calling thread directs them and takes the answers.

    :param ask: sends one request once; safe to call from threads.
    :param record: takes an answer, in the calling thread; may raise :class:`AskingError`.
    :param pace: how many may be under way.
    :param most_failed: more given-up questions than this stop everything.
    :param max_calls: how many requests may be sent, those refused for lack of quota aside.
    :param stopped: whether to stop at once.
    :param progress: called with the tally now and then.
    """

    ask: Callable[[Question], dict[str, Any] | ApiError]
    record: Callable[[Question, Answer], None]
    pace: Pace
    most_failed: float
    max_calls: int
    stopped: Callable[[], bool] = bool
    progress: Callable[[Tally, Pace], None] | None = None
    backoff: RetryPolicy = field(default_factory=RetryPolicy)
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self._results: queue.SimpleQueue[tuple[Question, int, float, float, Any]] = queue.SimpleQueue()
        self._again: list[tuple[float, int, Question, int]] = []
        self._order = itertools.count()
        self._under_way = 0
        self._answered_at = time.monotonic()

    def run(self, questions: Iterator[Question]) -> Tally:
        """Ask all questions.

        :raises AskingError: if it has to stop; answers that were under way are recorded first.
        """
        executor = ThreadPoolExecutor(self.pace.most, "asking")
        told = time.monotonic()
        try:
            while self._submit(executor, questions) or self._under_way or self._again:
                if self.stopped():
                    raise AskingError("The task was stopped.")
                self._take(self._wait_seconds())
                now = time.monotonic()
                if self.progress and now - told >= TELL_SECONDS:
                    told = now
                    self.progress(self.tally, self.pace)
                if now - self._answered_at > STALL_SECONDS:
                    raise AskingError(
                        f"No answer came for {STALL_SECONDS:.0f} s.", self._last_error, self._last_what
                    )
            return self.tally
        except Exception:
            self._drain()
            raise
        finally:
            executor.shutdown(wait=False, cancel_futures=True)

    _last_error: ApiError | None = None
    _last_what = ""

    def _submit(self, executor: ThreadPoolExecutor, questions: Iterator[Question]) -> bool:
        """Send what may be sent now; return whether there was something to send."""
        sent = False
        while self._under_way < self.pace.window:
            now = time.monotonic()
            if now < self.pace.resume_at:
                return sent
            if self._again and self._again[0][0] <= now:
                _, _, question, failures = heapq.heappop(self._again)
            else:
                following = next(questions, None)
                if following is None:
                    return sent
                question, failures = following, 0
            if self.tally.calls >= self.max_calls:
                raise BudgetError(
                    f"max_calls={self.max_calls} requests were sent, and there are questions left."
                )
            self.tally.calls += 1
            self._under_way += 1
            sent = True
            executor.submit(self._send, question, failures)
        return sent

    def _send(self, question: Question, failures: int) -> None:
        asked = time.monotonic()
        try:
            result: Any = self.ask(question)
        except Exception as error:  # noqa: BLE001 - raised again by the thread that directs
            result = error
        self._results.put((question, failures, asked, time.monotonic(), result))

    def _wait_seconds(self) -> float:
        if self._under_way:
            return 0.2
        soonest = min([self.pace.resume_at, *(due for due, *_ in self._again[:1])])
        return min(max(soonest - time.monotonic(), 0.01), 0.2)

    def _take(self, seconds: float) -> None:
        try:
            question, failures, asked, ended, result = self._results.get(timeout=seconds)
        except queue.Empty:
            return
        self._under_way -= 1
        if isinstance(result, Exception):
            raise result
        if not isinstance(result, ApiError):
            answer = read_answer(result, ended - asked)
            if answer is not None:
                self.pace.answered(ended)
                self._answered_at = ended
                self.tally.answered += 1
                self.record(question, answer)
                return
            result = bad_response(f"the server sent an answer of another shape, with {sorted(result)[:5]}")
        self._failed(question, failures + 1, asked, ended, result)

    def _failed(self, question: Question, failures: int, asked: float, now: float, error: ApiError) -> None:
        what = f"generate content with {question.model}"
        self._last_error, self._last_what = error, what
        if error.kind in _FATAL:
            raise AskingError(f"Could not {what}: {error}", error, what)
        if error.kind is ErrorKind.QUOTA:
            self.tally.quota += 1
            self.tally.calls -= 1
            self.pace.refused(now, asked_at=asked, retry_after=error.retry_after)
            due, failures = self.pace.resume_at, failures - 1
        elif error.kind.transient and failures < ATTEMPTS:
            self.tally.retried += 1
            due = now + max(
                self.backoff.backoff(failures, random.random()), min(error.retry_after or 0.0, LONGEST_PAUSE)
            )
            log.debug("Line %d, %s: %s", question.number, question.model, error)
        else:
            self._give_up(question, failures, error)
            return
        heapq.heappush(self._again, (due, next(self._order), question, failures))

    def _give_up(self, question: Question, failures: int, error: ApiError) -> None:
        self.tally.failed[question.side, question.key] = str(error)
        times = f", asked {failures} times" if failures > 1 else ""
        log.warning("Line %d has no answer of %s%s: %s", question.number, question.model, times, error)
        if len(self.tally.failed) > self.most_failed:
            what = f"generate content with {question.model}"
            raise AskingError(
                f"{len(self.tally.failed)} questions have no answer for reasons that are none of the model's; the "
                f"last one, line {question.number}: {error}",
                error,
                what,
            )

    def _drain(self) -> None:
        """Record the answers that are under way: they are paid for."""
        while self._under_way and not self.stopped():
            question, _, asked, ended, result = self._results.get()
            self._under_way -= 1
            answer = None if isinstance(result, (ApiError, Exception)) else read_answer(result, ended - asked)
            if answer is not None:
                with suppress(AskingError):
                    self.record(question, answer)
