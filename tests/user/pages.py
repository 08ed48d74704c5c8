"""Puts the files of the project into the pages that show them: ``python -m tests.user.pages``."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).parent / "project"
DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "testing-your-dags.md"
PAGES = (PAGE, DOCS / "concepts.md")
_BLOCK = re.compile(r"<!-- file: (\S+)(?: (\S+))? -->\n```(\w+)\n(.*?)```\n", re.DOTALL)


def part(name: str, region: str | None) -> str:
    """Return a file of the project, or what stands in it between ``# [region]`` and ``# [end]``."""
    text = (PROJECT / name).read_text()
    if region is not None:
        found = re.search(rf"# \[{region}\]\n(.*?)# \[end\]\n", text, re.DOTALL)
        if found is None:
            raise ValueError(f"{name} has no part {region}")
        text = found[1]
    return text.strip("\n") + "\n"


def filled(page: str) -> str:
    """Return a page with its blocks as the files are."""
    return _BLOCK.sub(
        lambda block: (
            f"<!-- file: {block[1]}{f' {block[2]}' if block[2] else ''} -->\n"
            f"```{block[3]}\n{part(block[1], block[2])}```\n"
        ),
        page,
    )


def regions() -> set[str]:
    """Return the parts that the pages show."""
    return {
        f"{name} {region}".strip() for page in PAGES for name, region, *_ in _BLOCK.findall(page.read_text())
    }


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text()))
