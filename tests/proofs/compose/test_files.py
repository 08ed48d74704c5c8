"""What can be said about the composition without an engine; ``python -m tests.proofs.compose`` runs it."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import init
from deploy.init import READERS
from tests.proofs.compose.dags import what_can_be_read

from .engine import REPOSITORY

FILE = yaml.safe_load((REPOSITORY / "docker-compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()
PINNED = re.compile(r"[\w/]+:\d+\.\d+(\.\d+)?(-\w[\w.]*)?|airflow-tuning(-emulators)?:\$\{IMAGE_TAG:-local\}")
ONCE = ("init", "migrate")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_limited_and_without_root(name: str) -> None:
    service = SERVICES[name]
    assert PINNED.fullmatch(service["image"])
    assert service["user"] not in ("root", "0", "")
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    if name not in ONCE:
        assert service["healthcheck"]
        assert service["restart"] == "unless-stopped"
        assert service["stop_grace_period"] if name not in ("tuning-emulator", "storage-emulator") else True


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_health_and_never_for_an_optional_one(name: str) -> None:
    optional = {other for other, service in SERVICES.items() if service.get("profiles")}
    for other, how in SERVICES[name].get("depends_on", {}).items():
        wanted = "service_completed_successfully" if other in ONCE else "service_healthy"
        assert how == {"condition": wanted}
        assert other not in optional or name in optional


def test_volumes_are_named_and_used() -> None:
    used = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if not volume.startswith((".", "$"))
    }
    assert used == set(FILE["volumes"])


def test_the_image_has_the_version_of_airflow_that_is_tested() -> None:
    constraint = re.search(
        r"^apache-airflow==(\S+)$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE
    )
    assert constraint
    assert f"ARG AIRFLOW_IMAGE=apache/airflow:{constraint[1]}-python3.13\n" in DOCKERFILE


def test_no_secret_and_no_key_can_get_into_the_image_or_the_repository() -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in ignored if line.startswith("!")]
    assert "*" in ignored
    assert not [path for path in allowed if "google" in path or "env" in path]
    assert (REPOSITORY / "deploy/google/.gitignore").read_text().splitlines()[1:] == ["*", "!.gitignore"]
    assert "google.env" in (REPOSITORY / "deploy/.gitignore").read_text().split()
    words = (REPOSITORY / ".env").read_text().lower()
    assert not re.search(r"(password|secret|key)=", words)


@pytest.mark.parametrize(
    "name", [name for name, one in SERVICES.items() if "airflow-tuning:" in one["image"]]
)
def test_a_service_of_airflow_mounts_its_own_secrets_and_reads_no_others(name: str) -> None:
    mounted = [volume for volume in SERVICES[name]["volumes"] if "secrets" in volume]
    if name == "init":
        assert {volume.split(":")[0] for volume in mounted} == {v for v in FILE["volumes"] if "secrets" in v}
        return
    assert mounted == [f"secrets-{name}:/opt/airflow/secrets:ro"]
    used = set(re.findall(r"cat /opt/airflow/secrets/(\w+)", json.dumps(SERVICES[name])))
    assert used == set(READERS[name])


@pytest.mark.parametrize("name", ["worker", "triggerer", "dag-processor"])
def test_where_the_code_of_dags_runs_nobody_can_make_himself_administrator(name: str) -> None:
    assert not {"admin_password", "jwt_secret", "api_secret_key"} & set(READERS[name])
    assert "database_url" not in READERS["worker"]


@pytest.fixture
def volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Run deploy/init.py as the container does, twice, and return the volumes."""
    names = [volume.removesuffix(":ro").split(":") for volume in SERVICES["init"]["volumes"]]
    made = {name: tmp_path / Path(inside).name for name, inside in names if not name.startswith(".")}
    for path in made.values():
        path.mkdir()
    monkeypatch.setattr(init, "HOME", tmp_path)
    for name in ("AIRFLOW", "POSTGRES", "REDIS", "TLS"):
        monkeypatch.setattr(init, name, tmp_path / getattr(init, name).name)
    # What an earlier version left, and no longer hands out.
    (made["secrets-worker"] / "admin_password").write_text("left")
    for _ in range(2):
        for step in (init.make_secrets, init.make_certificate, init.make_bundle, init.hand_out):
            step()
    return made


@pytest.mark.parametrize("service", init.READERS)
def test_code_in_a_service_finds_the_secrets_of_its_volume_and_no_others(
    service: str, volumes: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in what_can_be_read.py, which looks from within a container."""
    everything = {
        path.name: path.read_text() for path in volumes["secrets"].iterdir() if path.name != "ca-bundle.pem"
    }
    assert {name for names in init.READERS.values() for name in names} == set(everything)
    monkeypatch.setattr(what_can_be_read, "PLACES", (str(volumes[f"secrets-{service}"]),))
    digests = {name: hashlib.sha256(value.encode()).hexdigest() for name, value in everything.items()}
    password = (volumes["secrets-postgres"] / "password").read_text()
    digests["the database's password"] = hashlib.sha256(password.encode()).hexdigest()
    found = what_can_be_read.found(digests)
    assert int(found.pop("looked at")[0]) >= len(init.READERS[service]) + 1
    wanted = {*init.READERS[service]}
    if "database_url" in wanted:
        wanted.add("the database's password")
    assert {name for name, places in found.items() if places} == wanted


def test_no_password_is_on_a_command_line() -> None:
    commands = json.dumps([service.get("command") for service in SERVICES.values()])
    assert "--password" not in commands
    assert "requirepass" not in commands


def test_every_setting_is_documented() -> None:
    text = (REPOSITORY / "docker-compose.yaml").read_text()
    page = (REPOSITORY / "docs/deployment.md").read_text()
    handed_on = {name for name in SERVICES["init"]["environment"] if name != "CONNECTION_CHECK_MAX_COUNT"}
    for name in {*re.findall(r"\$\{(\w+)", text), *handed_on}:
        assert f"`{name}`" in page, name
