"""Conversations with the emulator, which reads its data sets from a storage emulator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
from tests.contract.__main__ import CONNECTION, training_set
from tests.contract.session import Session
from tests.emulator.storage import BUCKET, Storage

OBJECT = "train.jsonl"


@pytest.fixture(scope="session")
def data() -> Iterator[Storage]:
    storage = Storage()
    storage.put(OBJECT, training_set().decode())
    yield storage
    storage.stop()


def stand_in(storage: Storage, speed: float, **options: Any) -> Emulator:
    """Return an emulator with the quota of a small project."""
    env = {"STORAGE_EMULATOR_HOST": storage.url}
    options = {"concurrent_jobs": 2, "over_quota": "reject", **options}
    return Emulator(env=env, datasets="read", speed=speed, **options)


def many_old_jobs(emulator: Emulator, project: str = "test-project") -> None:
    """Put in more jobs than a page has, with labels of their own, and have cancellations take a while."""
    old = {"state": "JOB_STATE_SUCCEEDED", "createTime": "2026-01-01T00:00:00Z", "labels": {"team": "a"}}
    emulator.seed(old, count=101, project=project)
    emulator.cancel_takes(3.0)  # time for a second request, also on a busy machine


def conversation(emulator: Emulator, *, to_the_end_seconds: float = 0) -> Session:
    """Return a conversation with an emulator."""
    with pytest.MonkeyPatch.context() as patch:
        extra = {"api_endpoint": emulator.url}
        patch.setenv(
            CONNECTION, json.dumps({"conn_type": "vertex_ai_tuning", "password": "t", "extra": extra})
        )
        hook = TuningJobHook(project_id="test-project", location="us-central1")
        hook.open()
    uri = f"gs://{BUCKET}/{OBJECT}"
    return Session(hook, uri, "gemini-3.1-flash-lite", 0.02, 60.0, to_the_end_seconds)


@pytest.fixture(scope="session")
def session(data: Storage) -> Iterator[Session]:
    """A conversation about jobs that do not end by themselves meanwhile."""
    with stand_in(data, speed=10) as emulator:
        many_old_jobs(emulator)
        yield conversation(emulator)


@pytest.fixture(scope="session")
def finished_session(data: Storage) -> Iterator[Session]:
    """A conversation about jobs that end in a second."""
    with stand_in(data, speed=2000) as emulator:
        yield conversation(emulator, to_the_end_seconds=60.0)
