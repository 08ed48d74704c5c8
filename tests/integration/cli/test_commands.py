"""The commands against a real emulator; those that depend on a process of their own run in one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import airflow
import pytest
import yaml
from packaging.version import Version

from airflow_tuning_provider.__main__ import main
from airflow_tuning_provider.api.identity import TaskIdentity
from airflow_tuning_provider.emulator.testing import Emulator
from tests.integration.conftest import BODY, PARENT, Connect

OURS = [sys.executable, "-m", "airflow_tuning_provider"]
AIRFLOWS = [sys.executable, "-m", "airflow", "tuning-jobs"]


@pytest.fixture(autouse=True)
def _connected(emulator: Emulator, connect: Connect) -> None:
    connect(api_endpoint=emulator.url)


class Ran:
    """What came of a command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> Ran:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert isinstance(ended.value.code, int)
        said = capsys.readouterr()
        return Ran(ended.value.code, said.out, said.err)

    return run


def seed(emulator: Emulator, **job: Any) -> str:
    (name,) = emulator.seed(job={**BODY, **job})
    return str(name)


class TestList:
    def test_newest_first_in_words(self, run: Any, emulator: Emulator) -> None:
        labels = TaskIdentity("retrain", "run1", "tune").labels(BODY, max_tries=0)
        first = seed(emulator, createTime="2026-11-01T00:00:00Z", state="JOB_STATE_PENDING")
        second = seed(emulator, createTime="2026-11-02T00:00:00Z", state="JOB_STATE_FAILED", labels=labels)
        ran = run("list")
        lines = ran.out.splitlines()
        assert ran.code == 0
        assert [line.split(" ")[0] for line in lines[2:]] == [n.rpartition("/")[2] for n in (second, first)]
        assert "failed" in lines[2]
        assert "retrain" in lines[2]
        assert "pending" in lines[3]

    def test_for_programs(self, run: Any, emulator: Emulator) -> None:
        name = seed(emulator, state="JOB_STATE_RUNNING")
        for output, load in (("json", json.loads), ("yaml", yaml.safe_load)):
            (job,) = load(run("list", "-o", output).out)
            assert (job["name"], job["state"], job["base_model"]) == (
                name,
                "JOB_STATE_RUNNING",
                BODY["baseModel"],
            )

    def test_by_state_and_dag(self, run: Any, emulator: Emulator) -> None:
        labels = TaskIdentity("Retrain.Weekly", "run1", "tune").labels(BODY, max_tries=0)
        wanted = seed(emulator, state="JOB_STATE_RUNNING", labels=labels)
        seed(emulator, state="JOB_STATE_RUNNING")
        seed(emulator, state="JOB_STATE_FAILED", labels=labels)
        found = json.loads(run("list", "--state", "running", "--dag-id", "Retrain.Weekly", "-o", "json").out)
        assert [job["name"] for job in found] == [wanted]

    def test_no_more_than_asked_for(self, run: Any, emulator: Emulator) -> None:
        emulator.seed(job={**BODY, "state": "JOB_STATE_FAILED"}, count=7)
        assert len(json.loads(run("list", "--limit", "3", "-o", "json").out)) == 3
        assert json.loads(run("list", "--location", "us-east1", "-o", "json").out) == []

    @pytest.mark.parametrize(
        ("option", "value"), [("--limit", "0"), ("--state", "no;state"), ("--location", "../x")]
    )
    def test_what_cannot_be_right_is_refused(
        self, run: Any, emulator: Emulator, option: str, value: str
    ) -> None:
        ran = run("list", option, value)
        assert ran.code == 1
        assert "is not valid" in ran.err
        assert emulator.requests() == []


class TestGet:
    def test_the_api_s_own_json(self, run: Any, emulator: Emulator) -> None:
        name = seed(emulator, state="JOB_STATE_RUNNING")
        assert json.loads(run("get", name.rpartition("/")[2], "-o", "json").out)["name"] == name

    def test_for_people(self, run: Any, emulator: Emulator) -> None:
        error = {"code": 3, "message": "bad data"}
        ran = run("get", seed(emulator, state="JOB_STATE_FAILED", error=error))
        assert "INVALID_ARGUMENT: bad data" in ran.out
        assert "https://console.cloud.google.com/" in ran.out

    def test_one_that_is_not_there(self, run: Any) -> None:
        ran = run("get", "404")
        assert (ran.code, ran.out) == (1, "")
        assert "404 NOT_FOUND" in ran.err


