"""The table."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from tests.proofs.chaos.points import MEANING, Cell, Point

if TYPE_CHECKING:
    from tests.proofs.chaos.phase import Phase

_HEAD = ("Point", "Mode", "Killed", "Runs", "Jobs created", "Orphaned", "Duplicates", "Ended as they should")


@dataclass
class Tally:
    """The numbers of one row."""

    runs: int = 0
    jobs: int = 0
    orphaned: int = 0
    duplicates: int = 0
    ended_well: int = 0
    untried: int = 0
    clean: int = 0


class Report:
    """Adds up what happened.

    :param cells: the rows.
    :param runs: how many runs there should be for each row.
    """

    def __init__(self, cells: Sequence[Cell], runs: int) -> None:
        self._runs = runs
        self._rows = {cell: Tally() for cell in cells}
        self._unclaimed = 0
        self.seconds = 0.0
        self.failure = ""

    def add(self, phase: Phase) -> None:
        """Add a phase."""
        self._unclaimed += len(phase.unclaimed)
        for trial in phase.trials:
            row = self._rows[trial.cell]
            row.runs += 1
            row.jobs += len(trial.jobs)
            row.orphaned += trial.orphaned
            row.duplicates += trial.duplicates
            row.ended_well += trial.ended_well
            row.untried += bool(trial.trouble)
            row.clean += trial.clean

    @property
    def clean(self) -> bool:
        """Whether everything was tried, and nothing went wrong."""
        tried = [row for cell, row in self._rows.items() if not cell.not_applicable]
        return (
            not self.failure
            and not self._unclaimed
            and all(row.runs == row.clean == self._runs for row in tried)
        )

    def table(self) -> str:
        """Return the table in Markdown, which is readable as it is."""
        rows = [_HEAD, *(self._row(cell, tally) for cell, tally in self._rows.items())]
        widths = [max(len(row[column]) for row in rows if len(row) > column) for column in range(len(_HEAD))]
        lines = [
            "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"
            for row in rows
        ]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        return "\n".join(lines)

    @staticmethod
    def _row(cell: Cell, tally: Tally) -> tuple[str, ...]:
        where = (cell.point.value, cell.mode.value, cell.target.value)
        if cell.not_applicable:
            return (*where, "n/a", "", "", "", cell.not_applicable)
        numbers = (tally.runs, tally.jobs, tally.orphaned, tally.duplicates)
        return (*where, *map(str, numbers), f"{tally.ended_well} of {tally.runs}")

    def summary(self) -> str:
        """Return the sum of all rows."""
        rows = list(self._rows.values())
        runs = sum(row.runs for row in rows)
        text = (
            f"{runs} tasks, {sum(row.jobs for row in rows)} jobs: {sum(row.duplicates for row in rows)} duplicates, "
            f"{sum(row.orphaned for row in rows) + self._unclaimed} orphans, "
            f"{runs - sum(row.ended_well for row in rows)} lost, in {self.seconds / 60:.1f} min."
        )
        if untried := sum(row.untried for row in rows):
            text += f" {untried} were not at their point when it happened."
        if self._unclaimed:
            text += f" {self._unclaimed} of the orphans belong to no task."
        if self.failure:
            text += f" Not completed: {self.failure}"
        return text

    def page(self, arguments: Sequence[str]) -> str:
        """Return the page for the documentation."""
        command = " ".join(["python -m tests.proofs.chaos", *arguments])
        points = "\n".join(f"- **{point.value}**: {MEANING[point]}" for point in Point)
        versions = ", ".join(
            f"{name} {version(name)}" for name in ("airflow-tuning-provider", "apache-airflow")
        )
        today = datetime.datetime.now(datetime.timezone.utc).date()
        return f"""# What happens when processes die

A tuning job costs money, and `tuningJobs.create` has no request id. So every task instance must end with exactly one
job, whatever is killed and whenever. This page is written by `make chaos`, which kills processes of a real Airflow
(scheduler, triggerer, API server, LocalExecutor, SQLite) with SIGKILL and counts the jobs that the
[emulator](../emulator.md) has. How it works: [tests/proofs/chaos](../../tests/proofs/chaos/README.md).

**{self.summary()}**

{today}, {versions}, Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores; `{command}`

- **Killed**: the *task* process, the *triggerer* or the *scheduler*. What a killed component leaves behind goes on:
  after the death of a scheduler its LocalExecutor workers and their tasks, while the next scheduler starts
  the same tasks again.
- **Duplicate**: a second job for one task instance (by the label `airflow-job-key`).
- **Orphaned**: a job that is still under way although its task has reached a final state, or that belongs to no task.
- **Ended as they should**: tasks that succeeded, with the result of their one job. All others are lost.

What this does not show, because nothing can be done about it without a request id:

- A create that reaches the server, or becomes visible in `list`, later than the next attempt looks. The next attempt
  looks when `retry_delay` has passed (five minutes by default in Airflow, one second here).
- Two attempts at a time of which one is frozen between its lookup and its create. Airflow ends the first attempt some
  seconds after it has started the second one; that a process is frozen just there and wakes up in these seconds
  is not tried.

The points:

{points}

{self.table()}
"""
