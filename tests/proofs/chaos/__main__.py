"""``python -m tests.proofs.chaos``: kill processes at every point of a job's life, and print a table.

Exits with 0 only if every cell is clean: one job for each task, none left under way, every task successful.
"""

from __future__ import annotations

import argparse
import fnmatch
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from testbed.services import StepError, tail
from tests.proofs.chaos.phase import Phase
from tests.proofs.chaos.points import Cell, Target, cells
from tests.proofs.chaos.report import PAGE, Report
from tests.proofs.chaos.stack import World, world

_WIDTH = 19
"""Tasks that are under way at a time."""


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.proofs.chaos", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--runs", type=int, default=20, help="task instances for each cell (default: 20)")
    parser.add_argument(
        "--only",
        metavar="CELL",
        action="append",
        help="only these cells, as POINT/MODE/KILLED with wildcards: 'polling/*/scheduler'",
    )
    parser.add_argument(
        "--write", action="store_true", help=f"write the table to docs/{PAGE.parent.name}/{PAGE.name}"
    )
    parser.add_argument("--keep", action="store_true", help="keep the directory with all logs")
    parser.add_argument("--time-limit", type=float, default=45, metavar="MINUTES", help="for everything (45)")
    arguments = parser.parse_args(words)
    if arguments.runs < 1:
        parser.error("--runs: at least 1")
    return arguments


def _chosen(patterns: Iterable[str] | None) -> list[Cell]:
    wanted = list(patterns or ["*"])
    return [cell for cell in cells() if any(fnmatch.fnmatch(str(cell), pattern) for pattern in wanted)]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _stop(*_: Any) -> None:
    raise SystemExit(143)


class _Chaos:
    def __init__(self, report: Report, time_limit: float) -> None:
        self.report = report
        self.began = time.monotonic()
        self.ends = self.began + time_limit * 60

    def run(self, place: World, chosen: Sequence[Cell], runs: int) -> None:
        """Run all phases, as many of a cell's runs at a time as there is room for."""
        number = 0
        left = {cell: runs for cell in chosen if not cell.not_applicable}
        while any(left.values()):
            for target in Target:
                mine = [cell for cell in left if cell.target is target and left[cell]]
                if not mine:
                    continue
                share = max(_WIDTH // len(mine), 1)
                batch = [cell for cell in mine for _ in range(min(share, left[cell]))]
                number += 1
                self._phase(Phase(place, f"{target.value}-{number}", target, batch))
                for cell in batch:
                    left[cell] -= 1

    def _phase(self, phase: Phase) -> None:
        if self.ends - time.monotonic() < 60:
            raise StepError("The time limit is reached.")
        began = time.monotonic()
        phase.run(reach=240, end=180, deadline=self.ends)
        self.report.add(phase)
        bad = [trial for trial in phase.trials if not trial.clean]
        _say(
            f"[{time.monotonic() - self.began:5.0f} s] {phase.run_id}: {len(phase.trials)} tasks, "
            f"{len(bad)} not clean, {time.monotonic() - began:.0f} s"
        )
        for trial in bad:
            _say(phase.story(trial))
        for job in phase.unclaimed:
            _say(f"A job of no task: {job['name']} {job['state']} {job.get('labels')}")


def main(words: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = _arguments(words)
    chosen = _chosen(arguments.only)
    if not chosen:
        _say("No such cell. A cell is POINT/MODE/KILLED, for example polling/deferrable/triggerer.")
        return 2
    signal.signal(signal.SIGTERM, _stop)
    report = Report(chosen, arguments.runs)
    directory = Path(tempfile.mkdtemp(prefix="airflow-tuning-chaos-"))
    chaos = _Chaos(report, arguments.time_limit)
    try:
        with world(directory, _WIDTH) as place:
            _say(f"[{time.monotonic() - chaos.began:5.0f} s] Airflow and the emulator are up")
            chaos.run(place, chosen, arguments.runs)
    except StepError as failure:
        _say(f"{failure}\n{tail(failure.log) if failure.log else ''}")
        report.failure = str(failure)
    except KeyboardInterrupt:
        report.failure = "Interrupted."
    finally:
        if arguments.keep:
            _say(f"Logs: {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
        report.seconds = time.monotonic() - chaos.began
        print(*report.table(), "", report.summary(), sep="\n")
    if arguments.write:
        report.write(words if words is not None else sys.argv[1:])
    return 0 if report.clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
