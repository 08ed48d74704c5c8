"""Seconds, memory and modules that importing something adds to a process that has Airflow's SDK already.

python -m benchmarks.import_cost MODULE [MODULE ...]
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
import time
from pathlib import Path


def resident_megabytes() -> float:
    """Return the memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def main() -> None:
    """Import what is named on the command line, and print what it cost as JSON."""
    importlib.import_module("airflow.sdk")
    for name in ("BaseOperator", "BaseSensorOperator", "BaseHook", "BaseOperatorLink", "Asset", "DAG"):
        getattr(sys.modules["airflow.sdk"], name)  # these are imported lazily, and every DAG file has them
    importlib.import_module("airflow.triggers.base")
    gc.collect()
    modules, memory, start = len(sys.modules), resident_megabytes(), time.perf_counter()
    for name in sys.argv[1:]:
        importlib.import_module(name)
    seconds = time.perf_counter() - start
    figures = {
        "milliseconds": seconds * 1000,
        "megabytes": max(resident_megabytes() - memory, 0.01),
        "modules": len(sys.modules) - modules,
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
