"""The process: options, readiness, restart, shutdown and load."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_tuning_provider.emulator.lifecycle import PENDING_SECONDS, RUNNING_SECONDS
from airflow_tuning_provider.emulator.testing import Emulator, EmulatorError

from .conftest import BODY, JOBS, Client
from .storage import Storage, example
from .test_jobs import wait_for

COMMAND = [sys.executable, "-m", "airflow_tuning_provider.emulator"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "99999"], ["--port", "'99999'", "0 to 65535"]),
        (["--port", "x"], ["--port", "'x'", "0 to 65535"]),
        (["--speed", "0"], ["--speed", "'0'", "above 0"]),
        (["--speed", "nan"], ["--speed", "'nan'", "above 0"]),
        (["--concurrent-jobs", "0"], ["--concurrent-jobs", "'0'", "from 1"]),
        (["--over-quota", "drop"], ["--over-quota", "'drop'", "queue", "reject"]),
        (["--retired-models", "maybe"], ["--retired-models", "'maybe'", "accept", "refuse"]),
        (["--datasets", "maybe"], ["--datasets", "'maybe'", "auto"]),
        (["--token-lifetime", "-1"], ["--token-lifetime", "'-1'", "above 0"]),
        (["--token", ""], ["--token", "empty"]),
        (["--host", "0.0.0.0"], ["--host", "'0.0.0.0'", "--allow-remote", "/_emulator needs no token"]),
        (["--host", "example.com"], ["--host", "--allow-remote"]),
        (["--state", "/nonexistent/jobs.db"], ["--state", "/nonexistent/jobs.db"]),
        (["--frob"], ["--frob"]),
    ],
)
def test_a_bad_option_is_named(arguments: list[str], said: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    message = done.stderr.strip().splitlines()[-1]
    assert all(word in message for word in said), message
    assert "Traceback" not in done.stderr


@pytest.fixture
def developer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with somebody's own credentials for Google Cloud."""
    (tmp_path / "application_default_credentials.json").write_text("{}")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    for name in ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("developer")
def test_a_developer_s_credentials_read_no_real_data_for_whoever_comes() -> None:
    done = run("--datasets", "read", "--port", "0")
    assert done.returncode == 2
    assert "with your own credentials, for anyone who reaches this server; give --token" in done.stderr
    with Emulator() as emulator:
        assert "Data sets are not read: without STORAGE_EMULATOR_HOST" in emulator.log
        assert "data sets not read)" in emulator.log


@pytest.mark.usefixtures("developer")
@pytest.mark.parametrize("datasets", ["auto", "read"])
def test_those_who_know_the_token_may_have_real_data_read(datasets: str) -> None:
    with Emulator(datasets=datasets, token="secret") as emulator:
        assert "not read" not in emulator.log


@pytest.mark.parametrize("package", ["fastapi", "uvicorn"])
def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, package: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{package!r}] = None\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    hint = rf"The emulator needs {package}: pip install 'airflow-tuning-provider\[emulator\]'$"
    with pytest.raises(EmulatorError, match=hint), Emulator(env={"PYTHONPATH": path}):
        pass


