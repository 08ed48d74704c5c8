"""One hook for all triggers of an event loop that ask as the same caller: one session, one token, a few threads.

Every caller has threads of its own, so that one whose token service, name service or API hangs stops nobody else's
looks. There are at most :data:`LOOKERS` for looks, :data:`ASKERS` for kills and the like, which must not wait behind
looks, and one that reads the connection; each is started when it is needed, and all end with their last user.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from airflow_tuning_provider._errors import error_from
from airflow_tuning_provider.api.errors import ApiError
from airflow_tuning_provider.exceptions import TuningError
from airflow_tuning_provider.triggers.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_tuning_provider.hooks.connection import ConnectionSettings
    from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

T = TypeVar("T")
Ask = Callable[[Callable[["TuningJobHook"], T]], Awaitable[T]]

LOOKERS = 8
"""Threads for looks: a page of a hundred jobs takes some milliseconds of processor time, so more of them would only
take turns. They matter where the API is slow, and for gets."""
ASKERS = 16
"""Threads for what triggers ask by themselves: a thousand cancellations at once are done within seconds."""
_READ_SECONDS = 10.0
"""How long a reading of the connection may keep those waiting who could also go on with what was read before."""


@dataclass(frozen=True)
class Identity:
    """Who asks, and how: what those who share a hook must have in common."""

    gcp_conn_id: str
    impersonation_chain: tuple[str, ...]
    api_version: str
    request_timeout: float


class SharedHook:
    """The hook of one identity on one event loop, as fresh as its newest user.

    :param identity: who asks.
    :raises TuningInvalidInputError: if the identity cannot be right, whatever the connection says.
    """

    def __init__(self, identity: Identity) -> None:
        from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

        self.identity = identity
        self.users = 0
        self._arguments: dict[str, Any] = {
            "impersonation_chain": identity.impersonation_chain or None,
            "api_version": identity.api_version,
            "request_timeout": identity.request_timeout,
        }
        TuningJobHook(identity.gcp_conn_id, **self._arguments).check_parameters()
        self._lookers = Threads(LOOKERS, "tuning-look")
        self._askers = Threads(ASKERS, "tuning-ask")
        self._reader = Threads(1, "tuning-connection")
        self._hook: TuningJobHook | None = None
        self._settings: ConnectionSettings | None = None
        self._reading: asyncio.Task[ApiError | None] | None = None
        self._queued: asyncio.Task[ApiError | None] | None = None
        self._renewal: asyncio.Task[ApiError | None] | None = None
        self._renewed = -float("inf")
        self._anew = False

    @property
    def hook(self) -> TuningJobHook:
        """The hook, once :meth:`fresh` has found no trouble."""
        assert self._hook is not None
        return self._hook

    def close(self) -> None:
        """Close the session, and let the threads end."""
        for task in (self._reading, self._queued, self._renewal):
            if task is not None:
                task.cancel()
        if self._hook is not None:
            self._reader.submit(self._hook.close)
        for threads in (self._lookers, self._askers, self._reader):
            threads.stop()

    # -- the connection ----------------------------------------------------------------------------

    async def fresh(self) -> ApiError | None:
        """Read the connection; who comes while it is being read shares the next reading.

        :return: what was wrong, where there is nothing to go on with; an older hook is better than none.
        """
        if self._queued is None:
            self._queued = _in_background(self._read_after(self._reading))
        reading = self._queued
        # Not wait_for: who is cancelled must not take the others with it.
        await asyncio.wait({reading}, timeout=_READ_SECONDS)
        if self._hook is not None:
            return None
        if not reading.done():
            return _trouble(TimeoutError(f"it could not be read within {_READ_SECONDS:.0f} s"))
        return reading.result()

    async def _read_after(self, before: asyncio.Task[Any] | None) -> ApiError | None:
        if before is not None:
            await asyncio.wait({before})
        self._reading, self._queued = self._queued, None
        try:
            await self._read()
        except Exception as error:  # noqa: BLE001 - a secrets backend may raise anything
            return _trouble(error)
        return None

    async def _read(self) -> None:
        from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

        # Here, and not in a thread: there Airflow does not find its supervisor. And not broken off: the triggerer
        # of Airflow 3.1 takes an answer that came too late for that to its next question, and ends.
        reading = asyncio.ensure_future(TuningJobHook.aget_connection(self.identity.gcp_conn_id))
        connection = await asyncio.shield(reading)
        hook = TuningJobHook.from_connection(connection, **self._arguments)
        settings = await self._reader.submit(lambda: hook.settings)
        if settings == self._settings and not self._anew:
            return
        await self._reader.submit(hook.open)
        before, self._hook, self._settings, self._anew = self._hook, hook, settings, False
        if before is not None:
            self._reader.submit(before.close)

    async def _another_than(self, refused: TuningJobHook) -> TuningJobHook | None:
        """Return another hook than one that was refused: the connection may have got a new key, or account.

        For this it is read anew at most once a minute, with new credentials also where it reads the same: it may
        name a file.
        """
        from airflow_tuning_provider.hooks._base import RENEW_AFTER

        if self._hook is refused:
            now = time.monotonic()
            if now - self._renewed >= RENEW_AFTER:
                self._renewed, self._anew = now, True
                self._renewal = _in_background(self.fresh())
            if self._renewal is not None:
                await asyncio.wait({self._renewal})
        return None if self._hook is refused else self._hook

    # -- the calls ---------------------------------------------------------------------------------

    async def look(self, look: Callable[[TuningJobHook], T | ApiError]) -> T | ApiError:
        """Make one attempt on a thread for looks; a refusal is the last word only of a connection just read."""
        hook = self.hook
        seen = await self._lookers.submit(partial(look, hook))
        if isinstance(seen, ApiError) and seen.kind.refusal:
            other = await self._another_than(hook)
            if other is not None:
                seen = await self._lookers.submit(partial(look, other))
        return seen

    async def ask(self, function: Callable[[TuningJobHook], T]) -> T:
        """Run a function on a thread for kills and the like; it may be run again where it is refused.

        What it logs goes to the log of the caller's task.

        :return: what the function returns.
        """
        hook = self.hook
        try:
            return await self._askers.submit(partial(contextvars.copy_context().run, function, hook))
        except TuningError as error:
            if error.api_error is None or not error.api_error.kind.refusal:
                raise
            other = await self._another_than(hook)
            if other is None:
                raise
        return await self._askers.submit(partial(contextvars.copy_context().run, function, other))


def _in_background(work: Any) -> asyncio.Task[Any]:
    # A context of its own: log lines must not carry the task of whoever came first.
    return contextvars.Context().run(asyncio.get_running_loop().create_task, work)


def _trouble(error: Exception) -> ApiError:
    from airflow_tuning_provider.hooks._base import connection_trouble

    return connection_trouble(error)


_SHARED: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Identity, SharedHook]] = WeakKeyDictionary()


@contextmanager
def lent(identity: Identity) -> Iterator[SharedHook]:
    """Lend the shared hook of an identity; its last user closes it."""
    all_shared = _SHARED.setdefault(asyncio.get_running_loop(), {})
    shared = all_shared.get(identity)
    if shared is None:
        shared = all_shared[identity] = SharedHook(identity)
    shared.users += 1
    try:
        yield shared
    finally:
        shared.users -= 1
        if not shared.users:
            del all_shared[identity]
            shared.close()


@asynccontextmanager
async def shared_hook(identity: Identity) -> AsyncIterator[Ask[Any]]:
    """Lend a way to ask with the hook of an identity: ``await ask(function)`` runs ``function(hook)`` on a thread.

    A thousand triggers that end or are killed at once need one token. Where the connection cannot be used it is
    the asking that raises a ``TuningError``, not the entering.
    """
    with lent(identity) as shared:
        fresh = False

        async def ask(function: Callable[[TuningJobHook], T]) -> T:
            nonlocal fresh
            if not fresh:
                trouble = await shared.fresh()
                if trouble is not None:
                    raise error_from(trouble, f"use connection {identity.gcp_conn_id!r}")
                fresh = True
            return await shared.ask(function)

        yield ask
