"""When to look at a job next, and how to look at many."""

from __future__ import annotations

PAGE_SIZE = 1000
"""Jobs to ask for with each page of a walk over the list: the most that Google's lists are known to give. The service
gives as many as it likes (https://google.aip.dev/158), so what counts is how many pages a walk took."""

FEWER = 100
"""Jobs to ask for where the service refuses the size, or sends whole jobs, which hold samples of their data set."""

REQUESTS_A_MINUTE = 12.0
"""What one shared poll spends: one request every 5 s.

It is 2 % of the 600 requests a minute, project and region that Google grants for "Resource management (CRUD)
requests", which gets and lists of jobs belong to (https://cloud.google.com/vertex-ai/docs/quotas).
"""

REQUESTS_A_MINUTE_IN_ALL = 600.0
"""What all polls of one caller in a triggerer spend together, however many projects they look at: ten requests a second
are a few percent of a processor."""

_SPREAD = 0.1
_FIRST_DELAY = 5.0
_JITTER = 0.25


def next_delay(age: float, poll_interval: float, *, random: float, remaining: float | None = None) -> float:
    """Return the seconds until the next look of somebody who looks at one job alone, as a blocking task does.

    Such lookers know nothing of each other, so that each of them is modest by itself. They are quick while the job
    is young, when dataset errors surface: after 5 s, then whenever its age has doubled, until that is
    ``poll_interval``. The first looks are jittered, so that jobs that were created together are spread over the
    interval; after that there is exactly one look for each interval.

    :param age: seconds since the job was created.
    :param poll_interval: the user's upper bound, in seconds.
    :param random: a number in [0, 1), drawn by the caller.
    :param remaining: seconds until the deadline; the last look falls on it.
    """
    quick = max(_FIRST_DELAY, age) * (1.0 - _JITTER * random)
    delay = min(poll_interval, quick)
    return delay if remaining is None else max(0.0, min(delay, remaining))


def budget_of(polls: int) -> float:
    """Return the requests that one poll may spend in a minute.

    :param polls: polls of the same caller in the same triggerer: one for each project and location.
    """
    return min(REQUESTS_A_MINUTE, REQUESTS_A_MINUTE_IN_ALL / max(polls, 1))


def look_interval(requests: int, poll_interval: float, *, random: float, budget: float) -> float:
    """Return the seconds between two looks of a shared poll: as few as its budget allows.

    :param requests: requests that one look at everything takes.
    :param poll_interval: the user's upper bound, in seconds. It counts more than the budget.
    :param random: a number in [0, 1), drawn by the caller; pauses are stretched by up to a tenth, so that several
        triggerers do not keep in step.
    :param budget: requests to spend in a minute.
    """
    return min(poll_interval, max(requests, 1) * 60.0 / budget * (1.0 + _SPREAD * random))


def walk_requests(waiting: int, pages: int) -> int:
    """Return how many pages a walk over the list takes, by what is known.

    :param waiting: jobs that are waited for.
    :param pages: pages that the last walk took, 0 if there was none: it tells how many jobs the service puts on
        a page, and how many others there are.
    """
    return max(pages, -(-waiting // PAGE_SIZE), 1)


def cheaper_to_walk(due: int, waiting: int, pages: int) -> bool:
    """Whether a walk over the list takes fewer requests than a get for each job that is due.

    :param due: jobs whose turn it is.
    :param waiting: jobs that are waited for in all; a walk looks at every one of them.
    :param pages: pages that the last walk took, 0 if there was none; a project that has many other jobs makes
        a walk long, so that it pays later.
    """
    return due > walk_requests(waiting, pages)


def look_requests(waiting: int, pages: int, *, missing: int, may_walk: bool) -> int:
    """Return how many requests one look at everything takes, in the cheaper way.

    :param waiting: jobs that are waited for.
    :param pages: pages that the last walk took, 0 if there was none.
    :param missing: jobs that the last walk did not show, each of which took a get.
    :param may_walk: whether the list may be asked for.
    """
    return min(waiting, walk_requests(waiting, pages) + missing) if may_walk else waiting
