"""One poll for all jobs that wait in a triggerer with the same connection, project and location.

Each trigger that waits is a :class:`Waiter`; waiters that could share a poll belong to one :class:`Watch`,
which looks at their jobs by single gets or by a walk over the list, whichever is cheaper
(:func:`airflow_tuning_provider.api.polling.cheaper_to_walk`), with one session and one token. A look wakes
only the waiters that it has news for. The first waiter starts the poll, the last one to leave ends it.

Why not Airflow 3.3's shared stream: it wakes every waiter at every poll, so that ten thousand of them stop the
event loop for a third of a second, and Airflow 3.1 and 3.2 do not have it.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from airflow_tuning_provider.api.errors import ApiError, ErrorKind
from airflow_tuning_provider.api.polling import PAGE_SIZE, cheaper_to_walk
from airflow_tuning_provider.api.retry import RetryPolicy
from airflow_tuning_provider.api.waiting import End, Step, Wait
from airflow_tuning_provider.exceptions import AirflowNotFoundException, TuningError, timed_out

if TYPE_CHECKING:
    from airflow_tuning_provider.api.names import TuningJobName
    from airflow_tuning_provider.hooks.calls import Page
    from airflow_tuning_provider.hooks.tuning_job import TuningJobAsyncHook

Json = dict[str, Any]

_CONCURRENT_GETS = 10
_PAGE_ATTEMPTS = 5
_PAGE_RETRY = RetryPolicy(max_delay=5.0)
_COALESCE = 0.25
"""Seconds by which looks may come early to be taken together."""
_SLOT = 0.05
"""Seconds by which looks may come late, as their turns are kept by slots."""
_CONNECTION_SECONDS = 60.0
"""How long a connection may be missing that the worker has just used."""
_CONNECTION_PAUSE = 5.0
_REOPEN_AFTER = 60.0
"""Seconds between two attempts to read a connection anew whose credentials are refused."""


@dataclass(frozen=True)
class Identity:
    """Who asks, and how: what a poll must have in common."""

    gcp_conn_id: str
    impersonation_chain: tuple[str, ...]
    api_version: str
    request_timeout: float


@dataclass(eq=False)
class Waiter:
    """One trigger's wait, and the news that it has not taken yet.

    :param due: epoch seconds of the next look, ``None`` after the last one.
    :param slot: where the timetable keeps that turn.
    """

    wait: Wait
    news: asyncio.Queue[tuple[Step, Json | ApiError]] = field(default_factory=asyncio.Queue)
    due: float | None = 0.0
    slot: int | None = None

    def tell(self, seen: Json | ApiError) -> None:
        """Take note of a look; wake the trigger only if there is something to tell."""
        now = time.time()
        step = self.wait.advance(seen, now=now, random=random.random())
        self.due = now + step.delay if step.delay is not None else None
        if step.news or step.end is not None:
            self.news.put_nowait((step, seen))


class _Timetable:
    """When waiters want their next look.

    A look at ten thousand jobs moves as many turns. Kept as sets of waiters they cost no new objects: a heap of
    tuples would have Python's garbage collector stop the event loop for half a second every few minutes.
    """

    def __init__(self) -> None:
        self._slots: dict[int, set[Waiter]] = {}
        self._order: list[int] = []

    def note(self, waiter: Waiter) -> None:
        """Take note of when a waiter is due, if it is; what was noted before counts no more."""
        waiter.slot = slot = None if waiter.due is None else int(waiter.due / _SLOT)
        if slot is None:
            return
        if slot not in self._slots:
            self._slots[slot] = set()
            heapq.heappush(self._order, slot)
        self._slots[slot].add(waiter)

    def next_due(self) -> float | None:
        """Return when the first slot is over, in epoch seconds."""
        return (self._order[0] + 1) * _SLOT if self._order else None

    def take(self, until: float) -> list[Waiter]:
        """Take all waiters out whose turn comes until then."""
        due = []
        while self._order and self._order[0] * _SLOT <= until:
            slot = heapq.heappop(self._order)
            # Another look may have moved its turn, or been its last.
            due += [waiter for waiter in self._slots.pop(slot) if waiter.slot == slot]
        return due


class Watch:
    """The poll of one identity, project and location on one event loop.

    :param hook: whom to ask; closed when the poll ends.
    :param project: project of the jobs.
    :param location: location of the jobs.
    """

    def __init__(self, hook: TuningJobAsyncHook, project: str, location: str) -> None:
        self._hook = hook
        self._project = project
        self._location = location
        self._waiters: dict[str, set[Waiter]] = {}
        self._timetable = _Timetable()
        self._wake = asyncio.Event()
        self._poll: asyncio.Task[None] | None = None
        self._pages = 0
        self._may_list = True
        self._reopened = -_REOPEN_AFTER

    @property
    def waiting(self) -> int:
        """How many waiters there are."""
        return sum(map(len, self._waiters.values()))

    def join(self, waiter: Waiter) -> None:
        """Let a waiter in; its job is looked at as soon as possible."""
        self._waiters.setdefault(waiter.wait.name, set()).add(waiter)
        self._timetable.note(waiter)
        self._wake.set()
        if self._poll is None or self._poll.done():
            # A context of its own: log lines of the poll must not carry the first waiter's task.
            self._poll = contextvars.Context().run(asyncio.get_running_loop().create_task, self._run())

    def leave(self, waiter: Waiter) -> bool:
        """Let a waiter out; return whether it was the last one."""
        same = self._waiters.get(waiter.wait.name, set())
        same.discard(waiter)
        if not same:
            self._waiters.pop(waiter.wait.name, None)
        return not self._waiters

    async def close(self) -> None:
        """End the poll."""
        # Python 3.11's wait_for swallows a cancellation that comes at the moment at which it ends.
        while self._poll is not None and not self._poll.done():
            self._poll.cancel()
            await asyncio.wait([self._poll], timeout=1)

    # -- the poll ----------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            due = None
            try:
                due = await self._next_due()
                await self._look_at(due)
            except Exception as error:  # noqa: BLE001 - a bug here must not silence ten thousand waiters
                failure = ApiError(ErrorKind.UNAVAILABLE, f"the poll failed: {type(error).__name__}: {error}")
                if due is None:  # whose turn it was is lost with the error
                    due = [waiter for same in self._waiters.values() for waiter in same]
                    await asyncio.sleep(1)
                self._tell(due, failure)

    async def _next_due(self) -> list[Waiter]:
        """Wait until looks are due, and return all that are."""
        while True:
            self._wake.clear()
            due = self._timetable.next_due()
            delay = None if due is None else due - time.time()
            if delay is not None and delay <= 0:
                break
            try:
                await asyncio.wait_for(self._wake.wait(), delay)
            except asyncio.TimeoutError:
                break
        return [
            waiter
            for waiter in self._timetable.take(time.time() + _COALESCE)
            if waiter in self._waiters.get(waiter.wait.name, ())  # it may have left
        ]

    async def _look_at(self, due: list[Waiter]) -> None:
        names = {waiter.wait.name for waiter in due}
        if not names:
            return
        if self._may_list and cheaper_to_walk(len(names), len(self._waiters), self._pages):
            names = await self._walk(names)
        await self._get(names)

    async def _walk(self, due: set[str]) -> set[str]:
        """Look at all jobs by walking the list; return the names that still need a get of their own."""
        missing = set(due)
        unseen = set(self._waiters)
        token: str | None = None
        pages = 0
        while True:
            page = await self._page(token)
            if isinstance(page, ApiError):
                # Who may not list may still get; what fails for the moment is for each job's own wait to bear.
                if not page.kind.transient:
                    self._may_list = page.kind is not ErrorKind.NOT_PERMITTED
                    return missing
                self._tell_names(missing, page)
                return set()
            jobs, token = page
            pages += 1
            for job in jobs:
                if job["name"] in unseen:
                    unseen.discard(job["name"])
                    missing.discard(job["name"])
                    self._tell_names([job["name"]], job)
            if token is None or not unseen:
                self._pages = pages
                # A job that is not listed may be new, or gone: only a get of it can tell.
                return missing

    async def _page(self, token: str | None) -> Page | ApiError:
        """Get one page; a fault that soon passes is not worth the pages before it."""
        failures = 0
        while True:
            page = await self._hook.look_at_page(
                self._project, self._location, page_size=PAGE_SIZE, page_token=token
            )
            failures += 1
            if not isinstance(page, ApiError) or not page.kind.transient or failures == _PAGE_ATTEMPTS:
                return page
            # A long pause is for the waiters to bear, each within its own deadline: the poll goes on.
            if (page.retry_after or 0.0) > _PAGE_RETRY.max_delay:
                return page
            await asyncio.sleep(page.retry_after or _PAGE_RETRY.backoff(failures, random.random()))

    async def _get(self, names: Iterable[str]) -> None:
        places = asyncio.Semaphore(_CONCURRENT_GETS)

        async def look(name: str) -> None:
            async with places:
                if name in self._waiters:
                    self._tell_names([name], await self._look(name))

        await asyncio.gather(*map(look, names))

    async def _look(self, name: str) -> Json | ApiError:
        began = time.monotonic()
        seen = await self._hook.look(name)
        if not isinstance(seen, ApiError) or seen.kind is not ErrorKind.UNAUTHENTICATED:
            return seen
        if self._reopened < began:  # else: another look, beside this one, has seen to it
            # The connection may have got a new key since this poll began, days ago perhaps.
            if began - self._reopened < _REOPEN_AFTER:
                return seen
            self._reopened = time.monotonic()
            await self._hook.reopen()
        return await self._hook.look(name)

    def _tell_names(self, names: Iterable[str], seen: Json | ApiError) -> None:
        for name in names:
            self._tell(self._waiters.get(name, ()), seen)

    def _tell(self, waiters: Iterable[Waiter], seen: Json | ApiError) -> None:
        for waiter in list(waiters):
            waiter.tell(seen)
            self._timetable.note(waiter)


class _Registry:
    """The hooks and watches of one event loop."""

    def __init__(self) -> None:
        self._hooks: dict[Identity, tuple[TuningJobAsyncHook, int]] = {}
        self._watches: dict[tuple[Identity, str, str], Watch] = {}

    def acquire(self, identity: Identity) -> TuningJobAsyncHook:
        """Return the hook of an identity: one session, one token."""
        from airflow_tuning_provider.hooks.tuning_job import TuningJobAsyncHook

        hook, users = self._hooks.get(identity) or (
            TuningJobAsyncHook(
                identity.gcp_conn_id,
                impersonation_chain=identity.impersonation_chain or None,
                api_version=identity.api_version,
                request_timeout=identity.request_timeout,
            ),
            0,
        )
        self._hooks[identity] = (hook, users + 1)
        return hook

    async def release(self, identity: Identity) -> None:
        """Give a hook back; the last user closes it."""
        hook, users = self._hooks[identity]
        if users > 1:
            self._hooks[identity] = (hook, users - 1)
        else:
            del self._hooks[identity]
            await hook.close()

    def join(
        self, identity: Identity, hook: TuningJobAsyncHook, name: TuningJobName, waiter: Waiter
    ) -> Watch:
        """Let a waiter into the watch of its identity, project and location."""
        key = (identity, name.project, name.location)
        watch = self._watches.get(key)
        if watch is None:
            watch = self._watches[key] = Watch(hook, name.project, name.location)
        watch.join(waiter)
        return watch

    async def leave(self, identity: Identity, name: TuningJobName, watch: Watch, waiter: Waiter) -> None:
        """Let a waiter out of its watch; the last one ends the poll."""
        if watch.leave(waiter):
            self._watches.pop((identity, name.project, name.location), None)
            await watch.close()


_REGISTRIES: WeakKeyDictionary[asyncio.AbstractEventLoop, _Registry] = WeakKeyDictionary()


def _registry() -> _Registry:
    return _REGISTRIES.setdefault(asyncio.get_running_loop(), _Registry())


@asynccontextmanager
async def shared_hook(identity: Identity) -> AsyncIterator[TuningJobAsyncHook]:
    """Lend the hook of an identity: a thousand triggers that end or are killed at once need one token.

    It has the connection's project and location; give full names.
    """
    registry = _registry()
    hook = registry.acquire(identity)
    try:
        yield hook
    finally:
        await registry.release(identity)


async def until_ended(
    identity: Identity,
    name: str,
    *,
    poll_interval: float,
    deadline: float | None,
    log: Any,
    project_id: str | None = None,
    location: str | None = None,
) -> Json:
    """Wait until a job has ended, in whatever way, together with all others that wait for the same API.

    :param identity: who asks.
    :param name: full resource name, or a bare id where project and location are known.
    :param poll_interval: most seconds between two looks at the job.
    :param deadline: epoch seconds at which to stop waiting, ``None`` for never.
    :param log: where this waiter's part of the story is told.
    :param project_id: project of a bare id; default: the connection's.
    :param location: location of a bare id; default: the connection's.
    :return: the job as it was seen last: from a list it may lack fields.
    :raises TuningWaitTimeoutError: if it did not end in time.
    :raises TuningError: if it can no longer be watched.
    """
    registry = _registry()
    async with shared_hook(identity) as hook:
        wait = Wait(name, poll_interval, deadline)
        full = await _full_name(hook, wait, log, project_id, location)
        wait.name = str(full)
        waiter = Waiter(wait)
        watch = registry.join(identity, hook, full, waiter)
        try:
            while True:
                step, seen = await waiter.news.get()
                for level, text in step.news:
                    log.log(level, text)
                if step.end is None:
                    continue
                if step.end is End.TIMED_OUT:
                    raise timed_out(waiter.wait.name)
                if isinstance(seen, ApiError):
                    raise hook.error(seen, f"get {full}")
                return seen
        finally:
            await registry.leave(identity, full, watch, waiter)


async def _full_name(
    hook: TuningJobAsyncHook, wait: Wait, log: Any, project_id: str | None, location: str | None
) -> TuningJobName:
    """Open the hook and complete the job's name; what may pass is borne as any failed look is."""
    give_up = time.monotonic() + _CONNECTION_SECONDS
    while True:
        try:
            return await hook.full_name(wait.name, project_id=project_id, location=location)
        except AirflowNotFoundException as error:
            # Airflow says so too where its secrets backend has failed for the moment.
            if time.monotonic() > give_up:
                raise
            log.warning("The connection was not found; looking again. %s", error)
            await asyncio.sleep(_CONNECTION_PAUSE)
        except TuningError as error:
            if error.api_error is None:
                raise
            step = wait.advance(error.api_error, now=time.time(), random=random.random())
            for level, text in step.news:
                log.log(level, text)
            if step.end is End.TIMED_OUT:
                raise timed_out(wait.name) from error
            if step.delay is None:
                raise
            await asyncio.sleep(step.delay)
