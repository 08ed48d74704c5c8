"""One poll for all jobs that wait in a triggerer with the same connection, project and location.

Each trigger that waits is a :class:`Waiter`; waiters that could share a poll belong to one :class:`Watch`,
which looks at their jobs by single gets or by a walk over the list, whichever is cheaper
(:func:`airflow_tuning_provider.api.polling.cheaper_to_walk`), with one session and one token. A look wakes
only the waiters that it has news for. The first waiter starts the poll, the last one to leave ends it.
Operations are looked at by gets.

Why not Airflow 3.3's shared stream: it wakes every waiter at every poll, so that ten thousand of them stop the
event loop for a third of a second, and Airflow 3.1 and 3.2 do not have it.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from airflow_tuning_provider._errors import given_up, refusing_invalid_input, timed_out
from airflow_tuning_provider.api.calls import Json, Page, validate_name
from airflow_tuning_provider.api.errors import ApiError, ErrorKind
from airflow_tuning_provider.api.inputs import number
from airflow_tuning_provider.api.names import is_operation
from airflow_tuning_provider.api.polling import PAGE_SIZE, cheaper_to_walk
from airflow_tuning_provider.api.retry import RetryPolicy
from airflow_tuning_provider.api.waiting import End, Step, Wait
from airflow_tuning_provider.triggers.sharing import LOOKERS, Identity, SharedHook, lent, shared_hook
from airflow_tuning_provider.triggers.timetable import Timetable

if TYPE_CHECKING:
    from airflow_tuning_provider.api.names import OperationName, TuningJobName

__all__ = ["Identity", "shared_hook", "until_ended"]

_PAGE_ATTEMPTS = 5
_PAGE_RETRY = RetryPolicy(max_delay=5.0)
_COALESCE = 0.25
"""Seconds by which looks may come early to be taken together."""
_NO_WALKS_SECONDS = 600.0
"""How long no list is asked for after one was refused; who may not list may still get."""


@dataclass(eq=False)
class Waiter:
    """One trigger's wait, and the news that it has not taken yet.

    :param name: what it waits for.
    :param due: seconds of the monotonic clock at which it is to be looked at, ``None`` after the last look.
    :param slot: where the timetable keeps that turn.
    """

    wait: Wait
    name: TuningJobName | OperationName
    news: asyncio.Queue[tuple[Step, Json | ApiError]] = field(default_factory=asyncio.Queue)
    due: float | None = 0.0
    slot: int | None = None

    def tell(self, seen: Json | ApiError) -> None:
        """Take note of a look; wake the trigger only if there is something to tell."""
        tick = time.monotonic()
        step = self.wait.advance(seen, now=time.time(), tick=tick, random=random.random())
        self.due = tick + step.delay if step.delay is not None else None
        if step.news or step.end is not None:
            self.news.put_nowait((step, seen))


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
        self._waiters: dict[str, set[Waiter]] = {}
        self._timetable: Timetable[Waiter] = Timetable()
        self._wake = asyncio.Event()
        self._poll: asyncio.Task[None] | None = None
        self._pages = 0
        self._no_walk_before = 0.0 if listed else float("inf")
        progress = ",tuningJobState,tuningJobMetadata" if shared.identity.api_version == "v1beta1" else ""
        # A whole job holds samples of its data set: a hundred of them would be megabytes to parse.
        self._fields: str | None = f"nextPageToken,tuningJobs(name,state,createTime{progress})"

    def join(self, waiter: Waiter) -> None:
        """Let a waiter in; its job is looked at as soon as possible."""
        self._waiters.setdefault(waiter.name.resource, set()).add(waiter)
        self._timetable.note(waiter)
        self._wake.set()
        if self._poll is None or self._poll.done():
            # A context of its own: log lines of the poll must not carry the first waiter's task.
            self._poll = contextvars.Context().run(asyncio.get_running_loop().create_task, self._run())

    def leave(self, waiter: Waiter) -> bool:
        """Let a waiter out; return whether it was the last one, with which the poll ends."""
        same = self._waiters[waiter.name.resource]
        same.discard(waiter)
        if not same:
            del self._waiters[waiter.name.resource]
        if not self._waiters and self._poll is not None:
            self._poll.cancel()
        return not self._waiters

    # -- the poll ----------------------------------------------------------------------------------

    async def _run(self) -> None:
        # Not for ever: Python 3.11's wait_for swallows a cancellation that comes at the moment at which it ends.
        while self._waiters:
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
            delay = None if due is None else due - time.monotonic()
            if delay is not None and delay <= 0:
                break
            try:
                await asyncio.wait_for(self._wake.wait(), delay)
            except asyncio.TimeoutError:
                break
        return [
            waiter
            for waiter in self._timetable.take(time.monotonic() + _COALESCE)
            if waiter in self._waiters.get(waiter.name.resource, ())  # it may have left
        ]

    async def _look_at(self, due: list[Waiter]) -> None:
        wanted = {waiter.name.resource for waiter in due}
        if not wanted:
            return
        may_walk = time.monotonic() >= self._no_walk_before
        if may_walk and cheaper_to_walk(len(wanted), len(self._waiters), self._pages):
            wanted = await self._walk(wanted)
        await self._get(wanted)

    async def _walk(self, due: set[str]) -> set[str]:
        """Look at all jobs by walking the list; return those that still need a get of their own."""
        missing = set(due)
        unseen = set(self._waiters)
        token: str | None = None
        pages = 0
        while True:
            page = await self._page(token)
            if isinstance(page, ApiError):
                if page.kind is ErrorKind.BAD_RESPONSE:
                    return missing
                if not page.kind.transient:
                    self._no_walk_before = time.monotonic() + _NO_WALKS_SECONDS
                    return missing
                # What fails for the moment is for each job's own wait to bear.
                self._tell_all(missing, page)
                return set()
            jobs, token = page
            pages += 1
            for job in jobs:
                resource = "tuningJobs/" + job["name"].rpartition("/")[2]
                if resource in unseen:
                    unseen.discard(resource)
                    missing.discard(resource)
                    self._tell_all([resource], job)
            # No longer than the gets that it stands for would take: whoever waits has a deadline, and a list may
            # have thousands of pages, or no end.
            if token is None or not unseen or pages > len(self._waiters):
                self._pages = pages
                # A job that is not listed may be new, or gone: only a get of it can tell.
                return missing

    async def _page(self, token: str | None) -> Page | ApiError:
        """Get one page; a fault that soon passes is not worth the pages before it."""
        failures = 0
        while True:
            page = await self._shared.look(
                lambda hook: hook.look_at_page(
                    self._project,
                    self._location,
                    page_size=PAGE_SIZE,
                    page_token=token,
                    fields=self._fields,
                )
            )
            failures += 1
            if not isinstance(page, ApiError) or failures == _PAGE_ATTEMPTS:
                return page
            if page.kind is ErrorKind.BAD_REQUEST and self._fields is not None:
                self._fields = None  # a hint that this server does not take
                continue
            if not page.kind.transient or page.kind is ErrorKind.BAD_RESPONSE:
                return page
            # A long pause is for the waiters to bear, each within its own deadline: the poll goes on.
            if (page.retry_after or 0.0) > _PAGE_RETRY.max_delay:
                return page
            await asyncio.sleep(page.retry_after or _PAGE_RETRY.backoff(failures, random.random()))

    async def _get(self, wanted: Iterable[str]) -> None:
        places = asyncio.Semaphore(LOOKERS)

        async def look(resource: str) -> None:
            async with places:
                waiter = next(iter(self._waiters.get(resource, ())), None)
                if waiter is not None:
                    name = str(waiter.name)
                    self._tell_all([resource], await self._shared.look(lambda hook: hook.look(name)))

        await asyncio.gather(*map(look, wanted))

    def _tell_all(self, resources: Iterable[str], seen: Json | ApiError) -> None:
        for resource in resources:
            self._tell(self._waiters.get(resource, ()), seen)

    def _tell(self, waiters: Iterable[Waiter], seen: Json | ApiError) -> None:
        for waiter in list(waiters):
            waiter.tell(seen)
            self._timetable.note(waiter)


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
                step, seen = await waiter.news.get()
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
