"""One trigger's wait, as the shared poll sees it."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_tuning_provider.api.errors import ApiError

if TYPE_CHECKING:
    from airflow_tuning_provider.api.calls import Json
    from airflow_tuning_provider.api.names import OperationName, TuningJobName
    from airflow_tuning_provider.api.waiting import Step, Wait

    News = tuple[Step, Json | ApiError]


# There may be ten thousand: what each of them holds is gone through by Python's garbage collector.
@dataclass(eq=False, slots=True)
class Waiter:
    """One trigger's wait, and the news that it has not taken yet.

    :param name: what it waits for.
    :param due: seconds of the monotonic clock at which it has to be told something even if nothing has changed,
        ``None`` for never.
    :param pressing: whether it has to be looked at then; else what the next look sees is told.
    :param failing: whether the last look failed.
    :param slot: where the timetable keeps that turn.
    """

    wait: Wait
    name: TuningJobName | OperationName
    due: float | None = None
    pressing: bool = True
    failing: bool = False
    slot: int | None = None
    _news: list[News] | None = None
    _awake: asyncio.Future[None] | None = field(default=None, repr=False)

    def begin(self, tick: float) -> None:
        """Begin to wait: nothing but the deadline is due before the first look."""
        if self.wait.deadline is not None:
            self.due = tick + max(self.wait.deadline - time.time(), 0.0)

    def tell(self, seen: Json | ApiError, chance: float | None = None) -> None:
        """Take note of a look; wake the trigger only if there is something to tell.

        :param chance: a number in [0, 1) that others who fail with it share, so that they are looked at together.
        """
        now, tick = time.time(), time.monotonic()
        step = self.wait.advance(
            seen, now=now, tick=tick, random=random.random() if chance is None else chance
        )
        self.failing = isinstance(seen, ApiError)
        if step.delay is None:
            self.due = None
        elif self.failing:
            self.due, self.pressing = tick + step.delay, True
        else:
            rest, self.pressing = self.wait.rest(now=now, tick=tick)
            self.due = tick + rest
        if step.news or step.end is not None:
            self._news = [*(self._news or ()), (step, seen)]
            if self._awake is not None and not self._awake.done():
                self._awake.set_result(None)

    async def news(self) -> list[News]:
        """Wait for news, and take them."""
        while self._news is None:
            self._awake = asyncio.get_running_loop().create_future()
            await self._awake
        news, self._news, self._awake = self._news, None, None
        return news


@dataclass(eq=False, slots=True)
class Rhythm:
    """Those of a poll who set the same bound to the time between two looks.

    :param poll_interval: the bound, in seconds.
    :param waiting: what they wait for, and how many of them wait for each.
    :param due: seconds of the monotonic clock at which the next look at all of it is due.
    :param slot: where the timetable keeps that turn.
    """

    poll_interval: float
    waiting: dict[str, int] = field(default_factory=dict)
    due: float | None = None
    slot: int | None = None

    def add(self, resource: str) -> None:
        """Let somebody in who waits for a resource."""
        self.waiting[resource] = self.waiting.get(resource, 0) + 1

    def remove(self, resource: str) -> None:
        """Let somebody out."""
        self.waiting[resource] -= 1
        if not self.waiting[resource]:
            del self.waiting[resource]
