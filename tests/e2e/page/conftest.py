"""A real Airflow with two teams and four users, below a sub-path where asked; an emulator; a real browser."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_tuning_provider.emulator.testing import Emulator
from testbed.client import AirflowClient
from testbed.services import (
    REPOSITORY,
    StepError,
    connection,
    http_json,
    storage_emulator,
    tail,
    tuning_emulator,
    wait_until,
)
from testbed.stack import AirflowStack
from tests.e2e.conftest import BUCKET, TOKEN, training_data, upload

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

# As slow as Vertex AI: jobs are still under way when the last test has ended.
SPEED = 1
PROJECT = "demo-project"
DAG_IDS = ("ours_weekly", "theirs_weekly", "shared_weekly")
USERS = {"ada": "admin", "otto": "op", "uma": "user", "vera": "viewer"}
SHOTS = REPOSITORY / "docs" / "images"
AXE = REPOSITORY / "airflow_tuning_provider" / "plugin" / "www" / "node_modules" / "axe-core" / "axe.min.js"


class UserClient(AirflowClient):
    """Airflow's REST API, and the page's, as one of the users sees it."""

    def __init__(self, base_url: str, name: str) -> None:
        super().__init__(base_url)
        self.name = name

    @property
    def token(self) -> str:
        """The user's token."""
        return self._authorization()["Authorization"].removeprefix("Bearer ")

    def _authorization(self) -> dict[str, str]:
        if self._token is None:
            login = {"username": self.name, "password": self.name}
            status, answer = http_json("POST", f"{self.base_url}/auth/token", login)
            assert status == 201, answer
            self._token = answer["access_token"]
        return {"Authorization": f"Bearer {self._token}"}

    def page(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Call one of the page's routes."""
        if method == "POST" and not headers:
            headers = {"X-Requested-With": "tuning-jobs"}
        return http_json(
            method, f"{self.base_url}/tuning-jobs/api/{path}", body, {**self._authorization(), **headers}
        )


@dataclass
class Site:
    """What a test talks to."""

    airflow: AirflowStack
    emulator: Emulator
    runs: dict[str, str] = field(default_factory=dict)

    def user(self, name: str) -> UserClient:
        """Return a client for one of the users."""
        return UserClient(self.airflow.base_url, name)

    def job_of(self, dag_id: str) -> dict[str, Any]:
        """Return the job that the run of a DAG has created."""
        name = f"model of {dag_id}"
        return next(job for job in self.emulator.jobs() if job["tunedModelDisplayName"] == name)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Start everything once, and let each DAG create a job."""
    home = tmp_path_factory.mktemp("site")
    passwords = home / "passwords.json"
    passwords.write_text(json.dumps({name: name for name in USERS}))
    here = Path(__file__).parent
    with (
        storage_emulator(home, BUCKET) as storage_url,
        tuning_emulator(storage_url, token=TOKEN, speed=SPEED) as emulator,
    ):
        upload(storage_url, "support-router/train.jsonl", training_data())
        google = connection(emulator.url, project=PROJECT, token=TOKEN)
        airflow = AirflowStack(
            home,
            [here / "dags"],
            env={
                "AIRFLOW__CORE__AUTH_MANAGER": f"{__package__}.auth_manager.TwoTeams",
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{n}:{r}" for n, r in USERS.items()),
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
                "AIRFLOW__VERTEX_AI_TUNING__DEPLOYMENT": "site",
                "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": google,
                "AIRFLOW_CONN_NO_PERMISSION": connection(emulator.url, project=PROJECT, token="wrong"),
                "AIRFLOW_CONN_AWAY": connection("http://127.0.0.1:9", project=PROJECT, token=TOKEN),
                "STORAGE_EMULATOR_HOST": storage_url,
            },
        )
        airflow.client = UserClient(airflow.base_url, "ada")
        try:
            airflow.start()
            site = Site(airflow, emulator)
            airflow.wait_for_dag("Shared.Weekly")
            for dag_id in DAG_IDS:
                airflow.wait_for_dag(dag_id)
                site.runs[dag_id] = airflow.client.trigger(dag_id)
            wait_until(lambda: len(emulator.jobs()) == 3, what="three jobs", interval=0.3)
            for dag_id, run_id in site.runs.items():
                airflow.client.wait_for_task(dag_id, run_id, "tune", "deferred")
        except StepError as error:
            pytest.fail(f"{error}\n{tail(error.log) if error.log else ''}", pytrace=False)
        with airflow:
            yield site


def browser_path() -> str | None:
    """Return the Chromium that this machine has."""
    given = os.environ.get("CHROMIUM")
    return given or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Start the machine's own Chromium."""
    path = browser_path()
    if path is None:
        pytest.skip("There is no Chromium here: make browser installs one, or name one in CHROMIUM.")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Any]:
    """Return what opens the page of an Airflow as one of its users."""
    contexts: list[BrowserContext] = []

    def open_page(base: str, name: str, query: str = "", *, width: int = 1280, dark: bool = False) -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": 860},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            locale="en-GB",
            timezone_id="UTC",
        )
        context.set_default_timeout(30_000)
        contexts.append(context)
        token = UserClient(base, name).token
        context.add_cookies([{"name": "_token", "value": token, "domain": "127.0.0.1", "path": "/"}])
        if dark:
            context.add_init_script("localStorage.setItem('theme', 'dark')")
        page = context.new_page()
        page.goto(f"{base}/plugin/tuning_jobs{query}")
        page.locator(".tj h1").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def visit(site: Site, open_page: Any) -> Any:
    """Return what opens the page of the site as one of the users."""
    return partial(open_page, site.airflow.base_url)
