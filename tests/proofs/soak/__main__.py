"""Run the fault soak: ``python -m tests.proofs.soak [--tasks 200] [--seed 1] [--write] [--verbose]``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile

MOST = 2.0
"""How many times the requests of a run without faults a run with faults may make."""


def main() -> int:
    """Soak once without faults and once with, compare, and return 1 on any deviation."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.soak", description=__doc__)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--write", action="store_true", help="also write the figures into docs/reliability/soak.md"
    )
    parser.add_argument("--verbose", action="store_true", help="show what tasks and triggers say")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as home:
        # Before anything imports Airflow, which makes itself at home there.
        os.environ["AIRFLOW_HOME"] = home
        os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "INFO" if arguments.verbose else "CRITICAL"
        return compare(arguments)


def compare(arguments: argparse.Namespace) -> int:
    """Make both runs and report."""
    from tests.proofs.soak.plan import SHARE
    from tests.proofs.soak.report import lines_of, write
    from tests.proofs.soak.run import soak

    if not arguments.verbose:
        logging.disable(logging.CRITICAL)
    calm, rough = soak(arguments.tasks, seed=arguments.seed, shares=(0.0, SHARE))
    lines = lines_of(calm, rough, seed=arguments.seed)
    print(*lines, sep="\n")
    deviations = [f"without faults: {text}" for text in calm.deviations] + rough.deviations
    ratio = rough.requests / calm.requests
    if ratio > MOST:
        deviations.append(f"{ratio:.2f} times the requests of the run without faults, more than {MOST:g}")
    print(*deviations, sep="\n")
    print(f"{arguments.tasks} tasks, {len(deviations)} deviations, {ratio:.2f} times the requests")
    if arguments.write and not deviations:
        write(lines)
    return 1 if deviations else 0


if __name__ == "__main__":
    sys.exit(main())
