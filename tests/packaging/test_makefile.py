"""What the Makefile's targets do with the variables that they offer."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
# A target's help names its variables: "INSTALL=1 installs an engine".
OFFERED = [
    (target, variable)
    for target, text in re.findall(
        r"^([a-z-]+):.*## (.*)", (REPOSITORY / "Makefile").read_text(), re.MULTILINE
    )
    for variable in re.findall(r"\b([A-Z]+)=", text)
]


def commands(*arguments: str) -> list[str]:
    """Return what ``make`` would run where nothing is installed."""
    command = ["make", "--dry-run", "--always-make", *arguments]
    return subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.splitlines()


@pytest.mark.parametrize(("target", "variable"), OFFERED)
def test_a_variable_reaches_its_target_and_no_installation(target: str, variable: str) -> None:
    """One that is given on the command line overrides the Makefile's own of the same name, everywhere."""
    without, given = commands(target), commands(target, f"{variable}=7")
    assert given != without
    installs = [line for line in without if "pip install" in line]
    assert installs
    assert [line for line in given if "pip install" in line] == installs


def test_the_variables_are_found() -> None:
    assert ("test-compose", "INSTALL") in OFFERED
    assert len(OFFERED) >= 4
