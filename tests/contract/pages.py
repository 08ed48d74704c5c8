"""What the documentation says about the expectations: which are proven, and by whom."""

from __future__ import annotations

import json

from testbed import report
from testbed.services import REPOSITORY
from tests.contract import recording
from tests.contract.expectations import EXPECTATIONS, Expectation

EMULATOR_PAGE = REPOSITORY / "docs" / "emulator.md"
NAME = "assumptions"

NEVER_RUN = (
    "**What you may rely on: everything here is tested against the emulator that comes with it. "
    "It was never run against Google yet.**"
)
RUN_ONCE = (
    "**What you may rely on: everything here is tested against the emulator that comes with it, and the emulator "
    "against answers of Google that were recorded on {date}; see [what is proven by whom](emulator.md#assumptions).**"
)
TOLD_AT = (
    "README.md",
    *(
        f"docs/{name}.md"
        for name in ("concepts", "deployment", "emulator", "reliability", "testing-your-dags")
    ),
)
"""The pages that begin with the sentence."""


def sentence(page: str) -> str:
    """Return what a reader of a page may rely on, in one sentence."""
    if not recording.GOOGLE.exists():
        return NEVER_RUN
    date = json.loads(recording.GOOGLE.read_text())["recorded"]
    text = RUN_ONCE.format(date=date)
    return text.replace("(emulator.md", "(docs/emulator.md") if page == "README.md" else text


def lines() -> list[str]:
    """Return the list of assumptions, and what is proven."""
    said = recording.load()
    proven = [e for e in EXPECTATIONS if e.name in recording.recorded()]
    assumed = [e for e in EXPECTATIONS if e not in proven]
    text = [
        "Expected of Google without a proof: nobody has recorded an answer yet. *Documented* is whether Google's own "
        "pages say so.",
        "",
        *_table(assumed),
    ]
    if proven:
        text += [
            "",
            "Recorded from Google:",
            "",
            *report.table(("expectation", "Google"), [(e.says, said[e.name]["outcome"]) for e in proven]),
        ]
    return text


def _table(expectations: list[Expectation]) -> list[str]:
    rows = [(e.says, e.documented, "does it" if e.emulator else "does not") for e in expectations]
    return report.table(("expectation", "documented", "the emulator"), rows)


def write() -> None:
    """Bring the page of the emulator up to date."""
    report.put(EMULATOR_PAGE, NAME, *lines())
