"""Work that blocks, on a few threads of the page's own: a slow Google must not use up the API server's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from fastapi import HTTPException

T = TypeVar("T")


class Threads:
    """Runs functions on a few threads.

    :param size: threads.
    :param waiting: functions that may wait for one; more are refused.
    :param seconds: how long a caller waits for its function.
    """

    def __init__(self, *, size: int = 4, waiting: int = 16, seconds: float = 45.0) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="tuning-jobs")
        self._room = size + waiting
        self._seconds = seconds

    async def run(self, function: Callable[[], T]) -> T:
        """Run a function and return what it returns.

        :raises HTTPException: 503 if too much waits already, 504 if it takes too long; it then runs to its end.
        """
        if self._room <= 0:
            raise HTTPException(503, "Too many people are asking at the moment. Try again in a few seconds.")
        self._room -= 1
        future = self._pool.submit(function)
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._leave))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._seconds)
        except (TimeoutError, asyncio.TimeoutError):
            raise HTTPException(504, "Google has not answered in time. Try again.") from None

    def _leave(self) -> None:
        self._room += 1
