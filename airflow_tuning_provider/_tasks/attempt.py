"""What one attempt of a task knows. It travels through deferrals, inside the event that ends each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
LONGEST_PAUSE = 60.0


@dataclass
class Attempt:
    """Times are epoch seconds. Nothing here is secret, and everything is JSON.

    :param started: when the attempt began, before any deferral.
    :param deadline: when its wait ends, ``None`` for never.
    :param name: the job or the operation that it waits for, once there is one.
    :param sent: when it sent a create whose answer was lost.
    :param known: the jobs that were there before that.
    :param ended: jobs that were seen to have ended, although a list may not show it yet.
    :param searched: whether all jobs were searched, and not only those that the server's filter lets through.
    :param pauses: how often it has paused in a row.
    :param blind_since: since when what it waits for could not be looked at.
    """

    started: float
    deadline: float | None = None
    name: str | None = None
    sent: float | None = None
    known: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    searched: bool = False
    pauses: int = 0
    blind_since: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what a trigger carries for :meth:`from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object, *, now: float) -> Attempt:
        """Return the attempt; what another version wrote, or left out, does no harm."""
        given = value if isinstance(value, Mapping) else {}
        known = {item.name for item in fields(cls)}
        return cls(**{"started": now, **{key: item for key, item in given.items() if key in known}})

    def next_pause(self) -> float:
        """Return the seconds for one more pause in a row: longer and longer."""
        self.pauses += 1
        return PAUSES[self.pauses - 1] if self.pauses <= len(PAUSES) else LONGEST_PAUSE
