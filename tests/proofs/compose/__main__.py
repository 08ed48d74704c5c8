"""``python -m tests.proofs.compose``: bring docker-compose.yaml up for real, hurt it, and take it down.

The pipeline ``retrain_weekly`` runs twice through the REST API. While its job is under way, the first run
loses the triggerer that watches and a worker; during the second everything is stopped and started again.
Both have to end well, with one job each. Without a Docker engine it says so and ends with status 0.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_tuning_provider.emulator.testing import EmulatorClient, EmulatorError
from deploy.init import READERS
from testbed.client import AirflowClient, ApiError
from testbed.services import StepError, free_port, http_json, time_limit, wait_until
from tests.proofs.compose.engine import (
    REPOSITORY,
    NoEngineError,
    compose_command,
    engine,
    provide_images,
    run,
)

DAG_ID = "retrain_weekly"
PROJECT = f"airflow-tuning-test-{os.getpid()}"
# A job takes half an hour at speed 1: long enough here for a triggerer to be missed and replaced.
SPEED = 20
CONTAINERS = {
    "api-server": 1, "dag-processor": 1, "postgres": 1, "redis": 1, "scheduler": 1, "storage-emulator": 1,
    "triggerer": 2, "tuning-emulator": 1, "worker": 2,
}  # fmt: skip
SECRETS = (
    *("fernet_key", "jwt_secret", "api_secret_key", "admin_password", "database_url", "broker_url"),
    "result_backend",
)
LOOK_DAG_ID = "what_can_be_read"


class Client(AirflowClient):
    """Logs in as the administrator."""

    password = ""

    def _authorization(self) -> dict[str, str]:
        if self._token is None:
            body = {"username": "admin", "password": self.password}
            status, answer = http_json("POST", f"{self.base_url}/auth/token", body)
            if status not in (200, 201):
                raise ApiError("POST", "/auth/token", status, answer)
            self._token = answer["access_token"]
        return {"Authorization": f"Bearer {self._token}"}


class Composition:
    """docker-compose.yaml under a project name of its own."""

    def __init__(self) -> None:
        self.command = compose_command()
        self.port, self.emulator_port = free_port(), free_port()
        self._dags = tempfile.TemporaryDirectory(prefix="airflow-tuning-dags-")
        for folder in (REPOSITORY / "example_dags", REPOSITORY / "tests" / "proofs" / "compose" / "dags"):
            shutil.copytree(folder, self._dags.name, dirs_exist_ok=True)
        Path(self._dags.name).chmod(0o755)  # the containers run as somebody else
        self.client = Client(f"http://127.0.0.1:{self.port}")
        os.environ.update(
            COMPOSE_HTTP_TIMEOUT="300",  # of Compose 1.29; slow disks
            COMPOSE_PROJECT_NAME=PROJECT,
            IMAGE_TAG=f"test-{os.getpid()}",
            AIRFLOW_PORT=str(self.port),
            DAGS_FOLDER=self._dags.name,
            EMULATOR_PORT=str(self.emulator_port),
            EMULATOR_SPEED=str(SPEED),
        )

    def __call__(self, *arguments: str, timeout: float = 300, check: bool = True) -> str:
        files = ["--project-directory", str(REPOSITORY), "--file", str(REPOSITORY / "docker-compose.yaml")]
        return run(*self.command, *files, *arguments, timeout=timeout, check=check).stdout

    def read(self, service: str, path: str) -> str:
        """Read a file inside a container."""
        return self("exec", "-T", service, "cat", path)

    def containers(self) -> list[dict[str, Any]]:
        """Return what ``docker inspect`` says about every container."""
        found = run("docker", "ps", "-aq", "--filter", f"label=com.docker.compose.project={PROJECT}").stdout
        return json.loads(run("docker", "inspect", *found.split()).stdout) if found.strip() else []

    def of(self, service: str) -> list[dict[str, Any]]:
        """Return the containers of one service."""
        return [
            c for c in self.containers() if c["Config"]["Labels"]["com.docker.compose.service"] == service
        ]

    def wait_healthy(self, timeout: float) -> None:
        """Wait until every long-running container is healthy."""

        def healthy() -> bool:
            states: dict[str, list[str]] = {}
            for c in self.containers():
                service = c["Config"]["Labels"]["com.docker.compose.service"]
                states.setdefault(service, []).append(c["State"].get("Health", {}).get("Status", ""))
            return all(states.get(name) == ["healthy"] * count for name, count in CONTAINERS.items())

        wait_until(healthy, timeout=timeout, what="every container to be healthy", interval=2)

    def log_in(self) -> None:
        """Fetch the administrator's password."""
        self.client.password = self.secrets()["admin_password"]

    def secrets(self) -> dict[str, str]:
        """Return all secrets by name, from where nothing but ``init`` can read them."""
        names = " ".join(SECRETS)
        script = f'cd /opt/airflow/secrets && for name in {names}; do echo "$name $(cat $name)"; done'
        lines = self("run", "--rm", "--no-deps", "-T", "init", "bash", "-c", script).splitlines()
        found = dict(line.split(" ", 1) for line in lines if line.startswith(SECRETS))
        check(set(found) == set(SECRETS), f"not all secrets were made: {sorted(found)}")
        return found

    def jobs(self) -> list[dict[str, Any]]:
        """Return the emulator's jobs."""
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as authority:
            authority.write(self.read("tuning-emulator", "/opt/airflow/tls/ca.pem"))
            authority.flush()
            return EmulatorClient(f"https://localhost:{self.emulator_port}", authority.name).jobs()

    def leftovers(self) -> list[str]:
        """Return what is left of the project."""
        label = f"label=com.docker.compose.project={PROJECT}"
        commands = (("ps", "-aq"), ("volume", "ls", "-q"), ("network", "ls", "-q"))
        return [w for c in commands for w in run("docker", *c, "--filter", label).stdout.split()]


