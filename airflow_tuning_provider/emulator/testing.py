"""Start the emulator in a test. Uses the standard library only."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


class EmulatorError(Exception):
    """The emulator did not start, or refused a control request."""


class EmulatorClient:
    """The control API of an emulator that runs somewhere.

    :param url: the server's base URL.
    :param certificate: file with the certificate to trust, where the URL begins with ``https``.
    """

    def __init__(self, url: str, certificate: str | Path | None = None) -> None:
        self.url = url
        self._certificate = certificate

    def requests(self, since: int = 0) -> list[dict[str, Any]]:
        """Return the API requests after a sequence number."""
        found: list[dict[str, Any]] = self.control("GET", f"requests?since={since}")["requests"]
        return found

    def last_request(self) -> int:
        """Return the sequence number of the last API request, to pass as ``since`` later."""
        return int(self.control("GET", "requests?since=999999999999")["next"])

    def jobs(self) -> list[dict[str, Any]]:
        """Return all jobs, oldest first, as full resources."""
        found: list[dict[str, Any]] = self.control("GET", "jobs")["jobs"]
        return found

    def set_state(self, job_id: str, state: str, error: dict[str, Any] | None = None) -> dict[str, Any]:
        """Put a job, given by id or by resource name, into a state; it stays there."""
        body: dict[str, Any] = {"state": state}
        if error is not None:
            body["error"] = error
        return self.control("POST", f"jobs/{job_id.rpartition('/')[2]}/state", body)

    def seed(
        self,
        job: dict[str, Any] | None = None,
        *,
        count: int = 1,
        project: str = "test-project",
        location: str = "us-central1",
    ) -> list[str]:
        """Put in jobs directly: no quota, no checks; return their names.

        :param job: parts of a TuningJob on the wire; with a ``state``, the jobs stay in it
        :param count: how many such jobs
        """
        body = {"parent": f"projects/{project}/locations/{location}", "job": job or {}, "count": count}
        names: list[str] = self.control("POST", "jobs", body)["names"]
        return names

    def overlay(self, job_id: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Have get and list show a job with these fields of raw JSON; None removes one, ``{}`` ends it."""
        return self.control("POST", f"jobs/{job_id.rpartition('/')[2]}/overlay", {"fields": fields})

    def set_quality(
        self, job_id: str, quality: float | None, pairs: list[tuple[str, str]] | None = None
    ) -> None:
        """Set how often a job's tuned model is right.

        :param quality: share of right answers; None: by the hyperparameters
        :param pairs: questions and answers that it is asked about, in place of its training data
        """
        body = {"quality": quality, "pairs": pairs}
        self.control("POST", f"jobs/{job_id.rpartition('/')[2]}/quality", body)

    def lag(
        self,
        *,
        list_seconds: float | None = 0,
        get_seconds: float | None = 0,
        list_state_seconds: float = 0,
    ) -> None:
        """Have reads lag behind writes, in seconds of real time.

        :param list_seconds: how long list does not show a job that is created from now on; None: never does
        :param get_seconds: the same for get
        :param list_state_seconds: how old the states are that list shows, of any job
        """
        body = {
            "list_seconds": list_seconds,
            "get_seconds": get_seconds,
            "list_state_seconds": list_state_seconds,
        }
        self.control("POST", "lag", body)

    def cancel_takes(self, seconds: float | None) -> None:
        """Set how long a job is CANCELLING that is cancelled from now on, in seconds; None: for ever."""
        self.control("POST", "cancel", {"seconds": seconds})

    def fault(self, **fault: Any) -> dict[str, Any]:
        """Inject a fault; see docs/emulator.md for the fields."""
        return self.control("POST", "faults", fault)

    def faults(self) -> list[dict[str, Any]]:
        """Return the faults given since the last clearing, with their hits."""
        found: list[dict[str, Any]] = self.control("GET", "faults")["faults"]
        return found

    def clear_faults(self) -> None:
        """Delete all faults."""
        self.control("DELETE", "faults")

    def reset(self) -> None:
        """Delete all jobs, requests and faults, and end lags and slow cancellations."""
        self.control("POST", "reset", {})

    def control(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Send a control request."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_emulator/{path}", data, method=method)  # noqa: S310
        request.add_header("Content-Type", "application/json")
        # No proxy: the server is on this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), *self._https())
        try:
            with opener.open(request, timeout=30) as response:
                answer: dict[str, Any] = json.load(response)
                return answer
        except urllib.error.HTTPError as e:
            text = e.read().decode("utf-8", "replace")
            with contextlib.suppress(ValueError, KeyError):
                text = json.loads(text)["error"]["message"]
            raise EmulatorError(f"{method} {path}: {e.code}: {text}") from None

    def _https(self) -> list[urllib.request.HTTPSHandler]:
        if self._certificate is None:
            return []
        # Trust this very certificate, whoever signed it and whichever hosts it names.
        context = ssl.create_default_context(cafile=self._certificate)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.check_hostname = False
        return [urllib.request.HTTPSHandler(context=context)]


class Emulator(EmulatorClient):
    """The emulator in a process of its own, on a free port, which ends with this one at the latest.

    Options are those of the command line with underscores: ``Emulator(speed=1000, state=path)``; True
    stands for an option without a value. ``env`` adds to the process's environment.

        with Emulator(speed=1000) as emulator:
            ...  # point the client at emulator.url
    """

    def __init__(self, *, env: dict[str, str] | None = None, **options: Any) -> None:
        super().__init__("", options.get("tls_cert"))
        self._arguments = [
            word
            for name, value in options.items()
            if value is not None and value is not False
            for word in (["--" + name.replace("_", "-")] + ([] if value is True else [str(value)]))
        ]
        self._env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self.port = 0
        self._log = ""

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process else None

    def __enter__(self) -> Emulator:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Emulator:
        """Start the process and wait until it listens."""
        if self._process is not None:
            return self
        if self._directory is None:
            self._directory = tempfile.TemporaryDirectory(prefix="tuning-emulator-")
        directory = Path(self._directory.name)
        port_file = directory / "port"
        port_file.unlink(missing_ok=True)
        # The same port again after a restart, as clients hold on to the URL.
        package = "airflow_tuning_provider.emulator"
        command = [sys.executable, "-m", f"{package}.tethered", package, "--port", str(self.port)]
        command += ["--port-file", str(port_file), *self._arguments]
        with (directory / "log").open("w") as log:
            # A session of its own: Ctrl-C is for the tests, which stop the server when they have ended.
            self._process = subprocess.Popen(
                command, env=self._env, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )
        atexit.register(self.kill)
        deadline = time.monotonic() + _START_SECONDS
        while not port_file.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                output = self.log
                self.kill()
                raise EmulatorError(f"The emulator did not start: {output.strip()}")
            time.sleep(0.02)
        self.port = int(port_file.read_text())
        self.url = f"http{'s' if self._certificate else ''}://127.0.0.1:{self.port}"
        return self

    @property
    def log(self) -> str:
        """What the process has written."""
        if self._directory is None:
            return self._log
        path = Path(self._directory.name) / "log"
        return path.read_text() if path.exists() else ""

    def stop(self) -> None:
        """End the process properly."""
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        self._finish()

    def kill(self) -> None:
        """End the process as a crash would."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        self._finish()

    def _finish(self) -> None:
        atexit.unregister(self.kill)
        if self._process is not None:
            self._process.communicate()
            self._process = None
        if self._directory is not None:
            self._log = self.log
            self._directory.cleanup()
            self._directory = None

    def restart(self) -> None:
        """Stop, and start again with the same options on the same port; jobs survive only with ``state``."""
        self.stop()
        self.start()
