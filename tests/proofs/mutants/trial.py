"""Which tests execute which line, and whether they notice a mutant."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

from coverage import CoverageData

from tests.proofs.mutants import plugin
from tests.proofs.mutants.sample import Mutant, lines_run_with

PACKAGE = "airflow_tuning_provider"
# What `make test-fast` runs, but for the emulator's tests, which execute nothing of what is mutated.
TESTS = ("tests", "-m", "not e2e", "--ignore=tests/emulator")
# These look at the code from outside, as text or in a process of its own, and are run last for each mutant.
FROM_OUTSIDE = "tests/unit/test_*.py"
MOST_FAILURES = 10


def copy(repository: Path, target: Path) -> None:
    """Copy what belongs to the repository, as it is now."""
    shutil.rmtree(target, ignore_errors=True)
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (repository / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(repository / name, target / name)


def _environment(place: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(place), "PYTHONHASHSEED": "0"}


class Coverage:
    """The tests by the lines that they execute, and how long each takes.

    Tests that fail without any mutant, as one that measures time may on a busy machine, are not asked.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._data = CoverageData(str(place / ".coverage"))
        self._data.read()
        times = json.loads((place / "times.json").read_text())
        self.failed: list[str] = times["failed"]
        self._seconds: dict[str, float] = {
            test: seconds for test, seconds in times["seconds"].items() if test not in self.failed
        }

    @classmethod
    def measure(cls, place: Path, processes: int) -> Coverage:
        """Run all tests once, in a copy of the repository; raise if they cannot be run, or many fail."""
        command = [sys.executable, "-m", "pytest", *TESTS, "-q", "--numprocesses", str(processes)]
        command += ["-p", plugin.__name__, f"--cov={PACKAGE}", "--cov-context=test", "--cov-report="]
        env = {**_environment(place), plugin.WRITE: str(place / "times.json")}
        done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, check=False)
        measured = cls(place) if done.returncode in (0, 1) else None
        if measured is None or len(measured.failed) > MOST_FAILURES:
            raise RuntimeError(f"without any mutant:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
        return measured

    def tests_of(self, mutant: Mutant) -> list[str]:
        """Return the tests that execute what a mutant changes, fast ones first."""
        path = self._place / mutant.path
        lines = lines_run_with(path.read_text(), mutant.line, mutant.column)
        contexts = self._data.contexts_by_lineno(str(path))
        found = {name.rpartition("|")[0] for line in lines for name in contexts.get(line, ())}
        return sorted(found & self._seconds.keys(), key=self._seconds.__getitem__)

    def fastest(self, count: int) -> list[str]:
        """Return the fastest of all tests."""
        return sorted(self._seconds, key=self._seconds.__getitem__)[:count]

    def run(self, place: Path, tests: list[str]) -> str | None:
        """Run tests in a copy of the repository until one fails; return what failed."""
        seconds = 3 * sum(self._seconds.get(test, 10.0) for test in tests) + 90
        return run(place, tests, seconds, self._place / "times.json")


def try_mutant(mutant: Mutant, place: Path, coverage: Coverage) -> dict[str, Any]:
    """Run the tests that a mutant concerns in a copy of the repository, and return what came of it.

    A test that fails has to fail twice.

    :return: ``noticed`` by what, ``None`` for nothing; how many ``tests`` there were, and the ``seconds``.
    """
    path = place / mutant.path
    source = path.read_text()
    concerned = coverage.tests_of(mutant)
    tests = [*concerned, *from_outside(place)]
    began = time.monotonic()
    try:
        _write(path, mutant.code(source))
        noticed = coverage.run(place, tests)
        while noticed in tests and coverage.run(place, [noticed]) is None:
            tests.remove(noticed)
            noticed = coverage.run(place, tests)
    finally:
        _write(path, source)
    return {
        "mutant": list(mutant),
        "noticed": noticed,
        "tests": len(concerned),
        "seconds": round(time.monotonic() - began, 1),
        "diff": mutant.diff(source),
    }


def from_outside(place: Path) -> list[str]:
    """Return the files of the tests that look from outside."""
    return sorted(str(path.relative_to(place)) for path in place.glob(FROM_OUTSIDE))


def _write(path: Path, source: str) -> None:
    path.write_text(source)
    # What was compiled a moment ago may have the same time and size.
    Path(cache_from_source(str(path))).unlink(missing_ok=True)


_running: set[int] = set()


def end_running() -> None:
    """Kill all tests that are under way."""
    for pid in list(_running):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def run(place: Path, tests: list[str], seconds: float, times: Path) -> str | None:
    """Run tests in a copy of the repository until one fails.

    :param seconds: for all of them together.
    :param times: file with the time that each takes without any mutant.
    :return: what failed.
    """
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", plugin.__name__]
    log = place / "output"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, *tests],
            cwd=place,
            env={**_environment(place), plugin.READ: str(times)},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _running.add(process.pid)
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        return "the time limit"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        _running.discard(process.pid)
    if status == 0:
        return None
    if status < 0:
        raise InterruptedError(f"the tests were ended by signal {-status}")
    found = re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", log.read_text(errors="replace"), re.MULTILINE)
    return found[0] if found else "an import"