BEGAN = time.monotonic()


def say(text: str) -> None:
    """Print a line with the seconds since the beginning."""
    print(f"{time.monotonic() - BEGAN:6.1f} s  {text}", flush=True)


def patiently(function: Callable[[], Any], timeout: float = 60) -> Any:
    """Call again while the API server cannot be reached."""

    def attempt() -> Any:
        try:
            return [function()]
        except (OSError, ApiError):
            return None

    return wait_until(attempt, timeout=timeout, what="an answer of the API server", interval=1)[0]


def check(condition: object, text: str) -> None:
    """Fail with a text."""
    if not condition:
        raise StepError(text)


def until_deferred(compose: Composition) -> str:
    """Start a run and return its id as soon as its task waits in a triggerer."""
    run_id = compose.client.trigger(DAG_ID, conf={"poll_interval": 1})

    def waits() -> bool:
        instances = compose.client.task_instances(DAG_ID, run_id)
        bad = [t for t, i in instances.items() if i["state"] in ("failed", "up_for_retry", "upstream_failed")]
        if bad:
            log = compose.client.task_log(DAG_ID, run_id, bad[0])
            raise StepError(f"Task {bad[0]} failed:\n{log[-4000:]}")
        instance = instances.get("tune", {})
        return instance.get("state") == "deferred" and bool(instance.get("triggerer_job"))

    wait_until(waits, timeout=180, what="the task to wait in a triggerer", interval=1)
    return run_id


def ends_well(compose: Composition, run_id: str, jobs: int) -> None:
    """Wait for a run's end and look at what it left."""
    state = patiently(lambda: compose.client.wait_for_run(DAG_ID, run_id, timeout=300, interval=2), 300)
    check(state == "success", f"The run ended as {state}.")
    states = [job["state"] for job in compose.jobs()]
    check(states == ["JOB_STATE_SUCCEEDED"] * jobs, f"{jobs} jobs were to succeed, but there are {states}.")
    say(f"the run succeeded; jobs at the emulator: {len(states)}")
    evaluation = compose.client.xcom(DAG_ID, run_id, "evaluate")
    check(evaluation["verdict"] == "better", evaluation["sentence"])


def look_at_containers(compose: Composition) -> None:
    """No root, no secrets in images and settings, and limits everywhere."""
    secrets = compose.secrets().values()
    for container in compose.containers():
        name, config, host = container["Name"], container["Config"], container["HostConfig"]
        check(config["User"] not in ("", "0", "root"), f"{name} runs as root.")
        check(host["Memory"], f"{name} has no memory limit.")
        check(host["CapDrop"] == ["ALL"], f"{name} has capabilities.")
        check(not any(s in json.dumps(config) for s in secrets), f"{name} shows a secret in its settings.")
        ports = [p["HostIp"] for bound in (host["PortBindings"] or {}).values() for p in bound]
        check(set(ports) <= {"127.0.0.1"}, f"{name} publishes a port to other machines.")
    say("no container runs as root, shows a secret, is without limits or listens beyond this machine")


def look_at_secrets(compose: Composition) -> None:
    """Each service has its own secrets and no others, and the code of a DAG on a worker finds no others either."""
    for service, names in READERS.items():
        if service == "migrate":
            continue  # it has ended
        has = set(compose("exec", "-T", service, "ls", "-A", "/opt/airflow/secrets").split())
        check(has == {*names, "ca-bundle.pem"}, f"{service} can read {sorted(has)}.")
    secrets = compose.secrets()
    digests = {name: hashlib.sha256(value.encode()).hexdigest() for name, value in secrets.items()}
    passwords = {"database_password": secrets["database_url"], "broker_password": secrets["broker_url"]}
    for name, url in passwords.items():
        digests[name] = hashlib.sha256(
            url.split("://", 1)[1].split("@")[0].split(":")[1].encode()
        ).hexdigest()
    wait_until(lambda: compose.client.find_dag(LOOK_DAG_ID), timeout=90, what="the looking DAG", interval=1)
    compose.client.pause(LOOK_DAG_ID, False)
    run_id = compose.client.trigger(LOOK_DAG_ID, conf={"digests": digests})
    state = compose.client.wait_for_run(LOOK_DAG_ID, run_id, timeout=240, interval=1)
    check(state == "success", f"The run of {LOOK_DAG_ID} ended as {state}.")
    found = compose.client.xcom(LOOK_DAG_ID, run_id, "look")
    looked_at = int(found.pop("looked at")[0])
    seen = {name for name, places in found.items() if places}
    # It finds what it may read, so it would have found the others.
    check(seen == {*READERS["worker"], "broker_password"}, f"A DAG on a worker reads {found}.")
    say(
        f"a DAG on a worker looked at {looked_at} files, environments and command lines: it reads {sorted(seen)}"
    )


