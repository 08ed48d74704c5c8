"""SIGKILL in the middle of a preparation, twenty times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_killed_twenty_times_nothing_half_written_is_published() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.proofs.prepare", "--kills", "20", "--rows", "6000"],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert outcome["kills"] == 20
    assert outcome["before it published"] >= 1
    assert outcome["while it published"] >= 1
