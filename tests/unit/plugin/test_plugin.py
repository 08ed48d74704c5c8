"""What every Airflow process pays for the page, and what its bundle is."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_tuning_provider.plugin.tuning_jobs import URL_ROUTE, TuningJobsPlugin

PLUGIN = Path(__file__).parents[3] / "airflow_tuning_provider" / "plugin"
BUNDLE = PLUGIN / "static" / "main.js"


def test_the_plugin_loads_nothing_that_the_api_server_alone_needs() -> None:
    code = (
        "import sys, json, airflow.plugins_manager\n"
        "import airflow_tuning_provider._compat as c; c.configuration('api', 'base_url')\n"
        "before = set(sys.modules)\n"
        "import airflow_tuning_provider.plugin.tuning_jobs as it\n"
        "assert it.TuningJobsPlugin.react_apps\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100
    )
    new = json.loads(run.stdout.splitlines()[-1])
    assert [name for name in new if not name.startswith("airflow_tuning_provider")] == []
    assert len(new) <= 2


def test_airflow_finds_the_plugin_by_its_entry_point() -> None:
    from importlib.metadata import entry_points

    (found,) = (point for point in entry_points(group="airflow.plugins") if "tuning" in point.value)
    assert found.load() is TuningJobsPlugin


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("http://airflow.example:8080", "/tuning-jobs/static/main.js"),
        ("https://example.com/team/airflow/", "/team/airflow/tuning-jobs/static/main.js"),
    ],
)
def test_the_bundle_is_below_the_sub_path(
    monkeypatch: pytest.MonkeyPatch, base_url: str, expected: str
) -> None:
    from airflow_tuning_provider.plugin.tuning_jobs import _react_apps

    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    (app,) = _react_apps()
    assert app["bundle_url"].partition("?")[0] == expected
    assert (app["url_route"], app["destination"]) == (URL_ROUTE, "nav")


def test_the_page_s_address_is_written_once() -> None:
    from airflow_tuning_provider.links.tuning_job import PAGE_PATH

    assert f"/plugin/{URL_ROUTE}" == PAGE_PATH


def test_the_bundle_is_small_and_asks_nobody_else() -> None:
    content = BUNDLE.read_bytes()
    assert len(gzip.compress(content)) <= 60_000
    assert not re.search(rb"https?://|//cdn|\beval\(|innerHTML", content)


def test_the_lock_file_pins_everything_and_names_no_host() -> None:
    text = (PLUGIN / "www" / "package-lock.json").read_text("utf-8")
    packages = {name: one for name, one in json.loads(text)["packages"].items() if name}
    assert packages
    assert all(one["version"] and one["integrity"].startswith("sha512-") for one in packages.values())
    assert "resolved" not in text
    wanted = json.loads((PLUGIN / "www" / "package.json").read_text("utf-8"))["devDependencies"]
    assert all(re.fullmatch(r"[0-9.]+", version) for version in wanted.values())
