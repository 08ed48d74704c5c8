"""The process that Airflow's components are forked from.

``python -m testbed.components`` imports Airflow once, creates the metadata database and then forks one process
per component (API server, scheduler, DAG processor, triggerer) on request. Importing Airflow takes seconds
of processor time, a fork of the warm process milliseconds: this is what makes a real Airflow start quickly.

The owner (``testbed.stack``) writes one JSON object per line to standard input and reads one per line from the
descriptor given as the only argument. When standard input closes, for whatever reason, every component is
stopped: nothing outlives the owner.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import sys
import time
from typing import Any

# The order matters: the API server, which the others and running tasks talk to, goes last.
STOP_ORDER = (("scheduler", "triggerer", "dag-processor"), ("api-server",))

# What the components import sooner or later. Importing it here costs its time once instead of up to four
# times. A module that another version of Airflow does not have is skipped.
WARM_MODULES = (
    "airflow.cli.cli_parser",
    "airflow.jobs.scheduler_job_runner",
    "airflow.jobs.triggerer_job_runner",
    "airflow.jobs.dag_processor_job_runner",
    "airflow.dag_processing.manager",
    "airflow.dag_processing.processor",
    "airflow.dag_processing.bundles.local",
    "airflow.executors.local_executor",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "airflow.cli.commands.scheduler_command",
    "airflow.cli.commands.triggerer_command",
    "airflow.cli.commands.dag_processor_command",
    "airflow.cli.commands.api_server_command",
    "airflow.api_fastapi.main",  # builds the application, which is half of the API server's start
    "airflow.api_fastapi.auth.managers.simple.simple_auth_manager",
    "airflow.providers.standard.operators.python",
    "airflow.providers.standard.decorators.python",
    "uvicorn",
)


def _warm(modules: tuple[str, ...]) -> None:
    for name in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _fork() -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    return os.fork()


def _initialise_database() -> None:
    from airflow.utils import db

    db.initdb()


def _run_component(arguments: list[str], log: str) -> None:
    """Become an Airflow component: what ``airflow COMMAND`` does, without its import."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    from airflow import settings

    settings.dispose_orm(do_log=False)
    settings.configure_orm()
    from airflow.__main__ import main

    sys.argv = ["airflow", *arguments]
    main()


class Forker:
    """Starts, watches and stops the components."""

    def __init__(self, answers: int) -> None:
        self.answers = answers
        self.pids: dict[str, int] = {}

    def tell(self, **message: Any) -> None:
        """Send one message to the owner; a vanished owner is noticed on standard input."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self.answers, json.dumps(message).encode() + b"\n")

    def start(self, name: str, arguments: list[str], log: str) -> None:
        """Fork one component."""
        pid = _fork()
        if pid:
            self.pids[name] = pid
            self.tell(event="started", name=name, pid=pid)
            return
        status = 1
        try:
            os.close(self.answers)
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.close(null)
            _run_component(arguments, log)
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except BaseException:  # noqa: BLE001  (a forked child must never return into the loop of its parent)
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def reap(self) -> None:
        """Notice components that have ended."""
        for name, pid in list(self.pids.items()):
            with contextlib.suppress(ChildProcessError):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    del self.pids[name]
                    kill_session(pid)
                    self.tell(event="ended", name=name, pid=pid, status=os.waitstatus_to_exitcode(status))

    def stop(self, grace: float) -> None:
        """End all components, each with what it started."""
        for group in STOP_ORDER:
            pids = {name: self.pids[name] for name in group if name in self.pids}
            for pid in pids.values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            began = time.monotonic()
            while self.pids.keys() & pids.keys():
                if time.monotonic() > began + grace:
                    for name in self.pids.keys() & pids.keys():
                        sys.stdout.write(f"{name} does not stop: killing it\n")
                        kill_session(pids[name])
                time.sleep(0.05)
                self.reap()

    def serve(self) -> None:
        """Obey the owner until it hangs up."""
        pending = b""
        while True:
            readable, _, _ = select.select([0], [], [], 0.2)
            self.reap()
            if not readable:
                continue
            received = os.read(0, 65536)
            if not received:
                return
            *lines, pending = (pending + received).split(b"\n")
            for line in lines:
                command = json.loads(line)
                self.start(command["name"], command["arguments"], command["log"])


def kill_session(leader: int) -> None:
    """Kill -9 whatever still runs in the session of a component.

    Executor workers and tasks have process groups of their own, but stay in the component's session.
    """
    import psutil

    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                process.kill()


def main(answers: int) -> None:
    """Warm up, create the database, and serve."""
    forker = Forker(answers)
    import airflow.settings

    airflow.settings.initialize()
    _warm(WARM_MODULES[:1])
    database = _fork()  # beside the imports that follow
    if database == 0:
        try:
            _initialise_database()
        except BaseException:  # noqa: BLE001
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _warm(WARM_MODULES)
    from airflow.providers_manager import ProvidersManager

    ProvidersManager().initialize_providers_configuration()
    _, status = os.waitpid(database, 0)
    if status:
        forker.tell(event="failed", step="creating the metadata database")
        raise SystemExit(1)
    airflow.settings.dispose_orm(do_log=False)
    import gc

    gc.collect()
    gc.freeze()  # keeps the shared pages shared
    forker.tell(event="ready")
    try:
        forker.serve()
    finally:
        forker.stop(grace=4)


if __name__ == "__main__":
    main(int(sys.argv[1]))
