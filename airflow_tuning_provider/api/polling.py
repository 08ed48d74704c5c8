"""When to look at a job next, and how to look at many."""

from __future__ import annotations

PAGE_SIZE = 100
"""Jobs for each page of a walk over the list."""

_FIRST_DELAY = 5.0
_JITTER = 0.25


def next_delay(age: float, poll_interval: float, *, random: float, remaining: float | None = None) -> float:
    """Return the seconds until the next look at a job.

    Quick while the job is young, when dataset errors surface: after 5 s, then whenever its age has doubled,
    until that is ``poll_interval``. The first looks are jittered, so that jobs that were created together are
    spread over the interval; after that there is exactly one look for each interval.

    :param age: seconds since the job was created.
    :param poll_interval: the user's upper bound, in seconds.
    :param random: a number in [0, 1), drawn by the caller.
    :param remaining: seconds until the deadline; the last look falls on it.
    """
    quick = max(_FIRST_DELAY, age) * (1.0 - _JITTER * random)
    delay = min(poll_interval, quick)
    return delay if remaining is None else max(0.0, min(delay, remaining))


def cheaper_to_walk(due: int, waiting: int, pages: int) -> bool:
    """Whether a walk over the list takes fewer requests than a get for each job that is due.

    :param due: jobs whose turn it is.
    :param waiting: jobs that are waited for in all; a walk looks at every one of them.
    :param pages: pages that the last walk took, 0 if there was none; a project that has many other jobs makes
        a walk long, so that it pays later.
    """
    needed = max(pages, -(-waiting // PAGE_SIZE), 1)
    return due > needed
