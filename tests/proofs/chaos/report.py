"""The table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed import report
from tests.proofs.chaos.points import Cell

if TYPE_CHECKING:
    from tests.proofs.chaos.phase import Phase

PAGE = report.RELIABILITY / "chaos.md"
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

    def table(self) -> list[str]:
        """Return the lines of the table."""
        return report.table(_HEAD, (self._row(cell, tally) for cell, tally in self._rows.items()))

    @staticmethod
    def _row(cell: Cell, tally: Tally) -> Sequence[object]:
        where = (cell.point.value, cell.mode.value, cell.target.value)
        if cell.not_applicable:
            return (*where, "n/a", "", "", "", cell.not_applicable)
        numbers = (tally.runs, tally.jobs, tally.orphaned, tally.duplicates)
        return (*where, *numbers, f"{tally.ended_well} of {tally.runs}")

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

    def write(self, arguments: Sequence[str]) -> None:
        """Put everything into the documentation."""
        command = " ".join(["python -m tests.proofs.chaos", *arguments])
        report.put(PAGE, "table", f"{report.circumstances()}; `{command}`", "", *self.table())
        report.put(PAGE, "summary", f"**{self.summary()}**")
