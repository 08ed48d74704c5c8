"""docs/emulator.md and the server agree."""

from __future__ import annotations

import re
from pathlib import Path

from airflow_tuning_provider.emulator.cli import parser
from airflow_tuning_provider.emulator.faults import Fault
from airflow_tuning_provider.emulator.testing import Emulator

from .conftest import Client

TEXT = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text()


def test_every_option_is_documented() -> None:
    options = {o for action in parser()._actions for o in action.option_strings if o.startswith("--")} - {
        "--help"
    }
    assert options == set(re.findall(r"^\| `(--[a-z-]+)", TEXT, re.MULTILINE))


def test_every_field_of_a_fault_is_documented() -> None:
    shown = {
        "status",
        "headers",
        "body",
        "method",
        "path_regex",
        "times",
        "delay_seconds",
        "drop",
        "truncate_body",
    }
    assert shown - {"times"} == set(Fault.__dataclass_fields__) - {"id", "remaining", "hits"}
    assert all(f"`{name}`" in TEXT for name in shown)


def test_every_member_of_the_test_helper_is_documented() -> None:
    members = {name for name in dir(Emulator) if not name.startswith("_")} - {"control"}
    assert all(re.search(rf"`{name}[(`]", TEXT) for name in members)


def test_every_documented_control_path_is_there(call: Client) -> None:
    paths = re.findall(r"^\| `(GET|POST|DELETE) (/_emulator/[a-z/{}]+)", TEXT, re.MULTILINE)
    assert len(paths) == 14
    for method, path in paths:
        # Not the answer to an unknown path, which is HTML.
        assert call(method, path.replace("{id}", "1")).text.startswith("{")
