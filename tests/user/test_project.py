"""A user's project with the pytest plugin, and the page that shows it: docs/testing-your-dags.md."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.testing.storage import StorageEmulator
from tests.user.pages import PAGE, PAGES, PROJECT, filled, regions

pytestmark = pytest.mark.timeout(900)  # processes that import Airflow, on a busy machine

# Settings of a developer's own: none of them may reach a test.
HOSTILE = {
    "AIRFLOW_HOME": "/nowhere/airflow",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://nobody@192.0.2.1/airflow",
    "AIRFLOW__SECRETS__BACKEND": "a.backend.that.is.Nowhere",
    "AIRFLOW__CORE__DAGS_FOLDER": "/nowhere/dags",
    "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": "google-cloud-platform://?project=a-real-project",
    "GOOGLE_APPLICATION_CREDENTIALS": "/nowhere/key.json",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PROJECT, tmp_path / "project", ignore=shutil.ignore_patterns(".*", "__*")))


def run_tests(project: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", *arguments]
    return subprocess.run(command, cwd=project, env={**os.environ, **env}, capture_output=True, text=True)


def test_the_project_passes_whatever_the_developer_has_set(project: Path) -> None:
    texts = [path.read_text() for path in project.glob("test_*.py")]
    tests = sum(len(re.findall(r"^def test_", text, re.MULTILINE)) for text in texts)
    done = run_tests(project, **HOSTILE)
    assert re.search(rf"^{tests} passed", done.stdout, re.MULTILINE), done.stdout[-5000:]
    # The empty database is kept for the next run, which fails for what is wrong with its DAGs only.
    assert list(project.glob(".pytest_cache/d/airflow-database/airflow-*.db"))
    (project / "dags" / "broken.py").write_text("import nothing_of_that_name  # for an airflow dag\n")
    (project / "test_other.py").write_text(
        "def test_without_data(run_dag):\n"
        "    run = run_dag('support_router', {'poll_interval': 0.2})\n"
        "    assert run.state == 'success'\n"
        "def test_of_no_dag(run_dag):\n"
        "    run_dag('suport_router')\n"
    )
    again = run_tests(project, "test_other.py", **HOSTILE)
    assert "2 failed" in again.stdout, again.stdout[-5000:]
    assert "assert 'failed' == 'success'" in again.stdout
    assert "There is no DAG 'suport_router'" in again.stdout
    assert "only ['support_router', 'tune_many']" in again.stdout
    assert "nothing_of_that_name" in again.stdout


def test_an_airflow_that_is_imported_too_early_is_refused(project: Path) -> None:
    text = (project / "conftest.py").read_text()
    (project / "conftest.py").write_text(f"import airflow.settings\n{text}")
    done = run_tests(project, AIRFLOW_HOME=str(project / "home"))
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "Airflow is imported already" in done.stdout + done.stderr


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[tuple[Emulator, dict[str, str]]]:
    """Both emulators, and the environment of an Airflow beside them, as the page has it."""
    with StorageEmulator() as storage:
        turns = [{"role": "user", "parts": [{"text": "Q"}]}, {"role": "model", "parts": [{"text": "A"}]}]
        storage.put("train.jsonl", [{"contents": turns}] * 20)
        hosts = {"STORAGE_EMULATOR_HOST": storage.url}
        with Emulator(env=hosts, speed=2000, datasets="read") as emulator:
            found = re.search(r"export AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT='(.*)'", PAGE.read_text())
            assert found
            value = found[1].replace("http://127.0.0.1:8099", emulator.url)
            assert json.loads(value)["extra"]["api_endpoint"] == emulator.url
            yield (
                emulator,
                {
                    **os.environ,
                    **hosts,
                    "AIRFLOW_HOME": str(tmp_path / "airflow"),
                    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                    "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
                    "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": value,
                },
            )


def test_the_commands_of_the_page_run_the_dag(machine: tuple[Emulator, dict[str, str]]) -> None:
    emulator, env = machine
    commands = re.findall(r"^airflow ((?:db|dags|tasks) .*)$", PAGE.read_text(), re.MULTILINE)
    assert [command.split()[:2] for command in commands] == [
        ["db", "migrate"],
        ["dags", "test"],
        ["tasks", "test"],
    ]
    airflow = Path(sys.executable).with_name("airflow")
    for command in commands:
        done = subprocess.run(f"{airflow} {command}", shell=True, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert [job["state"] for job in emulator.jobs()] == ["JOB_STATE_SUCCEEDED"] * 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_shows_what_is_tested(page: Path) -> None:
    assert filled(page.read_text()) == page.read_text(), "run python -m tests.user.pages"


def test_the_pages_show_all_of_it() -> None:
    parts = set(re.findall(r"# \[([a-z-]+)\]\n", (PROJECT / "test_support_router.py").read_text())) - {"end"}
    assert {f"test_support_router.py {part}" for part in parts} <= regions()
    assert {"conftest.py", "pytest.ini", "dags/support_router.py", "dags/tune_many.py"} <= regions()
