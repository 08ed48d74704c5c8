"""When to send a call again, and after how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_tuning_provider.api.errors import ApiError, ErrorKind

if TYPE_CHECKING:
    from airflow_tuning_provider.api.calls import Call


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential backoff with full jitter, bounded by a time budget.

    :param budget: seconds from the first failure after which the error is given up to the caller.
    :param initial: upper bound of the first delay, in seconds.
    :param multiplier: growth of that bound for each further failure.
    :param max_delay: largest bound, in seconds.
    :param max_repeats: how often a call is sent again at most, ``None`` for as often as the budget allows.
    :param creates_wait_for_quota: send a create again that was refused for lack of quota; the operator waits
        for quota in its own way, without holding a worker.
    """

    budget: float = 60.0
    initial: float = 1.0
    multiplier: float = 2.0
    max_delay: float = 30.0
    max_repeats: int | None = None
    creates_wait_for_quota: bool = True

    def delay(
        self, call: Call[Any], error: ApiError, *, failures: int, elapsed: float, random: float
    ) -> float | None:
        """Return the seconds to wait before sending ``call`` again, or ``None`` to give up.

        :param error: how it failed.
        :param failures: failures so far, this one included.
        :param elapsed: seconds since the first failure.
        :param random: a number in [0, 1), drawn by the caller.
        """
        if not may_repeat(call, error):
            return None
        if error.kind is ErrorKind.QUOTA and not call.repeatable and not self.creates_wait_for_quota:
            return None
        if self.max_repeats is not None and failures > self.max_repeats:
            return None
        delay = self.backoff(failures, random)
        if error.retry_after is not None:
            # The server's wish is a minimum; spread above it so that waiting callers do not return as one.
            # It may be 0, which is no permission for a busy loop.
            delay = max(delay, error.retry_after + random * min(self.initial, error.retry_after))
        return delay if elapsed + delay <= self.budget else None

    def backoff(self, failures: int, random: float) -> float:
        """Return the delay after ``failures`` consecutive failures, without regard to the budget.

        :param random: a number in [0, 1), drawn by the caller.
        """
        exponent = min(max(failures, 1) - 1, 32)
        bound: float = min(self.max_delay, self.initial * self.multiplier**exponent)
        # Full jitter, but never a busy loop.
        return max(bound * random, self.initial / 10)


def may_repeat(call: Call[Any], error: ApiError) -> bool:
    """Whether sending ``call`` again after ``error`` is safe and may help.

    A create that may have been processed is never repeated: the API has no idempotency key. One that the API
    itself refused (429) and one that never left this machine are safe.
    """
    if not error.kind.transient:
        return False
    if call.repeatable:
        return True
    return not error.sent or error.kind is ErrorKind.QUOTA


def is_ambiguous(error: ApiError) -> bool:
    """Whether a call may have taken effect although it failed with ``error``."""
    return error.sent and error.kind in (ErrorKind.UNAVAILABLE, ErrorKind.BAD_RESPONSE)
