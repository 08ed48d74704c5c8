"""What is to happen, drawn from a seed: how each task's job ends, and which call misbehaves how."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from enum import Enum

SHARE = 0.3
"""Share of all calls that misbehave."""

UNKNOWN_STATE = "JOB_STATE_REBALANCING"
"""A state that neither Google nor this provider knows."""


class Fate(Enum):
    """How a job ends."""

    SUCCEEDED = "JOB_STATE_SUCCEEDED"
    PARTIALLY_SUCCEEDED = "JOB_STATE_PARTIALLY_SUCCEEDED"
    FAILED = "JOB_STATE_FAILED"
    CANCELLED = "JOB_STATE_CANCELLED"
    EXPIRED = "JOB_STATE_EXPIRED"
    VANISHED = "it is gone (404)"


_FATES = {
    Fate.SUCCEEDED: 60,
    Fate.PARTIALLY_SUCCEEDED: 5,
    Fate.FAILED: 15,
    Fate.CANCELLED: 10,
    Fate.EXPIRED: 4,
    Fate.VANISHED: 6,
}


class Kind(Enum):
    """What kind of task waits for the job."""

    CREATE_DEFERRED = "create, deferred"
    CREATE_BLOCKING = "create, on a worker"
    SENSOR_DEFERRED = "sensor, deferred"
    SENSOR_POKE = "sensor, on a worker"


_KINDS = {
    Kind.CREATE_DEFERRED: 65,
    Kind.CREATE_BLOCKING: 10,
    Kind.SENSOR_DEFERRED: 20,
    Kind.SENSOR_POKE: 5,
}


@dataclass(frozen=True)
class Plan:
    """One task.

    :param fate: how its job ends.
    :param life: seconds until then.
    :param strange: whether its job is in a state for a while that nobody knows.
    :param conn_id: the end of the id of the connection it uses: a fixed token, or a key whose tokens do not last.
    """

    task_id: str
    kind: Kind
    fate: Fate
    life: float
    strange: bool
    conn_id: str


def plans(count: int, seed: int) -> list[Plan]:
    """Return the tasks of a run: the same for the same seed."""
    source = random.Random(seed)
    made = []
    for index in range(count):
        kind = source.choices(list(_KINDS), list(_KINDS.values()))[0]
        fate = source.choices(list(_FATES), list(_FATES.values()))[0]
        made.append(
            Plan(
                task_id=f"task-{index:03}",
                kind=kind,
                fate=fate,
                life=source.uniform(8.0, 18.0),
                strange=source.random() < 0.1,
                conn_id=source.choice(["token", "key"]),
            )
        )
    return made


class Fault(Enum):
    """How a call misbehaves."""

    STATUS = "429, 500, 502, 503 or 504"
    STATUS_RETRY_AFTER = "the same with Retry-After"
    RESET_BEFORE = "connection reset before processing"
    RESET_AFTER = "connection reset after processing"
    HANG_BEFORE = "no answer, not processed"
    HANG_AFTER = "no answer, but processed"
    TRUNCATED = "body shorter than announced"
    CUT_JSON = "JSON cut in the middle"
    NOT_JSON = "a proxy's page with HTTP 200"
    UNAUTHENTICATED = "401, once"
    FILTER_REFUSED = "list filter refused (400)"
    FILTER_IGNORED = "list filter ignored"


_FAULTS = {
    Fault.STATUS: 20,
    Fault.STATUS_RETRY_AFTER: 15,
    Fault.RESET_BEFORE: 10,
    Fault.RESET_AFTER: 10,
    Fault.HANG_BEFORE: 5,
    Fault.HANG_AFTER: 5,
    Fault.TRUNCATED: 8,
    Fault.CUT_JSON: 8,
    Fault.NOT_JSON: 8,
    Fault.UNAUTHENTICATED: 11,
}
_FILTER_FAULTS = (Fault.FILTER_REFUSED, Fault.FILTER_IGNORED)
STATUSES = (429, 500, 502, 503, 504)


class Misfortune:
    """Decides for each call how it misbehaves: from the seed, the call and how often it was made.

    So what happens to a task does not depend on how fast the others are.
    """

    def __init__(self, seed: int, share: float) -> None:
        self._seed = seed
        self._share = share
        self._counts: dict[str, int] = {}
        self._refused: set[str] = set()

    def draw(
        self, call: str, *, filtered: bool = False, token: bool = False
    ) -> tuple[Fault | None, random.Random]:
        """Return the fault of this call, if any, and a source for its details.

        :param call: what is called, and by whom.
        :param filtered: whether it is a list with a filter.
        :param token: whether it asks for a token; that one is never refused for good.
        """
        count = self._counts[call] = self._counts.get(call, 0) + 1
        digest = hashlib.sha256(f"{self._seed} {call} {count}".encode()).digest()
        source = random.Random(digest)
        after_refusal = call in self._refused
        self._refused.discard(call)
        if source.random() >= self._share:
            return None, source
        if filtered and source.random() < 0.3:
            return source.choice(_FILTER_FAULTS), source
        fault = source.choices(list(_FAULTS), list(_FAULTS.values()))[0]
        if fault is Fault.UNAUTHENTICATED:
            if token or after_refusal:
                # Twice in a row would be a refusal for good.
                return Fault.STATUS, source
            self._refused.add(call)
        return fault, source
