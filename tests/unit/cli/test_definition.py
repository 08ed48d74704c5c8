"""The commands as Airflow and as argparse take them, and what it costs to know them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from airflow_tuning_provider.cli.definition import COMMANDS, GROUP, parser
from airflow_tuning_provider.provider_info import get_provider_info


def test_all_commands_are_there() -> None:
    names = {command.name for command in COMMANDS}
    assert names == {"list", "get", "wait", "cancel", "orphans", "check", "emulator"}


def test_airflow_takes_the_same_commands() -> None:
    from airflow_tuning_provider.cli.definition import get_cli_commands

    (group,) = get_cli_commands()
    assert group.name == GROUP
    assert [item.name for item in group.subcommands] == [command.name for command in COMMANDS]
    for item, command in zip(group.subcommands, COMMANDS, strict=True):
        assert [arg.flags for arg in item.args] == [option.flags for option in command.options]


def test_airflow_finds_them_by_the_metadata() -> None:
    (path,) = get_provider_info()["cli"]
    assert path == "airflow_tuning_provider.cli.definition.get_cli_commands"


def test_to_know_them_loads_next_to_nothing() -> None:
    """Airflow imports this with each of its own commands, the workers' and the scheduler's among them."""
    code = (
        "import sys, argparse, dataclasses, importlib, typing, collections.abc; before = set(sys.modules); "
        "import airflow_tuning_provider.cli.definition as d; d.parser('x'); "
        "print(sorted(set(sys.modules) - before))"
    )
    new = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = {
        name for name in eval(new.stdout) if name.startswith(("airflow", "requests", "google", "pendulum"))
    }
    assert loaded == {
        "airflow_tuning_provider",
        "airflow_tuning_provider.cli",
        "airflow_tuning_provider.cli.definition",
        "airflow_tuning_provider.provider_info",
    }


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_each_explains_itself(command: object, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser("x").parse_args([command.name, "--help"])  # type: ignore[attr-defined]
    assert ended.value.code == 0
    assert command.help.split()[0] in capsys.readouterr().out  # type: ignore[attr-defined]
