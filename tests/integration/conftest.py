"""A real emulator, connections in the environment, and hooks that wait less than the default ones."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_tuning_provider.api.retry import RetryPolicy
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

PARENT = "projects/test-project/locations/us-central1"
BODY: dict[str, Any] = {
    "baseModel": "gemini-3.5-flash",
    "supervisedTuningSpec": {"trainingDatasetUri": "gs://bucket/train.jsonl"},
}
# Waits hundredths of a second where the default waits seconds.
QUICK = RetryPolicy(budget=5.0, initial=0.02, max_delay=0.05)


@pytest.fixture(scope="session")
def shared_emulator() -> Iterator[Emulator]:
    # A job lasts half a second.
    with Emulator(speed=4000, datasets="skip") as emulator:
        yield emulator


@pytest.fixture
def emulator(shared_emulator: Emulator) -> Emulator:
    shared_emulator.reset()
    return shared_emulator


Connect = Callable[..., str]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """Return a function that puts a connection into the environment and returns its id."""

    def put(
        conn_id: str = "google_cloud_default",
        *,
        password: str | None = "some-token",
        conn_type: str = "vertex_ai_tuning",
        **extra: Any,
    ) -> str:
        defaults = {"project": "test-project", "location": "us-central1"}
        value = {"conn_type": conn_type, "password": password, "extra": {**defaults, **extra}}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(value))
        return conn_id

    yield put
    # Airflow compiles all secrets that it has ever seen into one pattern, which gets slow.
    with contextlib.suppress(ImportError):
        from airflow.sdk._shared.secrets_masker import reset_secrets_masker

        reset_secrets_masker()


Hooks = Callable[..., TuningJobHook]


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    """Return a function that makes a hook."""
    opened: list[TuningJobHook] = []

    def make(**kwargs: Any) -> TuningJobHook:
        kwargs.setdefault("retry_policy", QUICK)
        opened.append(TuningJobHook(**kwargs))
        return opened[-1]

    yield make
    for hook in opened:
        hook.close()


@pytest.fixture
def hook(hooks: Hooks, emulator: Emulator, connect: Connect) -> TuningJobHook:
    """A hook for the emulator."""
    connect(api_endpoint=emulator.url)
    return hooks(request_timeout=5.0)
