"""What a local Airflow needs around it: loopback HTTP, waiting, servers as subprocesses, the storage emulator."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_tuning_provider.emulator.testing import Emulator

REPOSITORY = Path(__file__).resolve().parent.parent
LOOPBACK = "127.0.0.1"

# Settings of the visitor's own Airflow or Google account must not leak into the demo.
_FOREIGN_PREFIXES = ("AIRFLOW_", "_AIRFLOW", "GOOGLE_", "CLOUDSDK_", "STORAGE_EMULATOR_HOST")
_NO_PROXY_HOSTS = f"{LOOPBACK},localhost"


class StepError(RuntimeError):
    """A step of starting or running the stack failed; ``log`` is the file that tells why."""

    def __init__(self, message: str, log: Path | None = None) -> None:
        super().__init__(message)
        self.log = log


@contextmanager
def time_limit(seconds: int, what: str) -> Iterator[None]:
    """Raise after ``seconds``, wherever ``what`` is then; also end orderly on SIGTERM.

    :raises StepError: when the time is up.
    """

    def expired(*_: object) -> None:
        raise StepError(f"{what} took longer than {seconds} s.")

    def terminated(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminated)
    signal.signal(signal.SIGALRM, expired)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without foreign settings, plus ``extra``."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN_PREFIXES)}
    for key in ("NO_PROXY", "no_proxy"):
        env[key] = ",".join(filter(None, [env.get(key), _NO_PROXY_HOSTS]))
    env["PYTHONUNBUFFERED"] = "1"
    env.update(extra or {})
    return env


def free_port(preferred: int | None = None) -> int:
    """Return a loopback port that is free now: ``preferred`` if it is, else any."""
    for candidate in (preferred, 0):
        if candidate is None:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, candidate))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise StepError("No free port on the loopback interface.")


def tail(path: Path, lines: int = 30) -> str:
    """Return the last ``lines`` lines of a log file."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


PATIENCE = 240.0
"""Seconds after which whatever is waited for is taken to be stuck, also on a busy machine."""


def wait_until(
    condition: Callable[[], Any], *, what: str, timeout: float = PATIENCE, interval: float = 0.1
) -> Any:
    """Call ``condition`` until it returns something truthy, and return that."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise StepError(f"Gave up after {timeout:.0f} s waiting for {what}.")
        time.sleep(interval)


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def http_json(
    method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None, timeout: float = 30
) -> tuple[int, Any]:
    """Make one HTTP request, past any proxy, and return its status and its decoded JSON (or text)."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, dict(headers or {}), method=method)  # noqa: S310
    request.add_header("Accept", "application/json")
    if data is not None:
        request.add_header("Content-Type", "application/json")
    try:
        with _opener.open(request, timeout=timeout) as response:
            status, raw = response.status, response.read()
    except urllib.error.HTTPError as error:
        status, raw = error.code, error.read()
    try:
        return status, json.loads(raw) if raw else None
    except ValueError:
        return status, raw.decode(errors="replace")


class Service:
    """A server that runs as a subprocess on a loopback port until it is stopped."""

    def __init__(
        self, name: str, module: str, arguments: Sequence[str], *, log: Path, env: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "airflow_tuning_provider.emulator.tethered", module, *arguments],
                cwd=REPOSITORY,
                env=dict(env),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, ready: Callable[[], Any], timeout: float = 30) -> Any:
        """Wait until ``ready`` returns something truthy, and notice when the process ends first."""

        def alive_and_ready() -> Any:
            if self.process.poll() is not None:
                raise StepError(f"The {self.name} ended with status {self.process.returncode}.", self.log)
            return ready()

        try:
            return wait_until(alive_and_ready, timeout=timeout, what=f"the {self.name}")
        except StepError as failure:
            raise StepError(str(failure), self.log) from None

    def stop(self, grace: float = 5) -> None:
        """Ask the process to end, and kill it if it does not."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(grace)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()


def _answers(url: str) -> bool:
    try:
        http_json("GET", url, timeout=2)
    except OSError:
        return False
    return True


@contextmanager
def storage_emulator(workdir: Path, bucket: str) -> Iterator[str]:
    """Run gcp-storage-emulator in memory, with one bucket; yield its base URL."""
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    service = Service(
        "storage emulator",
        "gcp_storage_emulator",
        [
            *("start", "--host", LOOPBACK, "--port", str(port)),
            *("--in-memory", "--quiet", "--default-bucket", bucket),
        ],
        log=workdir / "logs" / "storage-emulator.log",
        env=clean_environment(),
    )
    try:
        service.wait(lambda: _answers(url))
        yield url
    finally:
        service.stop()


def tuning_emulator(storage_url: str, **options: Any) -> Emulator:
    """Return a tuning emulator, yet to be started, that reads its data sets from the storage emulator."""
    return Emulator(env=clean_environment({"STORAGE_EMULATOR_HOST": storage_url}), **options)


def connection(api_endpoint: str, *, project: str, token: str | None = None, **extra: str) -> str:
    """Return a connection to the tuning emulator, as ``AIRFLOW_CONN_`` variables hold it.

    :param token: a fixed token, where ``extra`` names no other credentials.
    """
    scope = {"project": project, "location": "us-central1", "api_endpoint": api_endpoint}
    return json.dumps({"conn_type": "vertex_ai_tuning", "password": token, "extra": {**scope, **extra}})
