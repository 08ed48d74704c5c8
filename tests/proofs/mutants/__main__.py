"""Run a seeded sample of mutants: ``python -m tests.proofs.mutants [--seed 1] [--sample 100] [--at-least 92]``.

What is interrupted goes on where it was, as long as neither code nor tests have changed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import queue
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from testbed.services import REPOSITORY
from tests.proofs.mutants.sample import Mutant, read, sample
from tests.proofs.mutants.trial import PACKAGE, Coverage, copy, end_running, from_outside, try_mutant

FOLDERS = [f"{PACKAGE}/{name}" for name in ("_tasks", "operators", "sensors", "triggers", "hooks")]
PLACE = REPOSITORY / ".mutants"


def state_of_the_code() -> str:
    """Return a digest of all that decides what comes of a mutant."""
    digest = hashlib.sha256()
    for path, source in sorted(read(REPOSITORY, (PACKAGE, "tests", "testbed", "example_dags")).items()):
        digest.update(f"{path}\0{source}\0".encode())
    return digest.hexdigest()[:16]


class Mutants:
    """Tries mutants side by side, and writes down what came of each."""

    def __init__(self, drawn: list[Mutant], state: str, processes: int) -> None:
        self.drawn, self.state, self.processes = drawn, state, processes
        self.results = PLACE / f"results-{state}.jsonl"
        self.done: dict[Mutant, dict[str, Any]] = {}
        if self.results.exists():
            for result in map(json.loads, self.results.read_text().splitlines()):
                self.done[Mutant(*result["mutant"])] = result
        self._places: queue.SimpleQueue[Path] = queue.SimpleQueue()
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """Tell what goes on."""
        print(f"{time.monotonic() - self._began:6.0f} s  {text}", flush=True)

    def run(self) -> None:
        """Try what has not been tried."""
        left = [mutant for mutant in self.drawn if mutant not in self.done]
        self.say(f"{len(self.drawn)} mutants, {len(left)} of them to be tried")
        if not left:
            return
        coverage = self._coverage()
        for number in range(self.processes):
            place = PLACE / f"copy-{number}"
            copy(REPOSITORY, place)
            if failed := coverage.run(place, [*coverage.fastest(30), *from_outside(place)]):
                raise RuntimeError(f"without any mutant, tests are stopped by {failed}")
            self._places.put(place)
        pool = ThreadPoolExecutor(self.processes)
        try:
            for trial in as_completed(pool.submit(self._try, mutant, coverage) for mutant in left):
                self._note(trial.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            end_running()
            raise

    def _note(self, result: dict[str, Any]) -> None:
        with self.results.open("a") as file:
            file.write(json.dumps(result) + "\n")
        mutant = Mutant(*result["mutant"])
        self.done[mutant] = result
        end = f"noticed by {result['noticed']}" if result["noticed"] else "NOT NOTICED"
        self.say(f"{len(self.done):3} {mutant}: {end} ({result['tests']} tests, {result['seconds']} s)")

    def _coverage(self) -> Coverage:
        place = PLACE / "unchanged"
        measured = place / "measured"
        if not measured.exists() or measured.read_text() != self.state:
            copy(REPOSITORY, place)
            self.say("running all tests once, to see which execute which line")
            Coverage.measure(place, self.processes)
            measured.write_text(self.state)
        coverage = Coverage(place)
        self.say(f"tests that fail anyway, and are not asked: {', '.join(coverage.failed) or 'none'}")
        return coverage

    def _try(self, mutant: Mutant, coverage: Coverage) -> dict[str, Any]:
        place = self._places.get()
        try:
            return try_mutant(mutant, place, coverage)
        finally:
            self._places.put(place)


def main() -> int:
    """Run the sample, show what was not noticed, and return whether enough was."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.mutants", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the sample (default: %(default)s)")
    parser.add_argument("--sample", type=int, default=100, help="how many mutants (default: %(default)s)")
    parser.add_argument("--at-least", type=int, default=92, metavar="PERCENT", help="(default: %(default)s)")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="(default: one for each core)"
    )
    arguments = parser.parse_args()
    PLACE.mkdir(exist_ok=True)
    drawn = sample(read(REPOSITORY, FOLDERS), size=arguments.sample, seed=arguments.seed)
    trials = Mutants(drawn, state_of_the_code(), arguments.processes)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        trials.run()
    except KeyboardInterrupt:
        os._exit(130)  # what the threads would still say is of no use
    outcome = [trials.done[mutant] for mutant in drawn]
    unnoticed = [result for result in outcome if not result["noticed"]]
    for result in unnoticed:
        print(f"\n{Mutant(*result['mutant'])}\n{result['diff']}", end="")
    share = 100 * (len(outcome) - len(unnoticed)) / max(len(outcome), 1)
    print(
        f"\n{len(outcome) - len(unnoticed)} of {len(outcome)} mutants noticed ({share:.0f} %), seed {arguments.seed}"
    )
    return 0 if share >= arguments.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