def test_a_port_in_use_and_a_state_file_that_is_none(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        done = run("--port", str(sock.getsockname()[1]))
    assert done.returncode == 2
    assert "cannot listen on 127.0.0.1:" in done.stderr
    bad = tmp_path / "jobs.db"
    bad.write_text("This is no database, but it is long enough to look at." * 100)
    done = run("--state", str(bad), "--port", "0")
    assert done.returncode == 2
    assert f"cannot use {bad}: file is not a database" in done.stderr


def test_two_servers_do_not_share_a_state_file(tmp_path: Path) -> None:
    second = Emulator(state=tmp_path / "jobs.db", datasets="skip")
    with (
        Emulator(state=tmp_path / "jobs.db", datasets="skip"),
        pytest.raises(EmulatorError, match="another emulator"),
    ):
        second.start()


def test_the_line_on_stdout_and_the_port_file(tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    arguments = ["--port", "0", "--port-file", str(port_file), "--speed", "60", "--datasets", "skip"]
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while not port_file.exists() and process.poll() is None:
        time.sleep(0.02)
    port = int(port_file.read_text())
    line = process.stdout.readline().strip()
    assert line.startswith(f"Vertex AI tuning emulator on http://127.0.0.1:{port} (speed 60, ")
    assert [p.name for p in tmp_path.iterdir()] == ["port"]
    process.terminate()
    assert process.wait(10) == 0
    assert process.stdout.read() == ""
    process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_within_a_second(number: signal.Signals) -> None:
    with Emulator(datasets="skip") as emulator:
        # An idle connection kept alive, a request under way and one half sent.
        idle = socket.create_connection(("127.0.0.1", emulator.port))
        idle.sendall(f"GET {JOBS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\n\r\n".encode())
        assert idle.recv(100).startswith(b"HTTP/1.1 200")
        emulator.fault(delay_seconds=60)
        slow = socket.create_connection(("127.0.0.1", emulator.port))
        slow.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        half = socket.create_connection(("127.0.0.1", emulator.port))
        half.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12")
        time.sleep(0.2)
        process = emulator._process
        assert process is not None
        start = time.monotonic()
        process.send_signal(number)
        assert process.wait(5) == 0
        assert time.monotonic() - start < 1
        assert "Traceback" not in emulator.log
        for sock in (idle, slow, half):
            sock.close()


def test_jobs_survive_a_restart_and_their_clock_goes_on(tmp_path: Path) -> None:
    speed = (PENDING_SECONDS + RUNNING_SECONDS) / 3
    with Emulator(speed=speed, state=tmp_path / "jobs.db", datasets="skip") as emulator:
        call = Client(emulator.url)
        before = call.create(labels={"team": "a"})
        pinned = call.create()["name"]
        emulator.set_state(pinned, "JOB_STATE_PAUSED")
        url = emulator.url
        emulator.kill()
        emulator.start()
        assert emulator.url == url
        after = call("GET", f"/v1/{before['name']}").json
        assert after["createTime"] == before["createTime"]
        assert after["state"] != "JOB_STATE_SUCCEEDED"
        assert call("GET", JOBS + "?filter=labels.team%3Da").json["tuningJobs"][0]["name"] == before["name"]
        emulator.stop()
        time.sleep(3)
        emulator.start()
        # It ended while the server was away.
        job = call("GET", f"/v1/{before['name']}").json
        assert job["state"] == "JOB_STATE_SUCCEEDED"
        assert call("GET", f"/v1/{pinned}").json["state"] == "JOB_STATE_PAUSED"
        newer = call.create()["name"]
        assert call("GET", JOBS).json["tuningJobs"][0]["name"] == newer


def test_a_tuned_endpoint_answers_after_a_restart(tmp_path: Path) -> None:
    storage = Storage()
    uri = storage.put("train.jsonl", [example("The capital of France?", "Paris.")])
    env = {"STORAGE_EMULATOR_HOST": storage.url}
    with Emulator(speed=5000, state=tmp_path / "jobs.db", datasets="read", env=env) as emulator:
        call = Client(emulator.url)
        name = call.create(supervisedTuningSpec={"trainingDatasetUri": uri})["name"]
        endpoint = wait_for(call, name, "JOB_STATE_SUCCEEDED")["tunedModel"]["endpoint"]
        storage.stop()
        emulator.restart()
        body = {"contents": [{"role": "user", "parts": [{"text": "capital of France"}]}]}
        answer = call("POST", f"/v1/{endpoint}:generateContent", body).json
        assert answer["candidates"][0]["content"]["parts"][0]["text"] == "Paris."


def test_durations_at_speed_1(tmp_path: Path) -> None:
    """Minutes pending, half an hour or more running, seen by moving a job into the past."""
    path = tmp_path / "jobs.db"
    with Emulator(state=path, datasets="skip") as emulator:
        call = Client(emulator.url)
        name = call.create()["name"]
        for minutes, state in ((1, "PENDING"), (3, "RUNNING"), (31, "RUNNING"), (60, "SUCCEEDED")):
            emulator.stop()
            db = sqlite3.connect(path)
            record = json.loads(db.execute("SELECT record FROM jobs").fetchone()[0])
            for field in ("created", "admitted", "dataset_ready"):
                record[field] = time.time() - minutes * 60
            db.execute("UPDATE jobs SET record = ?", (json.dumps(record),))
            db.commit()
            db.close()
            emulator.start()
            assert call("GET", f"/v1/{name}").json["state"] == f"JOB_STATE_{state}"


def test_many_requests_at_once(emulator: Emulator) -> None:
    local = threading.local()

    def create(i: int) -> str:
        if not hasattr(local, "call"):
            local.call = Client(emulator.url)
        return local.call.create(labels={"n": str(i)})["name"]

    start = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        names = list(pool.map(create, range(400)))
    assert len(set(names)) == 400
    assert time.monotonic() - start < 20
    call = Client(emulator.url)
    found = call("GET", JOBS + "?filter=labels.n%3D217").json["tuningJobs"]
    assert [job["name"] for job in found] == [names[217]]
    assert len(call("GET", JOBS + "?pageSize=5000").json["tuningJobs"]) == 400
    assert len(emulator.requests()) == 402


def test_data_sets_that_are_not_read_are_announced(tmp_path: Path) -> None:
    env = {
        "CLOUDSDK_CONFIG": str(tmp_path),
        "GOOGLE_APPLICATION_CREDENTIALS": "",
        "STORAGE_EMULATOR_HOST": "",
    }
    with Emulator(env=env) as emulator:
        assert emulator.log.count("Data sets are not read") == 1
    assert "Data sets are not read" in emulator.log


def test_a_pipelined_and_a_chunked_request(emulator: Emulator) -> None:
    """What real proxies and clients do to HTTP/1.1."""
    head = "Host: x\r\nAuthorization: Bearer t\r\n"
    data = json.dumps(BODY).encode()
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)
    request = f"POST {JOBS} HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunked
    request += f"GET {JOBS} HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", emulator.port), timeout=10) as sock:
        sock.sendall(request)
        received = b""
        while chunk := sock.recv(65536):
            received += chunk
    assert received.count(b"HTTP/1.1 200") == 2
    assert len(emulator.jobs()) == 1


def test_it_needs_nothing_of_airflow_or_of_the_rest_of_the_package() -> None:
    code = "import sys, airflow_tuning_provider.emulator.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for module in done.stdout.split():
        assert not module.startswith(("airflow.", "google.cloud.", "google.auth", "pendulum"))
        ours = module.startswith("airflow_tuning_provider.")
        assert not ours or module.startswith("airflow_tuning_provider.emulator")


@pytest.mark.parametrize("end", ["", "import os; os.kill(os.getpid(), 9)"], ids=["exit", "SIGKILL"])
def test_a_test_run_that_forgets_to_stop_it_leaves_no_process_behind(end: str) -> None:
    code = (
        "from airflow_tuning_provider.emulator.testing import Emulator;"
        f"e = Emulator(datasets='skip').start(); print(e.pid, flush=True); {end}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
    )
    deadline = time.monotonic() + 5
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(int(done.stdout), 0)
            time.sleep(0.05)
