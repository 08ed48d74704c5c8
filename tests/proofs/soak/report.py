"""The soak's figures as text, and their place in the documentation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from testbed import report
from tests.proofs.soak.plan import Fate, Fault
from tests.proofs.soak.run import Figures, Result


def lines_of(calm: Figures, rough: Figures, *, seed: int) -> list[str]:
    """Return the figures of a run without faults and of one with, in Markdown that can be read as it is."""
    kinds = sorted(calm.calls | rough.calls)
    calls = [(kind, str(calm.calls[kind]), str(rough.calls[kind])) for kind in kinds if kind != "token"]
    calls.append(
        ("all", str(calm.requests), f"{rough.requests} ({rough.requests / calm.requests:.2f} times)")
    )
    if "token" in kinds:
        calls.append(("for tokens, beside that", str(calm.calls["token"]), str(rough.calls["token"])))
    faults = [(fault.value, str(rough.faults[fault])) for fault in Fault]
    total = sum(rough.faults.values())
    share = total / sum(rough.calls.values())
    faults.append(("all", f"{total} ({share:.0%} of all calls)"))
    retried = Counter(one.attempts for one in rough.results)
    attempts = ", ".join(f"{count} in {number}" for number, count in sorted(retried.items()))
    return [
        f"Seed {seed}. {len(rough.results)} tasks: {rough.creates} creates reached the server, "
        f"{sum(rough.jobs.values())} jobs, most for one task: {max(rough.jobs.values())}. "
        f"Attempts: {attempts}. {calm.seconds:.0f} s without faults, {rough.seconds:.0f} s with.",
        "",
        *report.table(("how the job ended", "tasks", "ended as their job"), _ends(rough.results)),
        "",
        *report.table(("requests", "without faults", "with faults"), calls),
        "",
        *report.table(("fault", "calls"), faults),
    ]


def _ends(results: Sequence[Result]) -> list[tuple[str, str, str]]:
    rows = []
    for fate in Fate:
        those = [one for one in results if one.plan.fate is fate]
        rows.append((fate.value, str(len(those)), str(sum(one.as_its_job for one in those))))
    strange = [one for one in results if one.plan.strange]
    rows.append(
        ("of all, through an unknown state", str(len(strange)), str(sum(one.as_its_job for one in strange)))
    )
    return rows


def write(lines: Sequence[str]) -> None:
    """Put the figures into the documentation."""
    report.put(report.RELIABILITY / "soak.md", "figures", f"{report.circumstances()}:", "", *lines)
