"""What can be said about the composition without an engine; ``python -m tests.proofs.compose`` runs it."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

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


def test_every_setting_is_documented() -> None:
    text = (REPOSITORY / "docker-compose.yaml").read_text()
    page = (REPOSITORY / "docs/deployment.md").read_text()
    handed_on = {name for name in SERVICES["init"]["environment"] if name != "CONNECTION_CHECK_MAX_COUNT"}
    for name in {*re.findall(r"\$\{(\w+)", text), *handed_on}:
        assert f"`{name}`" in page, name
