"""A pytest plugin for tests of your own DAGs: emulators, a migrated Airflow database, and a connection.

Name it in the ``conftest.py`` at the root of your tests::

    pytest_plugins = ["airflow_tuning_provider.testing"]

It is no entry point, on purpose: pytest would load one in every run of every project that shares the environment,
and this plugin gives a run an Airflow home of its own. See docs/testing-your-dags.md.

Needs ``pytest``, and the extra ``airflow-tuning-provider[demo]`` for the emulators.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.testing.runs import DagRunner, Run, prepare
from airflow_tuning_provider.testing.storage import StorageEmulator

__all__ = [
    "DagRunner",
    "Emulator",
    "Run",
    "StorageEmulator",
    "airflow_database",
    "run_dag",
    "storage_emulator",
    "tuning_connection",
    "tuning_emulator",
]

PROJECT = "test-project"
LOCATION = "us-central1"
# What would lead a test to a real account, or to a developer's own Airflow.
_FOREIGN = (
    "AIRFLOW_CONN_",
    "AIRFLOW__SECRETS__",
    "AIRFLOW__DATABASE__",
    "GOOGLE_",
    "CLOUDSDK_",
    "STORAGE_EMULATOR_",
)
_HOME = pytest.StashKey[ExitStack]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the plugin's options for ``pytest.ini`` and ``pyproject.toml``."""
    parser.addini("airflow_dags_folder", "folder with the DAGs, seen from the root directory", default="dags")
    parser.addini("tuning_emulator_speed", "how many times faster than Google jobs run", default="2000")


def pytest_configure(config: pytest.Config) -> None:
    """Give the run an Airflow home of its own, before anything imports Airflow."""
    if "airflow.settings" in sys.modules:
        raise pytest.UsageError(
            "Airflow is imported already, with the settings of this machine. Import it in tests and fixtures and not "
            "at the top of conftest.py, or load the plugin before: addopts = '-p airflow_tuning_provider.testing'."
        )
    stack = config.stash[_HOME] = ExitStack()
    home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="airflow-tuning-tests-")))
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    for name in list(os.environ):
        if name.startswith(_FOREIGN):
            patch.delenv(name)
    manager = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
    for name, value in {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__AUTH_MANAGER": manager,
        "AIRFLOW__CORE__DAGS_FOLDER": str(config.rootpath / config.getini("airflow_dags_folder")),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }.items():
        patch.setenv(name, value)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Put the environment back, and remove the Airflow home."""
    if _HOME in config.stash:
        config.stash[_HOME].close()


@pytest.fixture(scope="session")
def airflow_database(request: pytest.FixtureRequest) -> Path:
    """A migrated metadata database in SQLite, of this test run only; returns Airflow's home."""
    cache = getattr(request.config, "cache", None)
    return prepare(
        Path(os.environ["AIRFLOW_HOME"]), None if cache is None else cache.mkdir("airflow-database")
    )


@pytest.fixture(scope="session")
def _storage_emulator() -> Iterator[StorageEmulator]:
    with StorageEmulator() as server:
        yield server


@pytest.fixture
def storage_emulator(_storage_emulator: StorageEmulator, monkeypatch: pytest.MonkeyPatch) -> StorageEmulator:
    """Cloud Storage on this machine; ``put()`` stores an object. Google's client uses it, too."""
    _storage_emulator.reset()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", _storage_emulator.url)
    return _storage_emulator


@pytest.fixture(scope="session")
def _tuning_emulator(
    request: pytest.FixtureRequest, _storage_emulator: StorageEmulator
) -> Iterator[Emulator]:
    speed = request.config.getini("tuning_emulator_speed")
    env = {"STORAGE_EMULATOR_HOST": _storage_emulator.url}
    with Emulator(env=env, speed=speed, datasets="read") as server:
        yield server


@pytest.fixture
def tuning_emulator(_tuning_emulator: Emulator, storage_emulator: StorageEmulator) -> Emulator:
    """The tuning API on this machine, without jobs and faults; it reads its data from ``storage_emulator``."""
    _tuning_emulator.reset()
    return _tuning_emulator


@pytest.fixture
def tuning_connection(tuning_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """The connection ``google_cloud_default``, which leads to ``tuning_emulator``; returns its id."""
    extra = {"project": PROJECT, "location": LOCATION, "api_endpoint": tuning_emulator.url}
    value = {"conn_type": "vertex_ai_tuning", "password": "a-token-of-the-tests", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(value))
    return "google_cloud_default"


@pytest.fixture
def run_dag(airflow_database: Path, tuning_connection: str) -> DagRunner:
    """Run a DAG of the DAGs folder to its end: ``run_dag("my_dag", conf={...})`` returns a :class:`Run`."""
    return DagRunner(Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"]))