def lose_containers(compose: Composition, run_id: str) -> None:
    """Kill the triggerer that holds the task, and a worker."""
    instance = compose.client.task_instance(DAG_ID, run_id, "tune")
    host = instance["triggerer_job"]["hostname"]
    triggerers = {c["Id"]: c for c in compose.of("triggerer")}
    holder = next((i for i, c in triggerers.items() if c["Config"]["Hostname"] == host), None)
    check(holder, f"No triggerer is called {host}.")
    worker = compose.of("worker")[0]["Id"]
    run("docker", "kill", str(holder), worker)
    say(f"killed the triggerer that watches the job, and a worker ({host}, {worker[:12]})")


def story(compose: Composition) -> None:
    """What has to work."""
    compose("up", "--detach", timeout=500)
    compose.wait_healthy(420)
    say("everything is healthy")
    compose.log_in()
    look_at_containers(compose)
    look_at_secrets(compose)
    wait_until(lambda: compose.client.find_dag(DAG_ID), timeout=90, what=f"{DAG_ID} to be parsed", interval=1)
    compose.client.pause(DAG_ID, False)

    run_id = until_deferred(compose)
    say(f"{DAG_ID} waits for its job")
    lose_containers(compose, run_id)
    ends_well(compose, run_id, jobs=1)

    compose("up", "--detach", timeout=200)
    compose.wait_healthy(120)
    say("the killed containers are back")
    run_id = until_deferred(compose)
    began = time.monotonic()
    compose("stop", timeout=200)
    killed = [c["Name"] for c in compose.containers() if c["State"]["ExitCode"] == 137]
    say(f"stopped everything in {time.monotonic() - began:.0f} s while a job is under way")
    check(not killed, f"These had to be killed: {killed}")
    compose("up", "--detach", timeout=300)
    say("started everything again")
    compose.client._token = None
    ends_well(compose, run_id, jobs=2)


def test(*, keep_images: bool) -> None:
    """Build, tell the story, and take everything down."""
    compose = Composition()
    airflow = (REPOSITORY / "Dockerfile").read_text().split("ARG AIRFLOW_IMAGE=")[1].split()[0]
    names = [line.split("image: ")[1] for line in (REPOSITORY / "docker-compose.yaml").read_text().splitlines()
             if line.strip().startswith(("image: postgres:", "image: redis:"))]  # fmt: skip
    say(f"base images {provide_images(airflow, *sorted(names))}")
    try:
        compose("build", timeout=540)
        say("built our images")
        story(compose)
    except BaseException:
        for service in (
            "init",
            "migrate",
            "scheduler",
            "worker",
            "triggerer",
            "tuning-emulator",
            "api-server",
        ):
            with contextlib.suppress(Exception):
                print(compose("logs", "--no-color", "--tail=15", service, check=False, timeout=20))
        with contextlib.suppress(Exception):
            print(run("docker", "ps", "-a", check=False).stdout)
        raise
    finally:
        signal.alarm(0)
        for number in (
            signal.SIGINT,
            signal.SIGTERM,
        ):  # whoever is impatient must not leave containers behind
            signal.signal(number, signal.SIG_IGN)
        compose("down", "--volumes", "--remove-orphans", "--timeout", "30", timeout=200, check=False)
        if not keep_images:
            tags = [
                f"{name}:{os.environ['IMAGE_TAG']}" for name in ("airflow-tuning", "airflow-tuning-emulators")
            ]
            run("docker", "rmi", *tags, check=False, timeout=120)
    check(not compose.leftovers(), f"Left behind: {compose.leftovers()}")
    say("took everything down; no container, volume or network is left")


def main() -> int:
    """Run the test and return its exit status."""
    parser = argparse.ArgumentParser("python -m tests.proofs.compose", description=__doc__)
    parser.add_argument(
        "--install", action="store_true", help="as root, apt-get install an engine if none is"
    )
    parser.add_argument("--time-limit", type=int, default=1200, help="seconds (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        with time_limit(arguments.time_limit, "The test"), engine(may_install=arguments.install) as own:
            test(keep_images=own)  # our own engine forgets everything anyway
    except NoEngineError as reason:
        print(f"skipped: no Docker engine ({reason})")
        return 0
    except (StepError, ApiError, EmulatorError, RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        say(f"FAILED: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; everything was taken down")
        return 130
    say("passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
