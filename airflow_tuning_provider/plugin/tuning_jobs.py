"""The Airflow plugin. Every Airflow process imports this: only the API server pays for the application."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_tuning_provider._compat import configuration

URL_PREFIX = "/tuning-jobs"
"""Where the application is mounted."""
URL_ROUTE = "tuning_jobs"
"""The page is at ``/plugin/tuning_jobs``."""


class _WhenAsked:
    """A class attribute that is made when it is first read."""

    def __init__(self, make: Callable[[], list[dict[str, Any]]]) -> None:
        self._make = cache(make)

    def __get__(self, instance: object, owner: type | None = None) -> list[dict[str, Any]]:
        return self._make()


def _fastapi_apps() -> list[dict[str, Any]]:
    from airflow_tuning_provider.plugin.app import build_app

    return [{"app": build_app(), "url_prefix": URL_PREFIX, "name": "Tuning jobs"}]


def _react_apps() -> list[dict[str, Any]]:
    from hashlib import sha256
    from pathlib import Path
    from urllib.parse import urlsplit

    bundle = Path(__file__).parent / "static" / "main.js"
    version = sha256(bundle.read_bytes()).hexdigest()[:12]  # so that no browser keeps an old one

    # Absolute, with the sub-path: Airflow before 3.3 imports the URL as it stands, beside its own scripts.
    sub_path = urlsplit(configuration("api", "base_url")).path.rstrip("/")
    return [
        {
            "name": "Tuning jobs",
            "bundle_url": f"{sub_path}{URL_PREFIX}/static/main.js?v={version}",
            "url_route": URL_ROUTE,
            "destination": "nav",
            "category": "browse",
        }
    ]


class TuningJobsPlugin(AirflowPlugin):
    """Adds *Browse > Tuning jobs*."""

    name = "tuning_jobs"
    fastapi_apps = _WhenAsked(_fastapi_apps)
    react_apps = _WhenAsked(_react_apps)
