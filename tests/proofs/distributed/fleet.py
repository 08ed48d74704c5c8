"""A run of a DAG with many tuning tasks, and the jobs that belong to them."""

from __future__ import annotations

import collections
from collections.abc import Collection
from typing import Any

from testbed.services import StepError, wait_until
from tests.proofs.distributed.machine import Machine

ENDED = ("JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED")
BROKEN_INPUT = {"code": 3, "message": "The dataset is malformed."}
FINAL = ("success", "failed", "upstream_failed", "skipped", "removed")
Jobs = dict[int, list[dict[str, Any]]]


class Fleet:
    """A run, its tasks and their jobs.

    :param count: how many tasks there are, one for each map index.
    :param conf: more configuration of the run.
    """

    def __init__(self, machine: Machine, count: int, dag_id: str = "fleet", **conf: Any) -> None:
        self.machine, self.count = machine, count
        machine.emulator.reset()
        self.expected = dict.fromkeys(range(count), "success")
        """The state that each task has to end in; those whose job fails are set by :meth:`end_jobs`."""
        self.run_id = machine.client.trigger(dag_id, conf={"count": count, **conf})

    def jobs(self) -> Jobs:
        """Return the jobs of each task, found by the label with its map index."""
        found: Jobs = collections.defaultdict(list)
        for job in self.machine.emulator.jobs():
            found[int(job["labels"]["airflow-map-index"])].append(job)
        return found

    def instances(self) -> dict[int, tuple[str | None, int | None]]:
        """Return state and triggerer of each task instance."""
        return self.machine.instances(self.run_id, "tune")

    def wait_created(self, share: float) -> None:
        """Wait until a part of the jobs has been created."""
        wanted = max(1, int(self.count * share))
        what = f"{wanted} jobs to be created"
        wait_until(lambda: len(self.machine.emulator.jobs()) >= wanted, timeout=240, what=what, interval=0.2)

    def wait_deferred(self, timeout: float = 600) -> None:
        """Wait until a triggerer watches for every task."""

        def watched() -> bool:
            now = self.instances()
            return len(now) == self.count and all(s == "deferred" and t for s, t in now.values())

        wait_until(watched, timeout=timeout, what="every task to be deferred", interval=0.5)

    def end_jobs(self, only: Collection[int] | None = None) -> None:
        """End the jobs that are under way: every fifth fails for good, which no retry of its task pays for again."""
        for index, jobs in self.jobs().items():
            for job in jobs:
                if (only is not None and index not in only) or job["state"] in ENDED:
                    continue
                if index % 5 == 4:
                    self.expected[index] = "failed"
                    self.machine.emulator.set_state(job["name"], "JOB_STATE_FAILED", BROKEN_INPUT)
                else:
                    self.machine.emulator.set_state(job["name"], "JOB_STATE_SUCCEEDED")

    def wait_ended(self, only: Collection[int] | None = None, timeout: float = 600) -> None:
        """Wait until every task, or some of them, have ended."""
        wanted = range(self.count) if only is None else only

        def ended() -> bool:
            now = self.instances()
            return all(now.get(index, (None,))[0] in FINAL for index in wanted)

        wait_until(ended, timeout=timeout, what="the tasks to end", interval=0.5)

    def third(self, number: int = 0) -> range:
        """Return a third of the tasks; raise if one triggerer alone watches them."""
        chosen = range(number, self.count, 3)
        now = self.instances()
        if len({now[index][1] for index in chosen}) < 2:
            raise StepError("one triggerer watches all of the tasks that the row is about")
        return chosen
