"""What the demo runs besides Airflow: a storage emulator and the tuning emulator, as subprocesses."""

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


def start_storage_emulator(workdir: Path, bucket: str) -> tuple[Service, str]:
    """Start gcp-storage-emulator in memory, with one bucket; return it with its base URL."""
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
    except BaseException:
        service.stop()
        raise
    return service, url


def start_tuning_emulator(
    workdir: Path,
    *,
    token: str,
    speed: float,
    storage_url: str | None = None,
    concurrent_jobs: int = 4,
    extra_arguments: Sequence[str] = (),
) -> tuple[Service, str]:
    """Start the tuning emulator; return it with its base URL."""
    port_file = workdir / "tuning-emulator.port"
    port_file.unlink(missing_ok=True)
    service = Service(
        "tuning emulator",
        "airflow_tuning_provider.emulator",
        [
            *("--port", "0", "--port-file", str(port_file), "--speed", str(speed)),
            *("--state", str(workdir / "tuning-emulator.sqlite"), "--concurrent-jobs", str(concurrent_jobs)),
            *("--token", token, *extra_arguments),
        ],
        log=workdir / "logs" / "tuning-emulator.log",
        env=clean_environment({"STORAGE_EMULATOR_HOST": storage_url} if storage_url else None),
    )

    def port() -> str:
        return port_file.read_text().strip() if port_file.exists() else ""

    try:
        url = f"http://{LOOPBACK}:{service.wait(port)}"
        service.wait(lambda: _answers(f"{url}/_emulator/jobs"))
    except BaseException:
        service.stop()
        raise
    return service, url


@contextmanager
def services(
    workdir: Path, *, token: str, speed: float, bucket: str, **options: Any
) -> Iterator[tuple[str, str]]:
    """Run both emulators; yield the URL of the storage emulator and that of the tuning emulator."""
    storage, storage_url = start_storage_emulator(workdir, bucket)
    try:
        tuning, tuning_url = start_tuning_emulator(
            workdir, token=token, speed=speed, storage_url=storage_url, **options
        )
        try:
            yield storage_url, tuning_url
        finally:
            tuning.stop()
    finally:
        storage.stop()
