"""The kill table as text, and its place in the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from testbed import report
from tests.proofs.kill.world import Instance, state_of

if TYPE_CHECKING:
    from tests.proofs.kill.__main__ import Trial

_HEAD = (
    "what happened",
    "where",
    "task",
    "`:cancel`",
    "job",
    "task instance",
    "tries",
    "`on_kill`",
    "expected",
)


def table(trials: Sequence[Trial]) -> list[str]:
    """Return the lines of the table."""
    return report.table(_HEAD, map(_cells, trials))


def _cells(trial: Trial) -> tuple[str, ...]:
    row, subject = trial.row, trial.subject
    sent = ", ".join(str(request["status"]) for request in subject.cancels)
    called = str(trial.on_kills) if row.where.deferred else "-"
    return (
        row.action.value,
        row.where.value,
        row.task.value,
        f"{len(subject.cancels)} ({sent})" if sent else "0",
        _jobs(subject),
        subject.state,
        str(subject.tries),
        called,
        "yes" if not trial.deviations else "**NO**",
    )


def _jobs(instance: Instance) -> str:
    return ", then a new one: ".join(state_of(job) for job in instance.jobs)


def write(lines: Sequence[str], seconds: float, *, again: int) -> None:
    """Put the table into the documentation.

    :param again: how many rows were tried twice.
    """
    note = f"{report.circumstances()}, {seconds:.0f} s in all"
    if again:
        note += f"; {again} of the rows, which differed at first, were tried once more by themselves"
    note += ":"
    report.put(report.RELIABILITY / "kill.md", "table", note, "", *lines)
