"""A plugin for pytest that writes down how long each test takes, with all that belongs to it."""

from __future__ import annotations

import collections
import json
import os
from pathlib import Path
from typing import Any

SECONDS = "SECONDS_OF_TESTS"
"""Environment variable that names the file."""
_seconds: dict[str, float] = collections.defaultdict(float)


def pytest_runtest_logreport(report: Any) -> None:
    """Add set-up, call and tear-down."""
    _seconds[report.nodeid] += report.duration


def pytest_sessionfinish(session: Any) -> None:
    """Write, in the process that hears of all tests."""
    if not hasattr(session.config, "workerinput"):
        Path(os.environ[SECONDS]).write_text(json.dumps(_seconds))
