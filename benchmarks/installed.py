"""What installing something over ``apache-airflow`` adds; run with the environment's own Python.

python -m benchmarks.installed DISTRIBUTION
"""

from __future__ import annotations

import importlib.metadata as metadata
import json
import re
import sys
from pathlib import Path

from packaging.requirements import Requirement


def closure(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """Return the distributions that installing one brings, itself included."""
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(name, extras)]
    while waiting:
        current, wanted = waiting.pop()
        key = (re.sub(r"[-_.]+", "-", current).lower(), wanted)
        if key in seen:
            continue
        try:
            needed = metadata.distribution(current).requires or []
        except metadata.PackageNotFoundError:
            continue
        seen.add(key)
        for text in needed:
            requirement = Requirement(text)
            environments = [{"extra": extra} for extra in wanted] or [{"extra": ""}]
            if requirement.marker is None or any(map(requirement.marker.evaluate, environments)):
                waiting.append((requirement.name, frozenset(requirement.extras)))
    return {name for name, _ in seen}


def megabytes(name: str) -> float:
    """Return the size of a distribution's files."""
    files = metadata.distribution(name).files or []
    paths = (Path(str(file.locate())) for file in files)
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


def main() -> None:
    """Print the packages and megabytes that the distribution adds, itself aside, as JSON."""
    added = closure(sys.argv[1]) - closure("apache-airflow") - {sys.argv[1]}
    own = megabytes(sys.argv[1]) if len(sys.argv) > 2 else 0.0
    figures = {"packages": len(added), "megabytes": sum(map(megabytes, added)) + own, "names": sorted(added)}
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
