"""A Docker engine for the test: the one that is there, or one of our own that leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
DEBIAN_PACKAGES = ("docker.io", "docker-compose", "iptables", "debootstrap")


class NoEngineError(Exception):
    """No Docker engine can be had here; the text says why."""


def run(*command: str | Path, timeout: float = 60, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command with its output captured; a failure shows it."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=timeout, check=False
    )
    if check and done.returncode:
        words = " ".join(str(word) for word in command)
        raise RuntimeError(
            f"{words} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
    return done


def answers() -> bool:
    """Tell whether the engine that DOCKER_HOST (or the default) names answers."""
    try:
        return run("docker", "version", timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def compose_command() -> list[str]:
    """Return the Compose that is installed: the plugin or the older program."""
    for command in (["docker", "compose"], ["docker-compose"]):
        with contextlib.suppress(OSError):
            if run(*command, "version", check=False).returncode == 0:
                return command
    raise NoEngineError("neither 'docker compose' nor 'docker-compose' is installed")


def install() -> None:
    """Install an engine from Debian."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise NoEngineError("--install needs root and apt-get")
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    try:
        run("apt-get", "update", "-qq", timeout=120)
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *DEBIAN_PACKAGES, timeout=300)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        raise NoEngineError(f"apt-get could not install {', '.join(DEBIAN_PACKAGES)}: {error}") from None


def storage_driver(directory: Path) -> str:
    """Return overlay2 where it works, as it does not inside many containers; else vfs, which copies each layer."""
    with tempfile.TemporaryDirectory(dir=directory) as place:
        parts = {name: f"{place}/{name}" for name in ("lower", "upper", "work", "merged")}
        for part in parts.values():
            os.mkdir(part)
        options = f"lowerdir={parts['lower']},upperdir={parts['upper']},workdir={parts['work']}"
        if run("mount", "-t", "overlay", "overlay", "-o", options, parts["merged"], check=False).returncode:
            return "vfs"
        run("umount", parts["merged"], check=False)
        return "overlay2"


@contextlib.contextmanager
def engine(*, may_install: bool = False) -> Iterator[bool]:
    """Provide an engine in DOCKER_HOST; yield whether it is our own."""
    if shutil.which("docker") and answers():
        yield False
        return
    if may_install and not shutil.which("dockerd"):
        install()
    if not shutil.which("dockerd") or not shutil.which("docker"):
        raise NoEngineError("none answers, and dockerd is not installed (--install installs Debian's)")
    if os.geteuid() != 0:
        raise NoEngineError("none answers, and starting one needs root")
    directory = Path(tempfile.mkdtemp(prefix="airflow-tuning-docker-"))
    before = os.environ.get("DOCKER_HOST")
    os.environ["DOCKER_HOST"] = f"unix://{directory}/sock"
    command = ["dockerd", "--storage-driver", storage_driver(directory), "--data-root", f"{directory}/data"]
    command += ["--exec-root", f"{directory}/exec", "--pidfile", f"{directory}/pid"]
    command += ["--default-ulimit", "nofile=1024:1024", "--default-ulimit", "nproc=4096:4096"]
    log = directory / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "-H", os.environ["DOCKER_HOST"]],
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 60
        while not answers():
            if process.poll() is not None or time.monotonic() > deadline:
                last = "".join(log.read_text().splitlines(keepends=True)[-3:]).strip()
                raise NoEngineError(f"dockerd does not start here: {last}")
            time.sleep(0.5)
        yield True
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        if process.poll() is None:
            process.kill()
            process.wait()
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((m for m in mounts if m.startswith(f"{directory}/")), reverse=True):
            run("umount", "-l", mount, check=False)
        shutil.rmtree(directory, ignore_errors=True)
        if before is None:
            os.environ.pop("DOCKER_HOST", None)
        else:
            os.environ["DOCKER_HOST"] = before


def has_image(name: str) -> bool:
    """Tell whether an image is there."""
    return run("docker", "image", "inspect", name, check=False).returncode == 0


def provide_images(airflow: str, postgres: str, redis: str, *, pull_seconds: float = 240) -> str:
    """See that the base images are there; return how."""
    missing = [name for name in (airflow, postgres, redis) if not has_image(name)]
    if not missing:
        return "were there"
    with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
        for name in missing:
            run("docker", "pull", "--quiet", name, timeout=pull_seconds)
        return "pulled"
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        raise NoEngineError(f"{', '.join(missing)} cannot be pulled, and stand-ins need root and debootstrap")
    work = Path(tempfile.mkdtemp(prefix="airflow-tuning-stand-in-"))
    uv = shutil.which("uv") or Path(sys.executable).with_name("uv")
    try:
        run(HERE / "stand-in-images", work, uv, airflow, postgres, redis, timeout=540)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return "stand-ins were made from Debian and PyPI: the registry cannot be reached"
