"""The README's first DAG, on connections as they are on the first day."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from airflow_tuning_provider._compat import AirflowFailException
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.exceptions import TuningAuthenticationError, TuningInvalidInputError
from tests.integration.tasks.conftest import TaskInstance

README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")


def task() -> Any:
    """The task of the first DAG that the README prints."""
    code = next(
        block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "with DAG(" in block
    )
    names: dict[str, Any] = {}
    exec(code.replace('with DAG("tune", schedule=None):', 'with DAG("tune", schedule=None) as dag:'), names)
    return names["dag"].get_task("tune")


def test_an_official_connection_without_location_is_told_where_to_put_it(
    server: Emulator, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"project": "test-project", "is_anonymous": True, "api_endpoint": server.url}
    value = json.dumps({"conn_type": "google_cloud_platform", "extra": extra})
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", value)
    with pytest.raises(
        TuningInvalidInputError, match=r"location='us-central1'.*google_cloud_default"
    ) as caught:
        ti.run(task())
    assert isinstance(caught.value, AirflowFailException)
    assert server.requests() == []


def test_a_missing_connection_is_not_retried(
    server: Emulator, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT")
    with pytest.raises(
        TuningAuthenticationError, match="airflow connections add google_cloud_default"
    ) as caught:
        ti.run(task())
    assert isinstance(caught.value, AirflowFailException)
    assert server.requests() == []
