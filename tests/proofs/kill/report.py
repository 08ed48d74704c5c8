"""The kill table as text, and its place in the documentation."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from typing import TYPE_CHECKING

from testbed.services import REPOSITORY
from tests.proofs.kill.world import Instance, World, state_of

if TYPE_CHECKING:
    from tests.proofs.kill.__main__ import Trial

PAGE = REPOSITORY / "docs" / "reliability" / "kill.md"
BEGIN, END = "<!-- table: python -m tests.proofs.kill --write -->", "<!-- end of table -->"
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
    """Return the table, in Markdown that can be read as it is."""
    rows = [_HEAD, *(_cells(trial, world) for trial in trials)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


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
    today = datetime.now(timezone.utc).date().isoformat()
    versions = f"Airflow {version('apache-airflow')}, Python {platform.python_version()}"
    note = f"{today}, {versions}, {seconds:.0f} s in all:"
    text = PAGE.read_text()
    block = "\n".join([BEGIN, "", note, "", *lines, "", END])
    PAGE.write_text(re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: block, text, flags=re.DOTALL))
