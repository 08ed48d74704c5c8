"""``make contract-live``, with a second emulator in Google's place: it asks, spends little, records and cleans up."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_tuning_provider.emulator.testing import Emulator
from tests.contract import recording
from tests.contract.__main__ import LIMIT_USD, most_usd, training_set
from tests.contract.conftest import conversation, many_old_jobs, stand_in
from tests.contract.expectations import EXPECTATIONS
from tests.contract.session import MOST_JOBS, BudgetError, Session
from tests.emulator.storage import BUCKET, Storage

PROJECT = "somebodys-project"
TOKEN = "token-of-somebody"
RUNNING = ("JOB_STATE_QUEUED", "JOB_STATE_PENDING", "JOB_STATE_RUNNING")


@pytest.fixture
def google(data: Storage) -> Iterator[Emulator]:
    """A server that stands in for Google; no job ends by itself within a test."""
    with stand_in(data, speed=10, token=TOKEN) as emulator:
        many_old_jobs(emulator, PROJECT)
        yield emulator


def started(google: Emulator, data: Storage, target: Path, *more: str) -> subprocess.Popen[str]:
    """Start the script as ``make contract-live`` does, but for the endpoint."""
    command = [sys.executable, "-m", "tests.contract", "live", "--project", PROJECT, "--bucket", BUCKET]
    command += ["--location", "us-central1", "--endpoint", google.url, "--recording", str(target)]
    command += ["--pause", "0.05", "--patience", "60", *more]
    env = {**os.environ, "STORAGE_EMULATOR_HOST": data.url, "CONTRACT_TOKEN": TOKEN}
    return subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def jobs_begun(google: Emulator) -> list[dict[str, object]]:
    return [job for job in google.jobs() if job["labels"] != {"team": "a"}]


def succeed_after_a_failure(google: Emulator) -> None:
    """Let the job succeed that is created after one has failed: the one that is run to its end."""
    with contextlib.suppress(OSError):
        while True:
            states = [str(job["state"]) for job in jobs_begun(google)]
            if "JOB_STATE_FAILED" in states[:-1] and states[-1] in RUNNING:
                google.set_state(str(jobs_begun(google)[-1]["name"]), "JOB_STATE_SUCCEEDED")
            time.sleep(0.2)


@pytest.mark.parametrize("answer", ["", "another-project\n"])
def test_nothing_is_sent_unless_the_project_is_named(
    google: Emulator, data: Storage, tmp_path: Path, answer: str
) -> None:
    process = started(google, data, tmp_path / "said.json")
    text, _ = process.communicate(answer, timeout=60)
    assert process.returncode == 2, text
    assert "They cost at most US$" in text
    assert google.requests() == []
    assert not (tmp_path / "said.json").exists()


def test_it_records_what_was_answered_and_leaves_nothing_running(
    google: Emulator, data: Storage, tmp_path: Path
) -> None:
    target = tmp_path / "said.json"
    process = started(google, data, target, "--to-the-end")
    threading.Thread(target=succeed_after_a_failure, args=(google,), daemon=True).start()
    text, _ = process.communicate(f"{PROJECT}\n", timeout=110)
    assert process.returncode == 0, text
    begun = jobs_begun(google)
    assert 3 <= len(begun) <= MOST_JOBS
    assert {job["state"] for job in begun} <= {
        "JOB_STATE_CANCELLED",
        "JOB_STATE_CANCELLING",
        "JOB_STATE_FAILED",
        "JOB_STATE_SUCCEEDED",
    }

    said = recording.load(target)
    assert list(said) == [e.name for e in EXPECTATIONS]
    wanted = {e.name: recording.HOLDS if e.emulator else recording.DIFFERS for e in EXPECTATIONS}
    assert {name: one["outcome"] for name, one in said.items()} == wanted, text
    assert [name for name, one in said.items() if not one["exchanges"]] == []

    number = str(begun[0]["name"]).split("/")[1]
    written = target.read_text()
    for secret in (PROJECT, number, BUCKET, TOKEN, str(begun[0]["name"]).split("/")[-1]):
        assert secret not in written


def test_an_interruption_cancels_what_was_begun(google: Emulator, data: Storage, tmp_path: Path) -> None:
    google.fault(method="GET", path_regex="/tuningJobs$", delay_seconds=1.0, times=-1)
    process = started(google, data, tmp_path / "said.json")
    assert process.stdin is not None
    process.stdin.write(f"{PROJECT}\n")
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while not jobs_begun(google):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    google.clear_faults()
    text, _ = process.communicate(timeout=60)
    assert "interrupted" in text
    assert not [job for job in jobs_begun(google) if job["state"] in RUNNING], text


def test_a_job_whose_answer_was_lost_is_cancelled_too(
    google: Emulator, data: Storage, tmp_path: Path
) -> None:
    google.fault(method="POST", path_regex="/tuningJobs$", drop="after_processing", times=-1)
    process = started(google, data, tmp_path / "said.json")
    text, _ = process.communicate(f"{PROJECT}\n", timeout=100)
    assert process.returncode == 0, text
    assert jobs_begun(google)
    assert not [job for job in jobs_begun(google) if job["state"] in RUNNING], text


def test_a_server_that_does_otherwise_is_recorded_so_and_the_emulator_disagrees(
    google: Emulator, data: Storage, session: Session, tmp_path: Path
) -> None:
    google.fault(method="GET", path_regex="/tuningJobs/1$", times=-1, status=403)
    process = started(google, data, tmp_path / "said.json")
    process.communicate(f"{PROJECT}\n", timeout=100)
    said = recording.load(tmp_path / "said.json")["no-such-job"]
    assert said["outcome"] == recording.DIFFERS
    ours = recording.outcome(next(e for e in EXPECTATIONS if e.name == "no-such-job"), session)
    assert recording.disagreement(said, ours)
    assert recording.disagreement(ours, ours) is None
    changed = {**ours, "facts": {**ours["facts"], "get": {"http": 410}}}
    assert recording.disagreement(changed, ours)


def test_the_most_that_it_can_cost_is_below_the_limit(session: Session) -> None:
    assert 0 < most_usd(training_set()) < LIMIT_USD
    assert most_usd(training_set() * 100) > LIMIT_USD


def test_no_job_beyond_the_budget_is_created(data: Storage) -> None:
    with stand_in(data, speed=10, concurrent_jobs=None) as emulator:
        session = conversation(emulator)
        for _ in range(MOST_JOBS):
            assert session.create().status == 200
        with pytest.raises(BudgetError):
            session.create()
        assert len(emulator.jobs()) == MOST_JOBS
        assert session.clean_up() == []


def test_what_it_asks_for_costs_no_more_than_was_said(session: Session) -> None:
    bodies = [session.body(), session.body(labels=None)]
    assert all(b["supervisedTuningSpec"]["hyperParameters"] == {"epochCount": "1"} for b in bodies)
    assert json.loads(training_set().splitlines()[0])["contents"]
