"""A real Airflow on the loopback interface: started in seconds, stopped without a trace.

Everything lives below one directory (metadata database in SQLite, configuration, logs); every process is forked
from one that has imported Airflow (see ``testbed.components``) and ends with the process that called
:meth:`AirflowStack.start`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from testbed.client import AirflowClient, ApiError
from testbed.services import (
    LOOPBACK,
    PATIENCE,
    REPOSITORY,
    StepError,
    clean_environment,
    free_port,
    wait_until,
)


def settings(home: Path, base_url: str, dag_folders: Sequence[Path]) -> dict[str, str]:
    """Return the settings of an Airflow that lives below one directory and listens at ``base_url`` only."""
    bundles = [
        {
            "name": f"local-{Path(folder).name}",  # the bare name may be one that Airflow reserves
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(Path(folder).resolve()), "refresh_interval": 5},
        }
        for folder in dag_folders
    ]
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__BASE_URL": base_url,
        "AIRFLOW__API__HOST": LOOPBACK,
        "AIRFLOW__API__PORT": base_url.rpartition(":")[2],
        "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(48),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(48),
        "AIRFLOW__CORE__AUTH_MANAGER": (
            "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
        ),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{base_url}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        # SQLite's five seconds are too few where dozens of processes share two cores. Nor should it be many:
        # the API server's event loop can wait for a lock that one of its own threads holds.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}?timeout=20",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs" / "tasks"),
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        # macOS only: a forked child may not use Objective-C frameworks, and asks one for proxies.
        "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES",
    }


class AirflowStack:
    """An API server, a scheduler, a DAG processor and a triggerer in one directory.

    :param home: directory for everything the stack writes; created where missing
    :param dag_folders: folders with DAG files
    :param env: further environment variables, such as connections and ``AIRFLOW__`` settings
    :param port: preferred port of the web interface and the REST API
    """

    forker = "testbed.components"
    """The module that the components are forked from."""
    components: Mapping[str, tuple[str, ...]] = {
        "api-server": ("api-server",),
        "dag-processor": ("dag-processor",),
        "scheduler": ("scheduler", "--skip-serve-logs"),
        "triggerer": ("triggerer", "--skip-serve-logs"),
    }

    def __init__(
        self,
        home: Path,
        dag_folders: Sequence[Path],
        *,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
    ) -> None:
        self.home = Path(home).resolve()
        self.port = free_port(port)
        self.base_url = f"http://{LOOPBACK}:{self.port}"
        self.client = AirflowClient(self.base_url)
        self.logs = self.home / "logs"
        self.pids: dict[str, int] = {}
        self._ended: dict[str, int] = {}
        self._forker: subprocess.Popen[bytes] | None = None
        self._answers: int = -1
        self._pending = b""
        self._messages: list[dict[str, Any]] = []
        self._env = clean_environment({**settings(self.home, self.base_url, dag_folders), **(env or {})})

    def __enter__(self) -> AirflowStack:
        if self._forker is None:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- life cycle ---------------------------------------------------------------------------------------

    def start(self, timeout: float = PATIENCE) -> None:
        """Start everything and wait until it is healthy; on failure nothing is left running."""
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            self._start_forker(timeout)
            for name in self.components:
                self.start_component(name)
            self.wait_healthy(timeout)
        except BaseException:
            self.stop()
            raise

    def _start_forker(self, timeout: float) -> None:
        read, write = os.pipe()
        with self.log_path("components").open("ab") as output:
            self._forker = subprocess.Popen(
                [sys.executable, "-m", self.forker, str(write)],
                cwd=REPOSITORY,
                env=self._env,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[write],
                start_new_session=True,  # Ctrl-C is for us alone; we stop the others in order
            )
        os.close(write)
        self._answers = read
        self._expect("ready", timeout)

    def start_component(self, name: str) -> int:
        """Start (or restart) one component and return its process id."""
        self._command(name=name, arguments=self.components[name], log=str(self.log_path(name)))
        self._ended.pop(name, None)
        return int(self._expect("started", 10)["pid"])

    def kill_component(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to one component and wait for its end; what it leaves behind is killed."""
        os.kill(self.pids[name], number)

        def gone() -> bool:
            self._receive(0.1)
            return name not in self.pids

        wait_until(gone, timeout=30, what=f"the {name} to end", interval=0)

    def stop(self, grace: float = 20) -> None:
        """Stop every component in order, then the process they came from. May be called twice."""
        if self._forker is None:
            return
        forker, self._forker = self._forker, None
        try:
            if forker.poll() is None and forker.stdin:
                forker.stdin.close()  # hanging up is the order to stop everything
                forker.wait(grace)
        except subprocess.TimeoutExpired:
            for pid in self.pids.values():
                _kill_group(pid)
            _kill_group(forker.pid)
            forker.wait()
        finally:
            os.close(self._answers)
            self.pids.clear()

    # -- state --------------------------------------------------------------------------------------------

    def require(self, *names: str) -> None:
        """Raise if one of these components, or without names any component, has ended."""
        self._receive(0)
        for name, status in self._ended.items():
            if not names or name in names:
                raise StepError(f"The {name} ended with status {status}.", self.log_path(name))

    def wait_healthy(self, timeout: float = PATIENCE) -> None:
        """Wait until every component reports itself healthy."""

        def healthy() -> bool:
            self.require()
            try:
                health = self.client.health()
            except (OSError, ApiError):
                return False
            return all(
                (health.get(part) or {}).get("status") == "healthy"
                for part in ("metadatabase", "scheduler", "triggerer", "dag_processor")
            )

        try:
            wait_until(healthy, timeout=timeout, what="Airflow to be healthy", interval=0.2)
        except StepError as failure:
            raise StepError(str(failure), failure.log or self.log_path("api-server")) from None

    def wait_for_dag(self, dag_id: str, timeout: float = PATIENCE) -> None:
        """Wait until a DAG has been parsed."""

        def parsed() -> bool:
            return self.client.find_dag(dag_id) is not None

        try:
            wait_until(parsed, timeout=timeout, what=f"DAG {dag_id} to be parsed", interval=0.2)
        except StepError as failure:
            errors = "\n".join(error["stack_trace"] for error in self.client.import_errors())
            raise StepError(f"{failure}\n{errors}".strip(), self.log_path("dag-processor")) from None

    def log_path(self, name: str) -> Path:
        """Return the log file of a component."""
        return self.logs / f"{name}.log"

    # -- talking to testbed.components -----------------------------------------------------------------------

    def _command(self, **command: Any) -> None:
        if self._forker is None or self._forker.stdin is None:
            raise StepError("The stack is not running.")
        try:
            self._forker.stdin.write(json.dumps(command).encode() + b"\n")
            self._forker.stdin.flush()
        except BrokenPipeError:
            raise StepError("Airflow's parent process has ended.", self.log_path("components")) from None

    def _expect(self, event: str, timeout: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout
        while True:
            for message in self._messages:
                if message["event"] == event:
                    self._messages.remove(message)
                    return message
            self._receive(min(1.0, max(0.0, deadline - time.monotonic())))
            if time.monotonic() > deadline:
                raise StepError(
                    f"Airflow was not {event} after {timeout:.0f} s.", self.log_path("components")
                )

    def _receive(self, timeout: float) -> None:
        readable, _, _ = select.select([self._answers], [], [], timeout)
        if not readable:
            return
        received = os.read(self._answers, 65536)
        if not received:
            raise StepError("Airflow could not be started.", self.log_path("components"))
        *lines, self._pending = (self._pending + received).split(b"\n")
        for message in map(json.loads, lines):
            if message["event"] == "started":
                self.pids[message["name"]] = message["pid"]
            elif message["event"] == "ended":
                self.pids.pop(message["name"], None)
                self._ended[message["name"]] = message["status"]
                continue
            elif message["event"] == "failed":
                raise StepError(
                    f"Airflow could not be started: {message['step']} failed.", self.log_path("components")
                )
            self._messages.append(message)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
