"""Check a data set, or decode its lines and do nothing else: ``python -m benchmarks.validator ours|bare FILE``."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import in_process

_WORDS = "the parcel came late and one of: filter, kettle, scale was not in the box "


@contextmanager
def data_set(lines: int, characters: int) -> Iterator[Path]:
    """Yield a file of so many examples, each with so many characters of text.

    :param lines: how many.
    :param characters: of the question.
    """
    text = (_WORDS * (characters // len(_WORDS) + 1))[:characters]
    turn = '{"role": "%s", "parts": [{"text": "%s"}]}'
    turns = f'{{"contents": [{turn % ("user", "%d %s")}, {turn % ("model", "%s")}]}}\n'
    with tempfile.TemporaryDirectory(prefix="bench-validator-") as directory:
        path = Path(directory) / "train.jsonl"
        with path.open("w") as file:
            for at in range(0, lines, 10_000):
                block = range(at, min(at + 10_000, lines))
                file.write(
                    "".join(turns % (i, text, ("returns", "order_status", "billing")[i % 3]) for i in block)
                )
        yield path


def measure(path: Path) -> dict[str, Any]:
    """Return seconds and megabytes of both ways, each in a process of its own.

    :param path: the data set.
    """
    return {kind: in_process("benchmarks.validator", kind, path, timeout=1800) for kind in ("bare", "ours")}


def bare() -> Callable[[Path], None]:
    """Return what decodes each line into typed structs."""
    import msgspec

    part = msgspec.defstruct("Part", [("text", str)])
    content = msgspec.defstruct("Content", [("role", str), ("parts", list[part])])  # type: ignore[valid-type]
    example = msgspec.defstruct("Example", [("contents", list[content])])  # type: ignore[valid-type]
    decode = msgspec.json.Decoder(example).decode

    def run(path: Path) -> None:
        with path.open("rb") as file:
            for line in file:
                decode(line)

    return run


def ours() -> Callable[[Path], None]:
    """Return what checks the file."""
    from airflow_tuning_provider.datasets.problems import Report
    from airflow_tuning_provider.datasets.rules import rules_for
    from airflow_tuning_provider.datasets.validating import Validator

    report = Report()
    validator = Validator(rules_for("gemini-3.5-flash"), report)

    def run(path: Path) -> None:
        seen = validator.validate(partial(path.open, "rb"), str(path))
        if report.errors or not seen.examples:
            raise AssertionError(report.summary())

    return run


def main() -> None:
    """Do one of the two, and print what it took."""
    path = Path(sys.argv[2])
    run = ours() if sys.argv[1] == "ours" else bare()
    began = time.process_time()
    run(path)
    seconds = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {"seconds": seconds, "megabytes": peak, "bytes": path.stat().st_size}
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
