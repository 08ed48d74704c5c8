"""A few threads of our own, on which blocking calls run beside an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Threads:
    """Daemon threads of one event loop, each started when there is work that no other one is free for.

    Neither ``concurrent.futures`` nor the loop's default executor: at exit Python joins their threads, so that one
    that hangs in a system call would hold up a triggerer's shutdown; and the default executor also resolves the
    host names of everything else on the loop.

    :param most: how many there are at most.
    :param name: what they are called.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = 0
        self._unfinished = 0

    def submit(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Run a function on one of the threads.

        :return: its result, for this event loop. Who stops waiting for it does not stop the function.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            result: Any = None
            failure: BaseException | None = None
            try:
                result = function()
            except BaseException as error:  # noqa: BLE001 - it is handed to the caller, whatever it is
                failure = error
            with suppress(RuntimeError):  # the loop has been closed: nobody waits any longer
                loop.call_soon_threadsafe(self._deliver, future, result, failure)

        self._unfinished += 1
        self._work.put(work)
        if self._threads < min(self._unfinished, self._most):
            self._threads += 1
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        return future

    def stop(self) -> None:
        """Let the threads end, each after what it is doing."""
        for _ in range(self._threads):
            self._work.put(None)
        self._threads = 0

    def _run(self) -> None:
        for work in iter(self._work.get, None):
            work()

    def _deliver(self, future: asyncio.Future[Any], result: Any, failure: BaseException | None) -> None:
        self._unfinished -= 1
        if future.cancelled():
            return
        if failure is None:
            future.set_result(result)
        elif isinstance(failure, StopIteration):  # no future can hold it
            future.set_exception(RuntimeError(f"the function raised {failure!r}"))
        else:
            future.set_exception(failure)
