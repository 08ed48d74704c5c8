"""Which ends of tuning jobs are news to one who watches a whole project; no I/O, and no clock of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_tuning_provider.api.inputs import as_mapping
from airflow_tuning_provider.api.manifest import parse_time
from airflow_tuning_provider.api.states import outcome

LAG = 900.0
"""Seconds by which an end may be seen late: a list lags behind, jobs end in another order than they are seen, clocks
differ."""

Job = Mapping[str, Any]


@dataclass(frozen=True)
class Mark:
    """What has been told.

    :param since: epoch seconds: what ended before is no news any more.
    :param told: the jobs that ended since and have been told, with the time of their end.
    """

    since: float
    told: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def beginning(cls, now: float) -> Mark:
        """Return the mark of one who begins to watch ``now``."""
        return cls(now - LAG)

    def as_json(self) -> dict[str, Any]:
        """Return what :meth:`from_json` takes."""
        return {"since": self.since, "told": dict(self.told)}

    @classmethod
    def from_json(cls, value: object, *, now: float) -> Mark:
        """Return the mark; a ``value`` that is none is a beginning ``now``."""
        kept = as_mapping(value)
        since = kept.get("since")
        if not isinstance(since, (int, float)) or isinstance(since, bool):
            return cls.beginning(now)
        told = as_mapping(kept.get("told")).items()
        return cls(
            float(since), {str(name): float(end) for name, end in told if isinstance(end, (int, float))}
        )


@dataclass(frozen=True)
class News:
    """What a look at the list has brought.

    :param jobs: those whose end is to be told, in the order of their ends.
    :param missed: how many more have ended, too long ago to be told.
    :param mark: what has been told once they are.
    """

    jobs: list[Job]
    missed: int
    mark: Mark


def news(jobs: Iterable[Job], mark: Mark, *, now: float, catch_up: float) -> News:
    """Return the ends that have not been told.

    :param jobs: every job of interest that the list shows, in any order.
    :param mark: what has been told.
    :param now: the current time in epoch seconds.
    :param catch_up: seconds after which an end is not told any more.
    """
    fresh: dict[str, tuple[float, Job]] = {}
    for job in jobs:
        name = str(job.get("name"))
        if outcome(str(job.get("state"))).ended and name not in mark.told:
            ended = _end(job, now)
            if ended >= mark.since:
                fresh[name] = ended, job
    in_time = {name: found for name, found in fresh.items() if found[0] >= now - catch_up}
    ends = {**mark.told, **{name: ended for name, (ended, _) in fresh.items()}}
    since = max(mark.since, max(ends.values(), default=mark.since) - LAG)
    return News(
        [job for _, job in sorted(in_time.values(), key=lambda found: found[0])],
        len(fresh) - len(in_time),
        Mark(since, {name: ended for name, ended in ends.items() if ended >= since}),
    )


def _end(job: Job, now: float) -> float:
    """Return when a job ended, as well as it is known. Nothing ends in the future, whatever the API says."""
    times = (parse_time(job.get(key)) for key in ("endTime", "updateTime"))
    return min(next((time for time in times if time is not None), now), now)
