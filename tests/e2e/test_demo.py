"""`make demo` as a visitor sees it: at a terminal, stopped with Ctrl-C; and when something is broken."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import requests

REPOSITORY = Path(__file__).parents[2]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@contextmanager
def demo_at_a_terminal() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "demo"],
        cwd=REPOSITORY,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: _make_controlling(theirs),
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)
        os.close(ours)


def _make_controlling(terminal: int) -> None:
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def read_until(process: subprocess.Popen[bytes], terminal: int, marks: str, seen: set[int]) -> str:
    """Read the terminal until one of the marks is there, and collect what the demo has started."""
    text = ""
    deadline = time.monotonic() + 240
    while not re.search(marks, text):
        assert time.monotonic() < deadline, text
        seen |= {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
        if select.select([terminal], [], [], 0.5)[0]:
            try:
                text += os.read(terminal, 65536).decode()
            except OSError:  # the other end is closed
                break
    return text


def still_running(pids: set[int]) -> list[str]:
    left = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE:
                left.append(f"{pid} {process.cmdline()}")
        except psutil.NoSuchProcess:
            pass
    return left


def repository_files() -> set[Path]:
    """Return what is in the places where the demo works, without compiled Python."""
    places = (REPOSITORY / "demo", REPOSITORY / "example_dags")
    inside = {path for place in places for path in place.rglob("*") if "__pycache__" not in path.parts}
    return inside | {path for path in REPOSITORY.iterdir() if not path.name.startswith(".")}


def test_the_demo_shows_its_result_stays_until_ctrl_c_and_leaves_nothing_running() -> None:
    seen: set[int] = set()
    before = repository_files()
    with demo_at_a_terminal() as (process, terminal):
        text = read_until(process, terminal, r"Ctrl-C stops|The demo failed", seen)
        assert "The demo failed" not in text
        assert re.search(r"tuned model +projects/\d+/locations/us-central1/models/\S+", text)
        assert "verdict       The candidate is better: accuracy" in text
        assert re.search(r"promoted +support-router: projects/", text)
        report = re.search(r"the report +(http://127\.0\.0\.1:\S+)", text)
        assert report is not None
        assert "The candidate is better" in requests.get(report[1], timeout=10).text
        assert re.search(r"http://127\.0\.0\.1:\d+/dags/retrain_weekly/runs/manual__", text)
        assert len(seen) >= 6

        os.write(terminal, b"\x03")
        rest = read_until(process, terminal, "stopping", seen)
        assert "stopping" in rest
        assert process.wait(40) == 0
    assert still_running(seen) == []
    assert repository_files() == before


def test_a_demo_that_fails_says_where_and_shows_the_log(tmp_path: Path) -> None:
    # A storage emulator that does not start.
    (tmp_path / "gcp_storage_emulator.py").write_text("raise SystemExit('no storage today')")
    done = subprocess.run(
        [sys.executable, "-m", "demo"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "The storage emulator ended with status 1" in done.stdout
    assert "no storage today" in done.stdout


def demo(*arguments: str, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run the demo without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "demo", *arguments],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def test_help_starts_nothing() -> None:
    done = demo("--help", timeout=60)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: python -m demo")
    assert "starting" not in done.stdout
    assert demo("--what", timeout=60).returncode == 2


def test_without_a_terminal_it_ends_without_an_address_that_is_gone() -> None:
    done = demo(timeout=400)
    assert done.returncode == 0, done.stdout
    before, _, after = done.stdout.partition("finished")
    assert "http://127.0.0.1" in before
    assert "verdict       The candidate is better" in after
    assert re.search(r"report +gs://my-tuning-data/support-router/\S+/report\.html", after)
    assert "http://127.0.0.1" not in after
    assert after.rstrip().endswith("At a terminal it stays up, for you to look around.")
