"""Whatever a call is given, no connection is opened to a host that we did not choose, and no secret shows.

Names are taken apart in tests/unit/api/test_hostile_names.py; here the hook really sends what it accepts.
"""

from __future__ import annotations

import errno
import logging
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.sdk.exceptions import AirflowException
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_tuning_provider.api.endpoints import parse_api_endpoint
from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.retry import RetryPolicy
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
from tests.hostile import ENDPOINTS, JOBS, LOCATIONS, MODELS, OPERATIONS, PROJECTS, RANDOM_TEXT, URIS
from tests.integration.conftest import Connect, Hooks
from tests.integration.hooks.test_secrets import SENTINEL, TOKEN, attributes_of, everything_in

ONCE = RetryPolicy(max_repeats=0)
GOOGLE = re.compile(r"([a-z0-9-]+-)?aiplatform(\.(us|eu)\.rep)?\.googleapis\.com")
SETTINGS = settings(deadline=None, suppress_health_check=list(HealthCheck))


class Network:
    """Notes every host that is looked up or connected to; only the emulator is really reached."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, emulator: Emulator) -> None:
        self.reached: set[str] = set()
        connect, look_up = socket.socket.connect, socket.getaddrinfo

        def guarded_connect(sock: socket.socket, address: Any) -> None:
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                self.reached.add(str(address[0]))
                if address[:2] != ("127.0.0.1", emulator.port):
                    raise OSError(errno.ENETUNREACH, "only the emulator can be reached")
            connect(sock, address)

        def guarded_look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
            name = host.decode() if isinstance(host, bytes) else str(host)
            if name == "127.0.0.1":
                return look_up(host, *args, **kwargs)
            self.reached.add(name)
            raise socket.gaierror(socket.EAI_NONAME, "there is no name service")

        monkeypatch.setattr(socket.socket, "connect", guarded_connect)
        monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)


class Listener(logging.Handler):
    """Reads every log record, down to DEBUG."""

    def emit(self, record: logging.LogRecord) -> None:
        assert SENTINEL not in attributes_of(record)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch, emulator: Emulator) -> Iterator[Network]:
    listener, root = Listener(logging.DEBUG), logging.getLogger()
    before = root.level
    root.addHandler(listener)
    root.setLevel(logging.DEBUG)
    # A failed assertion in a handler is printed by default.
    monkeypatch.setattr(
        listener, "handleError", lambda record: pytest.fail(f"a log shows a secret: {record.name}")
    )
    yield Network(monkeypatch, emulator)
    root.setLevel(before)
    root.removeHandler(listener)


def bodies() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"baseModel": MODELS, "supervisedTuningSpec": st.fixed_dictionaries({"trainingDatasetUri": URIS})},
        optional={
            "labels": st.dictionaries(RANDOM_TEXT, RANDOM_TEXT, max_size=2),
            "tunedModelDisplayName": RANDOM_TEXT,
            "serviceAccount": RANDOM_TEXT,
            "outputUri": URIS,
        },
    )


Call = Callable[[TuningJobHook], Any]


def calls() -> st.SearchStrategy[Call]:
    scopes = st.tuples(PROJECTS, LOCATIONS)
    return st.one_of(
        st.tuples(bodies(), scopes).map(
            lambda x: lambda hook: hook.create_tuning_job(x[0], project_id=x[1][0], location=x[1][1])
        ),
        JOBS.map(lambda name: lambda hook: hook.get_tuning_job(name)),
        JOBS.map(lambda name: lambda hook: hook.cancel_tuning_job(name)),
        st.tuples(RANDOM_TEXT, scopes).map(
            lambda x: (
                lambda hook: list(
                    hook.list_tuning_jobs(filter=x[0], project_id=x[1][0], location=x[1][1], limit=1)
                )
            )
        ),
        OPERATIONS.map(lambda name: lambda hook: hook.cancel_operation(name)),
        MODELS.map(lambda model: lambda hook: hook.generate_content(model, "Hello")),
    )


def send(hook: TuningJobHook, call: Call) -> None:
    shown = [repr(hook)]
    try:
        call(hook)
    except AirflowException as error:
        shown += everything_in(error)
    assert not [text for text in shown if SENTINEL in text]


def test_what_is_reached_is_noted(hooks: Hooks, connect: Connect, network: Network) -> None:
    connect(password=TOKEN)
    send(hooks(retry_policy=ONCE), lambda hook: hook.get_tuning_job("1"))
    assert network.reached == {"us-central1-aiplatform.googleapis.com"}


@settings(SETTINGS, max_examples=1500)
@given(call=calls())
def test_with_an_endpoint_of_our_own_nothing_else_is_reached(
    hooks: Hooks, connect: Connect, emulator: Emulator, network: Network, call: Call
) -> None:
    connect(password=TOKEN, api_endpoint=emulator.url)
    send(_kept(hooks), call)
    assert network.reached <= {"127.0.0.1"}


@settings(SETTINGS, max_examples=1500)
@given(call=calls())
def test_without_one_only_google_is_asked_for(
    hooks: Hooks, connect: Connect, network: Network, call: Call
) -> None:
    connect(password=TOKEN)
    send(_kept(hooks), call)
    assert all(GOOGLE.fullmatch(host) for host in network.reached), network.reached


@settings(SETTINGS, max_examples=300)
@given(endpoint=ENDPOINTS.filter(lambda text: "\x00" not in text and text.isprintable()))
def test_an_endpoint_is_asked_itself_or_not_at_all(
    hooks: Hooks, connect: Connect, network: Network, endpoint: str
) -> None:
    try:
        chosen = {urlsplit(parse_api_endpoint(endpoint)).hostname}
    except InvalidInputError:
        chosen = set()
    network.reached.clear()
    connect(password=TOKEN, api_endpoint=endpoint)
    hook = hooks(retry_policy=ONCE, request_timeout=2)
    send(hook, lambda hook: hook.get_tuning_job("1"))
    if endpoint.strip():
        assert network.reached <= chosen


_KEPT: dict[int, TuningJobHook] = {}


def _kept(hooks: Hooks) -> TuningJobHook:
    """Return one hook for all examples of a test."""
    if id(hooks) not in _KEPT:
        _KEPT.clear()
        _KEPT[id(hooks)] = hooks(retry_policy=ONCE, request_timeout=2)
    return _KEPT[id(hooks)]
