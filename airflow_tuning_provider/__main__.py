"""``python -m airflow_tuning_provider``: the command line, also where Airflow has no room for it (3.1)."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from airflow_tuning_provider.cli.definition import parser


def main(arguments: Sequence[str]) -> None:
    """Run a command, and end the process with its exit code."""
    if arguments[:1] == ["emulator"] and arguments[1:2] != ["--"]:
        # argparse would take the emulator's options for its own.
        arguments = ["emulator", "--", *arguments[1:]]
    args = parser("python -m airflow_tuning_provider").parse_args(arguments)
    args.func(args)


if __name__ == "__main__":
    main(sys.argv[1:])
