"""The watcher of a project's tuning jobs, against a real server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from airflow.sdk import Asset, AssetWatcher

from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.exceptions import TuningInvalidInputError
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
from airflow_tuning_provider.triggers.ended_jobs import TuningJobEndedTrigger
from tests.integration.tasks.conftest import rebuilt


class AssetStore(dict[str, Any]):
    """Airflow 3.3's store of an asset's state, as a watcher is given it."""

    async def aget(self, key: str, default: Any = None) -> Any:
        return self.get(key, default)

    async def aset(self, key: str, value: Any) -> None:
        self[key] = json.loads(json.dumps(value))


@asynccontextmanager
async def watched(store: AssetStore | None = None, **given: Any) -> AsyncIterator[list[dict[str, Any]]]:
    """Run a watcher as the triggerer does; what it tells is in the list."""
    trigger = rebuilt(TuningJobEndedTrigger(poll_interval=0.1, **given))
    trigger.asset_state_store = store
    told: list[dict[str, Any]] = []

    async def run() -> None:
        async for event in trigger.run():
            told.append(json.loads(json.dumps(event.payload)))

    task = asyncio.create_task(run())
    try:
        yield told
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up
        await asyncio.sleep(0.02)


async def looked(server: Emulator, times: int = 2) -> None:
    """Wait for some more looks of a watcher."""
    count = lambda: sum(r["path"].endswith("/tuningJobs") for r in server.requests())  # noqa: E731
    before = count()
    await until(lambda: count() >= before + times)


def create(server: Emulator, **fields: Any) -> str:
    """Create a job that lasts, as a person does in the console."""
    body = {
        "baseModel": "gemini-3.5-flash",
        "supervisedTuningSpec": {
            "trainingDatasetUri": "gs://bucket/train.jsonl",
            "hyperParameters": {"epochCount": 1_000_000},
        },
        **fields,
    }
    with TuningJobHook() as hook:
        return str(hook.create_tuning_job(body)["name"])


async def test_each_end_is_told_with_its_manifest_and_its_reason(server: Emulator) -> None:
    async with watched() as told:
        good, bad = create(server), create(server)
        await looked(server)
        assert told == []
        server.set_state(good, "JOB_STATE_SUCCEEDED")
        server.set_state(bad, "JOB_STATE_FAILED", {"code": 3, "message": "Row 7 is empty."})
        await until(lambda: len(told) == 2)
        await looked(server)
    by_name = {one["tuning_job_name"]: one for one in told}
    assert len(told) == 2
    assert by_name[good]["endpoint"]
    assert by_name[good]["error"] is None
    assert by_name[bad]["state"] == "JOB_STATE_FAILED"
    assert "Row 7 is empty." in by_name[bad]["error"]
    assert by_name[bad]["tuning_job_url"].startswith("https://console.cloud.google.com/")


async def test_what_ends_while_the_triggerer_is_away_is_told_once_it_is_back(server: Emulator) -> None:
    store = AssetStore()
    first, second = create(server), create(server)
    async with watched(store) as told:
        server.set_state(first, "JOB_STATE_SUCCEEDED")
        await until(lambda: len(told) == 1)
        await until(lambda: first in json.dumps(store))
    server.set_state(second, "JOB_STATE_CANCELLED")
    async with watched(store) as told:
        await until(lambda: len(told) == 1)
        await looked(server)
    assert [one["tuning_job_name"] for one in told] == [second]


async def test_an_end_is_told_again_by_one_that_died_before_it_could_be_sure(server: Emulator) -> None:
    store = AssetStore()
    name = create(server)
    async with watched(store) as told:
        server.set_state(name, "JOB_STATE_SUCCEEDED")
        await until(lambda: bool(told))
        assert name not in json.dumps(store), "Airflow may not have stored the event yet"
    async with watched(store) as told:
        await until(lambda: bool(told))


async def test_the_watch_is_kept_while_the_api_or_the_connection_is_broken(
    server: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = create(server)
    async with watched() as told:
        await looked(server)
        server.fault(method="GET", path_regex="/tuningJobs$", times=3, status=403)
        server.set_state(name, "JOB_STATE_SUCCEEDED")
        await until(lambda: len(told) == 1)
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps({"conn_type": "vertex_ai_tuning"}))
    async with watched() as told:
        await asyncio.sleep(0.5)
        assert told == []
    assert capsys.readouterr().out.count("cannot be seen for the moment") <= 2


async def test_states_and_labels_narrow_it(server: Emulator) -> None:
    mine = create(server, labels={"team": "support"})
    other, cancelled = create(server), create(server, labels={"team": "support"})
    async with watched(states=["JOB_STATE_SUCCEEDED"], labels={"team": "support"}) as told:
        for name, end in ((other, "SUCCEEDED"), (cancelled, "CANCELLED"), (mine, "SUCCEEDED")):
            server.set_state(name, f"JOB_STATE_{end}")
        await until(lambda: bool(told))
        await looked(server)
    assert [one["tuning_job_name"] for one in told] == [mine]


def test_it_fits_an_assets_watcher_and_refuses_what_never_happens() -> None:
    trigger = TuningJobEndedTrigger(location="us-central1", states=["JOB_STATE_FAILED"])
    asset = Asset("tuning-jobs", watchers=[AssetWatcher(name="ended", trigger=trigger)])
    assert asset.watchers[0].trigger is trigger
    with pytest.raises(TuningInvalidInputError, match=r"states.*JOB_STATE_RUNNING"):
        TuningJobEndedTrigger(states=["JOB_STATE_RUNNING"])
    with pytest.raises(TuningInvalidInputError, match="catch_up"):
        TuningJobEndedTrigger(catch_up=0)
