"""What is wrong with a data set, and where."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

ERROR = "error"
WARNING = "warning"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    :param code: what it is, for programs: ``role``, ``duplicate_key`` …
    :param message: what it is, for people.
    :param path: the field, such as ``contents[1].parts[0].text``; empty for the whole line.
    :param severity: ``error`` where the format is broken, ``warning`` where Google may have moved.
    :param line: the line, from 1; ``None`` for the whole file.
    :param file: the file's URI.
    """

    code: str
    message: str
    path: str = ""
    severity: str = ERROR
    line: int | None = None
    file: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (place, self.path, f"{self.severity}: {self.message}") if part)

    def as_json(self) -> bytes:
        """Return the problem as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False).encode("utf-8", "replace") + b"\n"


class Report:
    """Takes all problems: counts them, keeps the first ones, hands each on.

    :param sink: called with each problem.
    :param keep: how many of the first are kept.
    :param strict: whether every warning is an error.
    """

    def __init__(
        self, sink: Callable[[Problem], object] | None = None, *, keep: int = 50, strict: bool = False
    ) -> None:
        self._sink = sink
        self._keep = keep
        self._strict = strict
        self.first: list[Problem] = []
        self.codes: Counter[str] = Counter()
        self.errors = 0
        self.warnings = 0

    def add(self, problem: Problem) -> None:
        """Take a problem."""
        if self._strict and problem.severity == WARNING:
            problem = replace(problem, severity=ERROR)
        if problem.severity == ERROR:
            self.errors += 1
        else:
            self.warnings += 1
        self.codes[problem.code] += 1
        if len(self.first) < self._keep:
            self.first.append(problem)
        if self._sink is not None:
            self._sink(problem)

    def summary(self) -> str:
        """Return the numbers, and the first problems, for the log."""
        text = f"{self.errors} errors, {self.warnings} warnings"
        left = self.errors + self.warnings - len(self.first)
        lines = [text + (":" if self.first else "."), *map(str, self.first)]
        return "\n".join([*lines, f"… and {left} more."] if left else lines)


class BrokenDataError(ValueError):
    """A data set that cannot be used.

    :param message: what is wrong.
    """
