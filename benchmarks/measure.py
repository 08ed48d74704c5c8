"""Run a measurement in a process of its own, several times, and keep the medians."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Figures = dict[str, float]
ROOT = Path(__file__).parent.parent


def in_process(
    module: str, *arguments: object, python: str | Path = sys.executable, timeout: float = 600
) -> Any:
    """Run ``python -m module arguments`` and return the JSON of its last line of output.

    :param timeout: seconds after which the process is killed.
    """
    # With bytecode, as everywhere: compiling would be most of what an import takes.
    without = ("AIRFLOW", "PYTHONDONTWRITEBYTECODE")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(without)}
    environment |= {"AIRFLOW_HOME": str(ROOT / ".venvs" / "bench-home"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [str(python), "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(map(str, arguments))} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def medians(runs: Sequence[Figures]) -> Figures:
    """Return the median of each figure over several runs."""
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}
