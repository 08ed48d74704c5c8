"""Each row of docs/troubleshooting.md is caused by a test that is there, and is said by the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(?P<message>[^`]+)` \|.*\| `(?P<test>[^`]+)` \|$", TEXT, re.MULTILINE)
CODE = "\n".join(
    path.read_text(encoding="utf-8")
    for path in (ROOT / "airflow_tuning_provider").rglob("*.py")
    if "emulator" not in path.parts
)


def test_the_rows_are_found() -> None:
    assert len(ROWS) == len(re.findall(r"^\| `", TEXT, re.MULTILINE)) >= 11


@pytest.mark.parametrize(("message", "test"), ROWS)
def test_the_test_of_each_row_is_there(message: str, test: str) -> None:
    file, _, name = test.partition("::")
    source = (ROOT / "tests" / "integration" / file).read_text(encoding="utf-8")
    assert not name or f"def {name}(" in source


@pytest.mark.parametrize(("message", "test"), ROWS)
def test_the_code_says_so(message: str, test: str) -> None:
    said = re.sub(r'"\s*f?"', "", CODE)  # strings that are split over lines
    spoken = {"location=None is not valid": "is not valid"}.get(message, message)
    assert spoken in said
