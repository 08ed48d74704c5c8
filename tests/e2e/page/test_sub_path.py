"""The page of an Airflow that lives below a path."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_tuning_provider.emulator.testing import Emulator
from testbed.client import ApiError
from testbed.services import connection, free_port, wait_until
from testbed.stack import AirflowStack
from tests.e2e.conftest import TOKEN
from tests.e2e.page.conftest import PROJECT, UserClient

pytestmark = [pytest.mark.e2e, pytest.mark.matrix, pytest.mark.timeout(400)]

PATH = "/team/airflow"


class ApiServer(AirflowStack):
    """An API server alone."""

    components = {"api-server": AirflowStack.components["api-server"]}  # noqa: RUF012

    def wait_healthy(self, timeout: float = 120) -> None:
        """Wait until it answers."""

        def healthy() -> bool:
            self.require()
            try:
                return bool(self.client.health())
            except (OSError, ApiError, AssertionError):
                return False

        wait_until(healthy, timeout=timeout, what="the API server to answer")


@pytest.fixture
def below(tmp_path: Path) -> Iterator[str]:
    """Start an API server below a path, with one job to show; yield its address."""
    passwords = tmp_path / "passwords.json"
    passwords.write_text(json.dumps({"ada": "ada"}))
    port = free_port()
    base = f"http://127.0.0.1:{port}{PATH}"
    with Emulator(token=TOKEN) as emulator:
        emulator.seed({"tunedModelDisplayName": "below a path"}, project=PROJECT)
        server = ApiServer(
            tmp_path / "airflow",
            [],
            port=port,
            env={
                "AIRFLOW__API__BASE_URL": base,
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "ada:admin",
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
                "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": connection(emulator.url, project=PROJECT, token=TOKEN),
            },
        )
        server.client = UserClient(base, "ada")
        with server:
            yield base


def test_everything_is_below_the_path(below: str, open_page: Any) -> None:
    page = open_page(below, "ada")
    page.get_by_role("button", name="below a path").click()
    page.get_by_role("heading", name="Hyperparameters").wait_for()
    assert page.url.startswith(f"{below}/plugin/tuning_jobs?")
    page.get_by_role("button", name="Re-check").click()
    page.get_by_text("Google says:").wait_for()
    asked = page.evaluate("performance.getEntriesByType('resource').map(one => one.name)")
    ours = [url for url in asked if "tuning-jobs" in url]
    assert len(ours) >= 3
    assert all(url.startswith(f"{below}/tuning-jobs/") for url in ours)
