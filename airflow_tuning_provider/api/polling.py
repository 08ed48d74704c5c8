"""When to look at a job next."""

from __future__ import annotations

_FIRST_DELAY = 5.0
_SHARE_OF_AGE = 0.1
_JITTER = 0.1


def next_delay(age: float, poll_interval: float, *, random: float, remaining: float | None = None) -> float:
    """Return the seconds until the next look at a job.

    Quick while the job is young, when dataset errors surface, then calmer with its age, never above
    ``poll_interval``; a tenth of jitter keeps jobs that started together from being polled together.

    :param age: seconds since the job was created.
    :param poll_interval: the user's upper bound, in seconds.
    :param random: a number in [0, 1), drawn by the caller.
    :param remaining: seconds until the deadline; the last look falls on it.
    """
    calm = min(poll_interval, max(_FIRST_DELAY, age * _SHARE_OF_AGE))
    delay = calm * (1.0 - _JITTER * random)
    return delay if remaining is None else max(0.0, min(delay, remaining))
