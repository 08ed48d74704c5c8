"""A real emulator, connections in the environment, and hooks that every test body drives both ways."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from airflow_tuning_provider.api.retry import RetryPolicy
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.hooks.tuning_job import TuningJobAsyncHook, TuningJobHook

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


class Driver:
    """Calls a hook's methods, and blocks until an asynchronous one is done."""

    def __init__(self, hook: TuningJobHook | TuningJobAsyncHook) -> None:
        self.hook = hook
        self._loop = asyncio.new_event_loop() if isinstance(hook, TuningJobAsyncHook) else None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = getattr(self.hook, name)(*args, **kwargs)
            if isinstance(result, AsyncIterator):
                return self._iterate(result)
            return result if self._loop is None or result is None else self.run(result)

        return call

    def run(self, awaitable: Any) -> Any:
        assert self._loop is not None
        return self._loop.run_until_complete(awaitable)

    def _iterate(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        while True:
            try:
                yield self.run(items.__anext__())
            except StopAsyncIteration:
                return

    @property
    def transport(self) -> Any:
        """What the hook sends its calls with."""
        if isinstance(self.hook, TuningJobHook):
            return self.hook._transport
        return self.run(self.hook._open())[1]

    @property
    def credentials(self) -> Any:
        """The credentials that the hook's calls use."""
        return self.transport.credentials

    @property
    def settings(self) -> Any:
        """The connection as the hook's calls see it."""
        return self.transport.settings

    def close(self) -> None:
        """Close the hook, and what the test gave it to run on."""
        if self._loop is None:
            self.hook.close()
            return
        self.run(self.hook.close())
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self.run(asyncio.sleep(0))
        self.run(self._loop.shutdown_asyncgens())
        self._loop.close()


Hooks = Callable[..., Driver]


@pytest.fixture(params=["sync", "async"])
def hooks(request: pytest.FixtureRequest) -> Iterator[Hooks]:
    """Return a function that makes a driven hook: the blocking one, then the asynchronous one."""
    opened: list[Driver] = []

    def make(**kwargs: Any) -> Driver:
        kwargs.setdefault("retry_policy", QUICK)
        hook_class = TuningJobHook if request.param == "sync" else TuningJobAsyncHook
        opened.append(Driver(hook_class(**kwargs)))
        return opened[-1]

    yield make
    for driver in opened:
        driver.close()


@pytest.fixture
def hook(hooks: Hooks, emulator: Emulator, connect: Connect) -> Driver:
    """A driven hook for the emulator."""
    connect(api_endpoint=emulator.url)
    return hooks(request_timeout=5.0)
