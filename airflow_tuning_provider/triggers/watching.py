"""One poll for all jobs that wait in a triggerer with the same connection, project and location.

Each trigger that waits is a :class:`~airflow_tuning_provider.triggers.waiter.Waiter`; waiters that could share a poll
belong to one :class:`Watch`, which looks at their jobs by single gets or by a walk over the list, whichever is cheaper
(:func:`airflow_tuning_provider.api.polling.cheaper_to_walk`), with one session and one token, and as often as its
budget of requests allows (:func:`airflow_tuning_provider.api.polling.look_interval`). Pages are compared with what is
known in the thread that got them: the event loop deals with news only, and a look wakes only the waiters that it has
news for. The first waiter starts the poll, the last one to leave ends it. Operations are looked at by gets.

Why not Airflow 3.3's shared stream: it wakes every waiter at every poll, so that ten thousand of them stop the
event loop for a third of a second, and Airflow 3.1 and 3.2 do not have it.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from airflow_tuning_provider._errors import given_up, refusing_invalid_input, timed_out
from airflow_tuning_provider.api.calls import validate_name
from airflow_tuning_provider.api.errors import ApiError, ErrorKind
from airflow_tuning_provider.api.inputs import number
from airflow_tuning_provider.api.names import is_operation
from airflow_tuning_provider.api.polling import (
    FEWER,
    PAGE_SIZE,
    budget_of,
    cheaper_to_walk,
    look_interval,
    look_requests,
)
from airflow_tuning_provider.api.retry import RetryPolicy
from airflow_tuning_provider.api.sights import Board, Sights
from airflow_tuning_provider.api.waiting import End, Step, Wait
from airflow_tuning_provider.triggers.sharing import LOOKERS, Identity, SharedHook, lent, shared_hook
from airflow_tuning_provider.triggers.timetable import Timetable
from airflow_tuning_provider.triggers.waiter import Rhythm, Waiter

if TYPE_CHECKING:
    from airflow_tuning_provider.api.calls import Json

__all__ = ["Identity", "shared_hook", "until_ended"]

_PAGE_ATTEMPTS = 5
_PAGE_RETRY = RetryPolicy(max_delay=5.0)
_COALESCE = 0.25
"""Seconds by which looks may come early to be taken together."""
_NO_WALKS_SECONDS = 600.0
"""How long no list is asked for after one was refused; who may not list may still get."""
_CLOCK_SET = 1.0
"""Seconds by which the clock on the wall may leave the monotonic one between two looks: more means that it was set."""
_AT_A_TIME = 50
"""Waiters that are told something before everything else on the event loop gets its turn."""


class Watch:
    """The poll of one hook, project and location: of jobs, or of operations.

    Waiters are found by the last part of a name: a project has an id and a number, and the API may answer with
    another one than it was asked for.

    :param shared: whom to ask.
    :param project: project of the jobs.
    :param location: location of the jobs.
    :param listed: whether a list shows what is waited for.
    """

    def __init__(self, shared: SharedHook, project: str, location: str, *, listed: bool) -> None:
        self._shared = shared
        self._project = project
        self._location = location
        self._waiters: dict[str, tuple[Waiter, ...]] = {}
        self._rhythms: dict[float, Rhythm] = {}
        self._timetable: Timetable[Waiter | Rhythm] = Timetable()
        self._known: dict[str, str] = {}
        self._failing: set[str] = set()
        self._board = Board(self._waiters, self._known)
        self._wake = asyncio.Event()
        self._poll: asyncio.Task[None] | None = None
        self._looked = -float("inf")
        self._clocks = 0.0
        self._pages = 0
        self._missing = 0
        self._no_walk_before = 0.0 if listed else float("inf")
        progress = ",tuningJobState,tuningJobMetadata" if shared.identity.api_version == "v1beta1" else ""
        # A whole job holds samples of its data set: a hundred of them would be megabytes to parse.
        self._fields: str | None = f"nextPageToken,tuningJobs(name,state{progress})"
        self._page_size = PAGE_SIZE

    def join(self, waiter: Waiter) -> None:
        """Let a waiter in; its job is looked at as soon as the budget allows."""
        resource, interval, now = waiter.name.resource, waiter.wait.poll_interval, time.monotonic()
        self._waiters[resource] = (*self._waiters.get(resource, ()), waiter)
        self._known.pop(resource, None)
        waiter.begin(now)
        self._timetable.note(waiter)
        rhythm = self._rhythms.setdefault(interval, Rhythm(interval))
        rhythm.add(resource)
        self._schedule(rhythm, self._looked, now)
        self._wake.set()
        if self._poll is None or self._poll.done():
            # A context of its own: log lines of the poll must not carry the first waiter's task.
            self._poll = contextvars.Context().run(asyncio.get_running_loop().create_task, self._run())

    def leave(self, waiter: Waiter) -> bool:
        """Let a waiter out; return whether it was the last one, with which the poll ends."""
        resource, interval = waiter.name.resource, waiter.wait.poll_interval
        others = tuple(other for other in self._waiters[resource] if other is not waiter)
        if others:
            self._waiters[resource] = others
        else:
            del self._waiters[resource]
            self._known.pop(resource, None)
            self._failing.discard(resource)
        rhythm = self._rhythms[interval]
        rhythm.remove(resource)
        if not rhythm.waiting:
            del self._rhythms[interval]
        if not self._waiters and self._poll is not None:
            self._poll.cancel()
        return not self._waiters

    # -- the poll ----------------------------------------------------------------------------------

    async def _run(self) -> None:
        # Not for ever: Python 3.11's wait_for swallows a cancellation that comes at the moment at which it ends.
        while self._waiters:
            wanted = None
            began = time.monotonic()
            try:
                due = await self._next_due()
                began = time.monotonic()
                wanted = self._wanted(due)
                await self._look_at(wanted)
            except Exception as error:  # noqa: BLE001 - a bug here must not silence ten thousand waiters
                failure = ApiError(ErrorKind.UNAVAILABLE, f"the poll failed: {type(error).__name__}: {error}")
                if wanted is None:  # whose turn it was is lost with the error
                    wanted = set(self._waiters)
                    for rhythm in self._rhythms.values():
                        rhythm.due = None
                    await asyncio.sleep(1)
                await self._tell_all(wanted, failure)
            now = time.monotonic()
            for rhythm in self._rhythms.values():
                if rhythm.due is None:
                    self._schedule(rhythm, began, now)

    async def _next_due(self) -> list[Waiter | Rhythm]:
        """Wait until looks are due, and return all that are."""
        while True:
            self._wake.clear()
            due = self._timetable.next_due()
            delay = None if due is None else due - time.monotonic()
            if delay is not None and delay <= 0:
                break
            try:
                await asyncio.wait_for(self._wake.wait(), delay)
            except asyncio.TimeoutError:
                break
        return self._timetable.take(time.monotonic() + _COALESCE)

    def _wanted(self, due: list[Waiter | Rhythm]) -> set[str]:
        """Return what has to be looked at now; of others, what the next look sees will be told."""
        wanted: set[str] = set()
        pressing: set[str] = set()
        for one in due:
            if isinstance(one, Rhythm):
                if self._rhythms.get(one.poll_interval) is one:
                    one.due = None
                    self._looked = time.monotonic()
                    wanted.update(one.waiting)
            elif one in self._waiters.get(one.name.resource, ()):  # else it has left
                self._known.pop(one.name.resource, None)
                if one.pressing:
                    pressing.add(one.name.resource)
        # What fails is asked for after pauses of its own.
        return (wanted - self._failing) | pressing

    def _schedule(self, rhythm: Rhythm, looked: float, now: float) -> None:
        """Let a look come after the pause that the budget asks for; not later than it was going to come."""
        requests = look_requests(
            len(self._waiters), self._pages, missing=self._missing, may_walk=now >= self._no_walk_before
        )
        budget = budget_of(len(_WATCHES.get(self._shared, ())))
        pause = look_interval(requests, rhythm.poll_interval, random=random.random(), budget=budget)
        due = max(looked + pause, now)
        if rhythm.due is None or due < rhythm.due:
            rhythm.due = due
            self._timetable.note(rhythm)

    async def _look_at(self, wanted: set[str]) -> None:
        if not wanted:
            return
        clocks, before = time.time() - time.monotonic(), self._clocks
        if abs(clocks - before) > _CLOCK_SET:
            # Deadlines are times on the wall: each wait has to find out what is left of it.
            self._known.clear()
        self._clocks = clocks
        may_walk = time.monotonic() >= self._no_walk_before
        if may_walk and cheaper_to_walk(len(wanted), len(self._waiters), self._pages):
            wanted = await self._walk(wanted)
        await self._get(wanted)

    async def _walk(self, due: set[str]) -> set[str]:
        """Look at all jobs by walking the list; return those that still need a get of their own."""
        began = time.monotonic()
        missing = set(due)
        unseen = set(self._waiters)
        token: str | None = None
        pages = 0
        while True:
            page = await self._page(token)
            if isinstance(page, ApiError):
                if page.kind is ErrorKind.BAD_RESPONSE:
                    self._missing = len(missing)
                    return missing
                if not page.kind.transient:
                    self._no_walk_before = time.monotonic() + _NO_WALKS_SECONDS
                    return missing
                # What fails for the moment is for each job's own wait to bear.
                await self._tell_all(missing, page)
                return set()
            token = page.token
            pages += 1
            for count, (resource, job) in enumerate(page.news, start=1):
                if resource in unseen:
                    self._tell(resource, job)
                if count % _AT_A_TIME == 0:
                    await asyncio.sleep(0)
            unseen -= page.seen
            missing -= page.seen
            # No longer than the gets that it stands for would take: whoever waits has a deadline, and a list may
            # have thousands of pages, or no end.
            if token is None or not unseen or pages > len(self._waiters):
                self._pages, self._missing = pages, len(missing)
                self._looked = began
                for rhythm in self._rhythms.values():
                    rhythm.due = None  # it was looked at as well
                # A job that is not listed may be new, or gone: only a get of it can tell.
                return missing

    async def _page(self, token: str | None) -> Sights | ApiError:
        """Get one page; a fault that soon passes is not worth the pages before it."""
        failures = 0
        while True:
            page = await self._shared.look(
                lambda hook: hook.look_at_page(
                    self._project,
                    self._location,
                    self._board,
                    page_size=self._page_size,
                    page_token=token,
                    fields=self._fields,
                )
            )
            failures += 1
            if not isinstance(page, ApiError) or failures == _PAGE_ATTEMPTS:
                return page
            if page.kind is ErrorKind.BAD_REQUEST and self._ask_for_less(page):
                continue
            if not page.kind.transient or page.kind is ErrorKind.BAD_RESPONSE:
                return page
            # A long pause is for the waiters to bear, each within its own deadline: the poll goes on.
            if (page.retry_after or 0.0) > _PAGE_RETRY.max_delay:
                return page
            await asyncio.sleep(page.retry_after or _PAGE_RETRY.backoff(failures, random.random()))

    def _ask_for_less(self, refusal: ApiError) -> bool:
        """Do without what this server does not take; return whether there was anything."""
        before = self._page_size, self._fields
        self._page_size = FEWER
        if before[0] == FEWER or not ("page_size" in str(refusal) or "pageSize" in str(refusal)):
            self._fields = None
        return before != (self._page_size, self._fields)

    async def _get(self, wanted: Iterable[str]) -> None:
        places = asyncio.Semaphore(LOOKERS)

        async def look(resource: str) -> None:
            async with places:
                waiter = next(iter(self._waiters.get(resource, ())), None)
                if waiter is not None:
                    name = str(waiter.name)
                    self._tell(resource, await self._shared.look(lambda hook: hook.look(name)))

        await asyncio.gather(*map(look, wanted))

    async def _tell_all(self, resources: Iterable[str], error: ApiError) -> None:
        """Tell of one failure everybody whom it concerns; they try again together."""
        chance = random.random()
        for count, resource in enumerate(resources, start=1):
            self._tell(resource, error, chance)
            if count % _AT_A_TIME == 0:
                await asyncio.sleep(0)

    def _tell(self, resource: str, seen: Json | ApiError, chance: float | None = None) -> None:
        waiters = self._waiters.get(resource)
        if waiters is None:
            return
        for waiter in waiters:
            waiter.tell(seen, chance)
            self._timetable.note(waiter)
        if isinstance(seen, ApiError):
            self._failing.add(resource)
            self._known.pop(resource, None)
        else:
            self._failing.discard(resource)
            self._known[resource] = str(seen.get("state"))


_WATCHES: WeakKeyDictionary[SharedHook, dict[tuple[str, str, bool], Watch]] = WeakKeyDictionary()


async def until_ended(
    identity: Identity,
    name: str | None,
    *,
    poll_interval: float,
    deadline: float | None,
    log: Any,
    project_id: str | None = None,
    location: str | None = None,
) -> Json:
    """Wait until a job or an operation has ended, in whatever way, together with all others that ask the same API.

    :param identity: who asks.
    :param name: full resource name, or a job's bare id where project and location are known.
    :param poll_interval: most seconds between two looks.
    :param deadline: epoch seconds at which to stop waiting, ``None`` for never.
    :param log: where this waiter's part of the story is told.
    :param project_id: project of a bare id; default: the connection's.
    :param location: location of a bare id; default: the connection's.
    :return: the job or the operation as it was seen last: from a list, a job lacks fields.
    :raises TuningInvalidInputError: for a name, or another argument, that cannot be right.
    :raises TuningWaitTimeoutError: if it did not end in time.
    :raises TuningUnavailableError: if it could not be looked at for too long.
    """
    with refusing_invalid_input():
        validate_name(name)
        name = str(name)
        wait = Wait(name, number(poll_interval, "poll_interval"), deadline)
    with lent(identity) as shared:
        while (trouble := await shared.fresh()) is not None:
            step = wait.advance(trouble, now=time.time(), tick=time.monotonic(), random=random.random())
            _told(wait, step, trouble, log)
            await asyncio.sleep(step.delay or 0.0)
        full = shared.hook.full_name(name, project_id=project_id, location=location)
        wait.name = str(full)
        waiter = Waiter(wait, full)
        watches = _WATCHES.setdefault(shared, {})
        key = (full.project, full.location, not is_operation(full))
        watch = watches.get(key)
        if watch is None:
            watch = watches[key] = Watch(shared, full.project, full.location, listed=key[2])
        watch.join(waiter)
        try:
            while True:
                for step, seen in await waiter.news():
                    ended = _told(wait, step, seen, log)
                    if ended is not None:
                        return ended
        finally:
            if watch.leave(waiter):
                del watches[key]


def _told(wait: Wait, step: Step, seen: Json | ApiError, log: Any) -> Json | None:
    """Tell a waiter's news; return what has ended, ``None`` if the wait goes on.

    :raises TuningError: if the wait is over for another reason.
    """
    for level, text in step.news:
        log.log(level, text)
    if step.end is None:
        return None
    if step.end is End.TIMED_OUT:
        raise timed_out(wait.name)
    if isinstance(seen, ApiError):
        raise given_up(wait.name, seen)
    return seen