class TestWait:
    @pytest.mark.parametrize(
        ("state", "code"),
        [("SUCCEEDED", 0), ("FAILED", 3), ("EXPIRED", 3), ("CANCELLED", 4)],
    )
    def test_the_exit_code_says_how_it_ended(
        self, run: Any, emulator: Emulator, state: str, code: int
    ) -> None:
        ran = run("wait", seed(emulator, state=f"JOB_STATE_{state}"), "-o", "json")
        assert ran.code == code
        assert json.loads(ran.out)["state"] == f"JOB_STATE_{state}"
        assert "task" not in ran.err, "there is no task to clear or to retry"

    def test_the_time_is_up(self, run: Any, emulator: Emulator) -> None:
        name = seed(emulator, state="JOB_STATE_RUNNING")
        ran = run("wait", name, "--timeout", "0.3", "--poll-interval", "0.1")
        assert ran.code == 5
        assert "Running" in ran.err
        assert f"To cancel it: python -m airflow_tuning_provider cancel {name}" in ran.err
        assert emulator.jobs()[0]["state"] == "JOB_STATE_RUNNING"

    def test_one_that_is_not_there_is_not_waited_for(self, run: Any) -> None:
        assert run("wait", "404").code == 1


class TestCancel:
    def test_it_asks_first(self, run: Any, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
        name = seed(emulator, state="JOB_STATE_RUNNING")
        with open(os.devnull) as nobody:
            monkeypatch.setattr(sys, "stdin", nobody)
            ran = run("cancel", name)
        assert (ran.code, "give --yes" in ran.err) == (1, True)
        assert emulator.jobs()[0]["state"] == "JOB_STATE_RUNNING"

    def test_it_cancels(self, run: Any, emulator: Emulator) -> None:
        ran = run("cancel", seed(emulator, state="JOB_STATE_RUNNING"), "--yes")
        assert (ran.code, "Asked for the cancellation." in ran.err) == (0, True)
        assert emulator.jobs()[0]["state"] in ("JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED")

    def test_what_has_ended_needs_none(self, run: Any, emulator: Emulator) -> None:
        ran = run("cancel", seed(emulator, state="JOB_STATE_SUCCEEDED"), "--yes")
        assert (ran.code, "has succeeded already" in ran.err) == (0, True)


class TestCheck:
    def test_all_is_well(self, run: Any) -> None:
        ran = run("check")
        assert ran.code == 0
        assert [line.split()[0] for line in ran.out.splitlines()] == ["works"] * 5

    def test_something_is_missing(self, run: Any, emulator: Emulator) -> None:
        emulator.fault(status=403, times=-1)
        ran = run("check")
        assert ran.code == 1
        assert "missing   list permission: 403" in ran.out
        assert "gcloud projects add-iam-policy-binding test-project" in ran.out
        assert json.loads(run("check", "-o", "json").out)[-1]["verdict"] == "missing"


def test_orphans_are_not_cancelled_by_an_airflow_without_a_name(run: Any, emulator: Emulator) -> None:
    ran = run("orphans", "--cancel", "--yes")
    assert (ran.code, "[vertex_ai_tuning] deployment" in ran.err) == (1, True)
    assert emulator.requests() == []


# -- processes of their own ----------------------------------------------------------------------------


def test_ctrl_c_leaves_the_job_and_says_so(emulator: Emulator) -> None:
    name = seed(emulator, state="JOB_STATE_RUNNING")
    waiting = subprocess.Popen(
        [*OURS, "wait", name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert waiting.stderr is not None
    told = ""
    while "Running" not in told:
        line = waiting.stderr.readline()
        assert line, f"it ended: {told}"
        told += line
    waiting.send_signal(signal.SIGINT)
    out, err = waiting.communicate(timeout=60)
    assert (waiting.returncode, out) == (130, "")
    assert "Stopped waiting: the job goes on and may cost money." in err
    assert "Traceback" not in err
    assert emulator.jobs()[0]["state"] == "JOB_STATE_RUNNING"


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(OURS, id="ours"),
        pytest.param(
            AIRFLOWS,
            id="airflow",
            marks=pytest.mark.skipif(
                Version(airflow.__version__) < Version("3.2"),
                reason="Airflow 3.1 knows no commands of providers",
            ),
        ),
    ],
)
def test_stdout_is_for_results(emulator: Emulator, program: list[str]) -> None:
    name = seed(emulator, state="JOB_STATE_SUCCEEDED")
    ran = subprocess.run([*program, "list", "-o", "json"], capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr
    assert [job["name"] for job in json.loads(ran.stdout)] == [name]
    assert PARENT.split("/")[1] not in ran.stderr


def test_the_emulator_takes_its_own_options(tmp_path: Any) -> None:
    port = tmp_path / "port"
    command = [*OURS, "emulator", "--port", "0", "--port-file", str(port), "--datasets", "skip"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as server:
        until = time.monotonic() + 60
        while not port.exists() and time.monotonic() < until:
            assert server.poll() is None
            time.sleep(0.05)
        server.terminate()
        assert server.wait(30) == 0
    assert int(port.read_text()) > 0
