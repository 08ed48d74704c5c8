"""When each of many waiters wants its next look."""

from __future__ import annotations

import heapq
from typing import Generic, Protocol, TypeVar

_SLOT = 0.05
"""Seconds by which looks may come late, as their turns are kept by slots."""


class Waiting(Protocol):
    """Somebody who waits for a turn.

    :param due: when it comes, in seconds of the timetable's clock; ``None`` for never.
    :param slot: where the timetable keeps that turn.
    """

    due: float | None
    slot: int | None


W = TypeVar("W", bound=Waiting)


class Timetable(Generic[W]):
    """The turns of all waiters, by a clock that nobody sets.

    A look at ten thousand jobs moves as many turns. Kept as sets of waiters they cost no new objects: a heap of
    tuples would have Python's garbage collector stop the event loop for half a second every few minutes.
    """

    def __init__(self) -> None:
        self._slots: dict[int, set[W]] = {}
        self._order: list[int] = []

    def note(self, waiter: W) -> None:
        """Take note of when a waiter is due, if it is; what was noted before counts no more."""
        waiter.slot = slot = None if waiter.due is None else int(waiter.due / _SLOT)
        if slot is None:
            return
        if slot not in self._slots:
            self._slots[slot] = set()
            heapq.heappush(self._order, slot)
        self._slots[slot].add(waiter)

    def next_due(self) -> float | None:
        """Return when the first slot is over, ``None`` if nobody waits."""
        return (self._order[0] + 1) * _SLOT if self._order else None

    def take(self, until: float) -> list[W]:
        """Take all waiters out whose turn comes until then."""
        due: list[W] = []
        while self._order and self._order[0] * _SLOT <= until:
            slot = heapq.heappop(self._order)
            # Another look may have moved its turn, or been its last.
            due += [waiter for waiter in self._slots.pop(slot) if waiter.slot == slot]
        return due
