"""Markdown tables that can be read as they are, and their places in the documentation.

A place is what stands between ``<!-- NAME: how it is made -->`` and ``<!-- end of NAME -->``.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from testbed.services import REPOSITORY

RELIABILITY = REPOSITORY / "docs" / "reliability"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table."""
    texts = [head, *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in texts
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def circumstances() -> str:
    """Return when and on what something is measured."""
    return (
        f"{datetime.now(timezone.utc).date()}, Airflow {version('apache-airflow')}, "
        f"Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores"
    )


def put(page: Path, name: str, *lines: str) -> None:
    """Replace what stands at a place."""
    before, _, after = _parts(page, name)
    page.write_text("\n".join([f"{before}\n", *lines, f"\n{after}"]))


def cells(page: Path, name: str) -> list[list[str]]:
    """Return the rows of the table that stands at a place, without its head."""
    lines = [line for line in _parts(page, name)[1].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def _parts(page: Path, name: str) -> tuple[str, str, str]:
    found = re.fullmatch(
        rf"(.*<!-- {name}: [^\n]*-->)(.*)(<!-- end of {name} -->.*)", page.read_text(), re.DOTALL
    )
    if found is None:
        raise ValueError(f"{page} has no place for {name}")
    return found[1], found[2], found[3]
