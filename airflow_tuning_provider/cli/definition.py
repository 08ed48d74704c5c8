"""The commands and their options. Airflow imports this with each of its own commands: it loads next to nothing."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from airflow_tuning_provider.provider_info import DEFAULT_CONN_ID

GROUP = "tuning-jobs"
SUMMARY = "Look after Gemini tuning jobs on Vertex AI"

EXIT_CODES = """\
exit codes:
  0    done; for wait: the job has succeeded; for check: nothing is missing
  1    an error, told on stderr; for check: something is missing
  2    the command line cannot be understood
  3    for wait: the job has failed or expired
  4    for wait: the job was cancelled
  5    for wait: the time is up; the job goes on
  130  Ctrl-C; a job that was waited for goes on
"""


@dataclass(frozen=True)
class Option:
    """An option or an argument of a command.

    :param flags: as argparse takes them.
    :param settings: the other arguments that argparse takes.
    """

    flags: tuple[str, ...]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Command:
    """A command.

    :param name: how it is called.
    :param help: what it does, in a line.
    :param options: its options.
    """

    name: str
    help: str
    options: tuple[Option, ...] = field(default=())

    def __call__(self, args: argparse.Namespace) -> None:
        """Run the command, and end the process with its exit code."""
        if self.name == "emulator":  # a server, which has no result
            raise SystemExit(_load("commands").emulator(args))
        with _load("output").stdout_for_results() as args.out:
            code = _load("commands").run(self.name, args)
        raise SystemExit(code)


def _load(module: str) -> Any:
    return import_module(f"airflow_tuning_provider.cli.{module}")


def _option(*flags: str, **settings: Any) -> Option:
    return Option(flags, settings)


_NAME = _option("name", metavar="JOB", help="full resource name of the job, or its id")
_OUTPUT = _option(
    "-o",
    "--output",
    choices=("table", "json", "yaml", "plain"),
    default="table",
    metavar="(table, json, yaml, plain)",
    help="output format (default: table)",
)
_SCOPE = (
    _option(
        "-c", "--conn-id", default=DEFAULT_CONN_ID, help=f"Airflow connection (default: {DEFAULT_CONN_ID})"
    ),
    _option("--project-id", help="project (default: the connection's)"),
    _option("--location", help="location such as us-central1 (default: the connection's)"),
    _option("--impersonation-chain", help="service account to act as, or a comma-separated chain of them"),
    _option(
        "--api-version",
        choices=("v1", "v1beta1"),
        default="v1",
        help="v1, or v1beta1, which tells the progress",
    ),
    _option("-v", "--verbose", action="store_true", help="tell more on stderr"),
)
_YES = _option("-y", "--yes", action="store_true", help="do not ask for confirmation")

COMMANDS = (
    Command(
        "list",
        "List the tuning jobs of a location, newest first",
        (
            _option("--state", help="only jobs in this state, for example running, or JOB_STATE_RUNNING"),
            _option("-d", "--dag-id", help="only jobs that this DAG has created"),
            _option("-l", "--limit", type=int, default=50, help="most jobs to show (default: 50)"),
            *_SCOPE,
            _OUTPUT,
        ),
    ),
    Command("get", "Show a tuning job", (_NAME, *_SCOPE, _OUTPUT)),
    Command(
        "wait",
        "Wait for the end of a tuning job; Ctrl-C leaves the job alone",
        (
            _NAME,
            _option(
                "--timeout", type=float, metavar="SECONDS", help="most seconds to wait (default: no limit)"
            ),
            _option(
                "--poll-interval",
                type=float,
                default=30.0,
                metavar="SECONDS",
                help="most seconds between two looks (default: 30)",
            ),
            *_SCOPE,
            _OUTPUT,
        ),
    ),
    Command("cancel", "Ask for the cancellation of a tuning job", (_NAME, _YES, *_SCOPE)),
    Command(
        "orphans",
        "Find jobs of this Airflow that no task waits for any more, and cancel them if told so",
        (
            _option(
                "-d",
                "--dag-id",
                action="append",
                default=None,
                help="only jobs of this DAG; may be given several times (default: all DAGs)",
            ),
            _option(
                "--min-age",
                type=float,
                default=600.0,
                metavar="SECONDS",
                help="leave jobs alone that are younger than this (default: 600)",
            ),
            _option(
                "--cancel", action="store_true", help="cancel the orphans; without it, they are only shown"
            ),
            _YES,
            *_SCOPE,
            _OUTPUT,
        ),
    ),
    Command(
        "check",
        "Say what works of a connection and what is missing, with the command that mends it",
        (
            _option("--bucket", metavar="gs://BUCKET", help="also look at the bucket that data sets are in"),
            *_SCOPE,
            _OUTPUT,
        ),
    ),
    Command(
        "emulator",
        "Run the local tuning server for tests; its options follow after --",
        (
            _option(
                "arguments", nargs=argparse.REMAINDER, metavar="-- OPTIONS", help="see: emulator -- --help"
            ),
        ),
    ),
)


def get_cli_commands() -> list[Any]:
    """Return the commands as Airflow takes them, from version 3.2 on (``cli`` in the provider's metadata)."""
    from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

    return [
        GroupCommand(
            name=GROUP,
            help=SUMMARY,
            subcommands=[
                ActionCommand(
                    name=command.name,
                    help=command.help,
                    epilog=EXIT_CODES,
                    func=command,
                    args=tuple(Arg(option.flags, **option.settings) for option in command.options),
                )
                for command in COMMANDS
            ],
        )
    ]


def parser(program: str) -> argparse.ArgumentParser:
    """Return a parser of our own, for where there is no ``airflow tuning-jobs``.

    :param program: how the program is called.
    """
    root = argparse.ArgumentParser(
        program, description=SUMMARY, epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        sub = commands.add_parser(
            command.name,
            help=command.help,
            description=command.help,
            epilog=EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for option in command.options:
            sub.add_argument(*option.flags, **option.settings)
        sub.set_defaults(func=command)
    return root
