"""A plugin for pytest that writes down how long each test takes and which fail, and gives each its time limit later.

The environment names the file in which it writes, or from which it reads.
"""

from __future__ import annotations

import collections
import json
import os
from pathlib import Path
from typing import Any

import pytest

WRITE, READ = "WRITE_TIMES_OF_TESTS", "READ_TIMES_OF_TESTS"
_seconds: dict[str, float] = collections.defaultdict(float)
_failed: set[str] = set()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let no test take much longer than it did."""
    if READ in os.environ:
        seconds = json.loads(Path(os.environ[READ]).read_text())["seconds"]
        for item in items:
            item.add_marker(pytest.mark.timeout(5 * seconds.get(item.nodeid, 10) + 15), append=False)


def pytest_runtest_logreport(report: Any) -> None:
    """Add set-up, call and tear-down."""
    _seconds[report.nodeid] += report.duration
    if report.failed:
        _failed.add(report.nodeid)


def pytest_sessionfinish(session: Any) -> None:
    """Write, in the process that hears of all tests."""
    if WRITE in os.environ and not hasattr(session.config, "workerinput"):
        result = {"seconds": _seconds, "failed": sorted(_failed)}
        Path(os.environ[WRITE]).write_text(json.dumps(result))
