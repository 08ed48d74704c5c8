"""The topology of docker-compose.yaml as plain processes: PostgreSQL, Redis, Airflow with Celery.

Two workers, two triggerers, an API server, a scheduler and a DAG processor, each of which can be killed,
stopped and started again by itself. The second triggerer reaches the tuning API through a proxy that can be
cut. Everything lives in one directory and on loopback ports.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

from airflow_tuning_provider.emulator.testing import Emulator
from testbed.client import AirflowClient
from testbed.components import kill_session
from testbed.services import LOOPBACK, StepError, clean_environment, connection, free_port, tail, wait_until
from testbed.stack import settings

HEALTH_THRESHOLD = 12
DEBIAN_PACKAGES = ("postgresql", "redis-server")
PROJECT, LOCATION, TOKEN = "test-project", "us-central1", "distributed"
# A job takes half an hour by itself; the rows end jobs when they want to.
SPEED = 1


class UnavailableError(Exception):
    """PostgreSQL or Redis cannot be had here; the text says why."""


def _find(program: str, *directories: str) -> str | None:
    places = [
        *(str(p) for d in directories for p in sorted(Path("/").glob(d), reverse=True)),
        os.environ["PATH"],
    ]
    return shutil.which(program, path=os.pathsep.join(places))


def provide_servers(*, may_install: bool) -> tuple[Path, Path]:
    """Return the directory of PostgreSQL's programs and Redis's server; install them where allowed."""
    for last in (not may_install, True):
        initdb = _find("initdb", "usr/lib/postgresql/*/bin", "opt/homebrew/opt/postgresql*/bin")
        redis = _find("redis-server")
        if initdb and redis:
            return Path(initdb).parent, Path(redis)
        if last:
            break
        if os.geteuid() == 0 and shutil.which("apt-get"):
            _install_servers()
    missing = " and ".join(n for n, p in (("PostgreSQL", initdb), ("Redis", redis)) if not p)
    raise UnavailableError(f"{missing} not found; --install installs Debian's as root")


def _install_servers() -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    install = ["install", "-y", "-qq", "--no-install-recommends", *DEBIAN_PACKAGES]
    for command in (["update", "-qq"], install):
        subprocess.run(["apt-get", *command], env=environment, capture_output=True, check=False, timeout=300)


def clock_off_by(seconds: int, directory: Path) -> dict[str, str]:
    """Return the environment in which a process's wall clock is off by so many seconds."""
    library, source = directory / "clock.so", Path(__file__).with_name("clock.c")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        raise UnavailableError("a clock is set off by a small library for Linux, which needs a C compiler")
    if not library.exists():
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), "CLOCK_OFF_BY": str(seconds)}


