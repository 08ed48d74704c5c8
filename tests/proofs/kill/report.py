"""The kill table as text, and its place in the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from testbed import report
from tests.proofs.kill.world import Instance, World, state_of

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


def table(trials: Sequence[Trial], world: World) -> list[str]:
    """Return the lines of the table."""
    return report.table(_HEAD, (_cells(trial, world) for trial in trials))


def _cells(trial: Trial, world: World) -> tuple[str, ...]:
    row, subject = trial.row, trial.subject
    sent = ", ".join(str(request["status"]) for request in subject.cancels)
    called = str(world.on_kills(subject)) if row.where.deferred else "-"
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


def write(lines: Sequence[str], seconds: float) -> None:
    """Put the table into the documentation."""
    note = f"{report.circumstances()}, {seconds:.0f} s in all:"
    report.put(report.RELIABILITY / "kill.md", "table", note, "", *lines)
