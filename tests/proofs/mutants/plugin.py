"""A plugin for pytest that writes down how long each test takes, with all that belongs to it, and which fail."""

from __future__ import annotations

import collections
import json
import os
from pathlib import Path
from typing import Any

OUTPUT = "TIMES_OF_TESTS"
"""Environment variable that names the file."""
_seconds: dict[str, float] = collections.defaultdict(float)
_failed: set[str] = set()


def pytest_runtest_logreport(report: Any) -> None:
    """Add set-up, call and tear-down."""
    _seconds[report.nodeid] += report.duration
    if report.failed:
        _failed.add(report.nodeid)


def pytest_sessionfinish(session: Any) -> None:
    """Write, in the process that hears of all tests."""
    if not hasattr(session.config, "workerinput"):
        result = {"seconds": _seconds, "failed": sorted(_failed)}
        Path(os.environ[OUTPUT]).write_text(json.dumps(result))