def _end_with_owner() -> None:
    """Have the kernel end this process when the one that started it is gone, even by SIGKILL."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


class Process:
    """A server that can be started again."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        env: Mapping[str, str],
        log: Path,
        cwd: Path,
        user: str | None = None,
    ) -> None:
        self.name, self.command, self.log, self.cwd, self.user = name, command, log, cwd, user
        self.env = dict(env)
        self.process: subprocess.Popen[bytes] | None = None
        self.changes: dict[str, str] = {}

    def restart(self, **changes: str) -> None:
        """Stop it, and start it with a changed environment; without arguments, with the one from before."""
        self.stop()
        self.changes = changes
        self.start()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it in a session of its own."""
        if self.alive:
            return
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [str(word) for word in self.command],
                cwd=self.cwd,
                env={**self.env, **self.changes},
                user=self.user,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_owner,
            )

    def pids(self) -> list[int]:
        """Return the process and all that it has started."""
        import psutil

        if self.process is None:
            return []
        found = []
        for pid in psutil.pids():
            with contextlib.suppress(OSError, psutil.Error):
                if os.getsid(pid) == self.process.pid and psutil.Process(pid).status() != "zombie":
                    found.append(pid)
        return found

    def processor_seconds(self) -> float:
        """Return the processor time that all of it has taken."""
        import psutil

        total = 0.0
        for pid in self.pids():
            with contextlib.suppress(psutil.Error):
                times = psutil.Process(pid).cpu_times()
                total += times.user + times.system
        return total

    def signal_all(self, number: int) -> None:
        """Send a signal to all of it, as the loss (or the stall) of a machine would."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """End all of it at once."""
        if self.process is not None:
            self.signal_all(signal.SIGKILL)
            kill_session(self.process.pid)
            self.process.wait()

    def stop(self, grace: float = 30) -> None:
        """Ask it to end, and kill what does not."""
        if self.process is None:
            return
        if self.alive:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(grace)
        self.kill()


class Proxy:
    """Passes TCP connections on until it is cut; then it closes them and lets no new one through."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.cut = False
        self._pairs: list[socket.socket] = []
        self._server = socket.create_server((LOOPBACK, 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if self.cut:
                client.close()
                continue
            try:
                upstream = socket.create_connection((LOOPBACK, self.target), timeout=10)
            except OSError:
                client.close()
                continue
            upstream.settimeout(None)
            self._pairs += [client, upstream]
            for source, sink in ((client, upstream), (upstream, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def set_cut(self, cut: bool) -> None:
        """Cut the network, or mend it."""
        self.cut = cut
        if cut:
            for end in self._pairs:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            self._pairs.clear()

    def close(self) -> None:
        """Listen no more."""
        self.set_cut(True)
        self._server.close()


class Machine:
    """Everything, started and healthy within a ``with``."""

    def __init__(self, home: Path, python: Path, *, may_install: bool = False) -> None:
        self.home, self.python = home, python
        self.postgres_bin, self.redis_server = provide_servers(may_install=may_install)
        self.logs = home / "logs"
        self.ports = {name: free_port() for name in ("api", "postgres", "redis")}
        self.client = AirflowClient(f"http://{LOOPBACK}:{self.ports['api']}")
        self.emulator = Emulator(speed=SPEED, datasets="skip", token=TOKEN)
        self.processes: dict[str, Process] = {}
        self.fernet_key = Fernet.generate_key()
        self.proxy: Proxy | None = None
        self._connection: Any = None

    # -- life cycle -----------------------------------------------------------------------------------

    def __enter__(self) -> Machine:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # Whoever is impatient must not leave servers behind.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        first = [n for n in self.processes if n not in ("api-server", "redis", "postgres")]
        for name in first:  # all at once: each takes seconds
            process = self.processes[name].process
            if process is not None and process.poll() is None:
                self.processes[name].signal_all(signal.SIGCONT)
                process.terminate()
        for name in (*first, "api-server", "redis", "postgres"):
            if name in self.processes:
                self.processes[name].stop(15)
        self.emulator.stop()
        if self.proxy:
            self.proxy.close()

    def _start(self) -> None:
        self.home.chmod(0o755)
        self.logs.mkdir()
        self.emulator.start()
        self.proxy = Proxy(self.emulator.port)
        self._start_postgres()
        arguments = ["--port", str(self.ports["redis"]), "--bind", LOOPBACK, "--dir", self.home]
        self._add(
            "redis", [self.redis_server, *map(str, arguments), "--appendonly", "yes", "--save", ""], {}
        ).start()
        env = self._environment()
        airflow = [self.python, "-m", "airflow"]
        migrate = subprocess.run(
            [*map(str, airflow), "db", "migrate"], env=env, capture_output=True, text=True, check=False
        )
        if migrate.returncode:
            raise StepError(f"airflow db migrate failed:\n{migrate.stderr[-3000:]}")
        worker = [
            *airflow,
            "celery",
            "worker",
            "--skip-serve-logs",
            "--concurrency",
            "4",
            "--celery-hostname",
        ]
        triggerer = [*airflow, "triggerer", "--skip-serve-logs"]
        # A worker has no database: neither Airflow nor the provider may need one there.
        nowhere = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://nobody@{LOOPBACK}:1/none"}
        cut = {**env, "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": self._tuning_connection(self.proxy.port)}
        self._add("api-server", [*airflow, "api-server"], env)
        self._add("scheduler", [*airflow, "scheduler", "--skip-serve-logs"], env)
        self._add("dag-processor", [*airflow, "dag-processor"], env)
        for number in "12":
            self._add(f"worker-{number}", [*worker, f"worker-{number}@%h"], {**env, **nowhere})
            self._add(f"triggerer-{number}", triggerer, cut if number == "2" else env)
        for process in self.processes.values():
            process.start()
        self.wait_healthy(240)
        found = lambda: self.client.find_dag("fleet") and self.client.find_dag("load")  # noqa: E731
        wait_until(found, timeout=90, what="the DAGs to be parsed", interval=1)

    def _add(
        self, name: str, command: Sequence[Any], env: Mapping[str, str], user: str | None = None
    ) -> Process:
        environment = {**(env or clean_environment()), "AIRFLOW_TEST_COMPONENT": name}
        self.processes[name] = Process(
            name, command, environment, self.logs / f"{name}.log", Path("/") if user else self.home, user
        )
        return self.processes[name]

    def _start_postgres(self) -> None:
        user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
        data = self.home / "postgres"
        data.mkdir()
        if user:
            os.chown(data, pwd.getpwnam(user).pw_uid, -1)
        command = [self.postgres_bin / "initdb", "--pgdata", data, "--username=airflow", "--auth=trust"]
        subprocess.run([str(w) for w in command], user=user, cwd="/", capture_output=True, check=True)
        options = ["-p", str(self.ports["postgres"]), "-k", str(data), "-c", f"listen_addresses={LOOPBACK}"]
        options += ["-c", "max_connections=200", "-D", str(data)]
        self._add("postgres", [self.postgres_bin / "postgres", *options], {}, user).start()
        self._wait_for_postgres()

    def _wait_for_postgres(self) -> None:
        import psycopg2

        def up() -> bool:
            try:
                psycopg2.connect(self._dsn("postgres")).close()
            except psycopg2.OperationalError:
                return False
            return True

        wait_until(up, timeout=60, what="PostgreSQL")
        connection = psycopg2.connect(self._dsn("postgres"))
        connection.autocommit = True
        with contextlib.suppress(psycopg2.errors.DuplicateDatabase):
            connection.cursor().execute("CREATE DATABASE airflow")
        connection.close()

    def _dsn(self, database: str = "airflow") -> str:
        return f"postgresql://airflow@{LOOPBACK}:{self.ports['postgres']}/{database}"

    @staticmethod
    def _tuning_connection(port: int) -> str:
        return connection(f"http://{LOOPBACK}:{port}", project=PROJECT, token=TOKEN)

    def _environment(self) -> dict[str, str]:
        own = {
            "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": self._tuning_connection(self.emulator.port),
            "AIRFLOW__CELERY__BROKER_URL": f"redis://{LOOPBACK}:{self.ports['redis']}/0",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{self._dsn()}",
            # What only takes effect after five or ten minutes by default.
            "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "60",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "10",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": str(HEALTH_THRESHOLD),
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CORE__FERNET_KEY": self.fernet_key.decode(),
            "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "64",
            "AIRFLOW__CORE__PARALLELISM": "32",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self._dsn().replace("postgresql:", "postgresql+psycopg2:"),
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "1",
            "PATH": f"{self.python.parent}{os.pathsep}{os.environ['PATH']}",
        }
        dags = Path(__file__).parent / "dags"
        return clean_environment({**settings(self.home, self.client.base_url, [dags]), **own})

    # -- looking and steering -------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Process:
        return self.processes[name]

    def wait_healthy(self, timeout: float = 120) -> None:
        """Wait until scheduler and DAG processor report, both triggerers beat and both workers answer."""

        def healthy() -> bool:
            for name, process in self.processes.items():
                if not process.alive:
                    raise StepError(f"{name} has ended:\n{tail(process.log)}")
            try:
                health = self.client.health()
            except OSError:
                return False
            parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
            well = all((health.get(part) or {}).get("status") == "healthy" for part in parts)
            return well and len(self.triggerers()) == 2 and self.workers() == 2

        wait_until(healthy, timeout=timeout, what="everything to be healthy", interval=1)

    def workers(self) -> int:
        """Return how many Celery workers answer."""
        from celery import Celery
        from redis.exceptions import RedisError

        app = Celery(broker=f"redis://{LOOPBACK}:{self.ports['redis']}/0")
        try:
            return len(app.control.inspect(timeout=1).ping() or {})
        except (OSError, RedisError):  # for instance a pooled connection from before a restart
            return 0
        finally:
            app.close()

    def sql(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        import psycopg2

        for attempt in (1, 2):
            try:
                if self._connection is None:
                    self._connection = psycopg2.connect(self._dsn())
                    self._connection.autocommit = True
                with self._connection.cursor() as cursor:
                    cursor.execute(query, arguments)
                    found: list[tuple[Any, ...]] = cursor.fetchall()
                    return found
            except psycopg2.Error:
                self._connection = None
                if attempt == 2:
                    raise
        return []

    def triggerers(self) -> list[int]:
        """Return the ids of the triggerers that beat."""
        rows = self.sql(
            "SELECT id FROM job WHERE job_type = 'TriggererJob' AND state = 'running' AND end_date IS NULL "
            "AND latest_heartbeat > now() - %s * interval '1 second' ORDER BY id",
            HEALTH_THRESHOLD,
        )
        return [row[0] for row in rows]

    def balance(self) -> list[int]:
        """Return how many triggers each triggerer has."""
        rows = self.sql("SELECT count(*) FROM trigger WHERE triggerer_id IS NOT NULL GROUP BY triggerer_id")
        return sorted((row[0] for row in rows), reverse=True)

    def instances(self, run_id: str, task_id: str) -> dict[int, tuple[str | None, int | None]]:
        """Return state and triggerer of each mapped task instance."""
        rows = self.sql(
            "SELECT ti.map_index, ti.state, t.triggerer_id FROM task_instance ti LEFT JOIN trigger t "
            "ON t.id = ti.trigger_id WHERE ti.run_id = %s AND ti.task_id = %s AND ti.map_index >= 0",
            run_id,
            task_id,
        )
        return {row[0]: (row[1], row[2]) for row in rows}

    def waiting(self) -> list[tuple[int | None, str]]:
        """Return triggerer and arguments of each trigger, as the database holds them."""
        fernet = Fernet(self.fernet_key)
        rows = self.sql("SELECT triggerer_id, kwargs FROM trigger")
        # Those that come from a worker are stored as they came.
        return [
            (holder, fernet.decrypt(kwargs).decode() if kwargs[:1] == "g" else kwargs)
            for holder, kwargs in rows
        ]

    def restart_ended(self) -> list[str]:
        """Start what has ended by itself again, as a restart policy does; return the names."""
        ended = [name for name, process in self.processes.items() if not process.alive]
        for name in ended:
            self[name].kill()  # what it left behind
            self[name].start()
        return ended

    def restart_postgres(self) -> None:
        """Restart the database as an upgrade would, cutting every connection."""
        process = self["postgres"].process
        assert process is not None
        process.send_signal(signal.SIGINT)
        process.wait(60)
        time.sleep(3)
        self["postgres"].start()
        self._connection = None
        self._wait_for_postgres()


@contextlib.contextmanager
def beside(action: Callable[[], None]) -> Iterator[None]:
    """Do something in another thread meanwhile."""
    thread = threading.Thread(target=action)
    thread.start()
    try:
        yield
    finally:
        thread.join()
