"""No failure shows a token, a key, or any part of a key file: not in logs, errors or reprs."""

from __future__ import annotations

import gc
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from airflow.sdk.exceptions import AirflowException

from airflow_tuning_provider.api.retry import RetryPolicy
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.exceptions import TuningInvalidInputError
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
from tests.integration.conftest import BODY, Connect, Hooks
from tests.integration.hooks.test_credentials import service_account
from tests.integration.servers import JOB, Server, answering, free_port, vouched_for

ONCE = RetryPolicy(max_repeats=0)
SENTINEL = "s3ntinel"
TOKEN = f"ya29.{SENTINEL}-token"


def everything_in(error: BaseException) -> Iterator[str]:
    """Yield every text that somebody could log of an error and of what led to it."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        item = pending.pop()
        if item is None or id(item) in seen:
            continue
        seen.add(id(item))
        pending += [item.__cause__, item.__context__]
        yield from (str(item), repr(item), repr(item.args), repr(vars(item)))
        yield "".join(traceback.format_exception(item))


def attributes_of(record: logging.LogRecord) -> str:
    return repr(vars(record)) + record.getMessage()


@pytest.fixture
def safe(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., None]]:
    """Return a function that runs a call to its failure and looks for the sentinel everywhere."""
    names = ("", "google", "google.auth", "urllib3", "asyncio", "airflow_tuning_provider")
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.propagate = True
    caplog.set_level(logging.DEBUG)

    def run(hook: TuningJobHook, *calls: Callable[[], Any]) -> None:
        for call in calls:
            try:
                call()
            except Exception as error:  # noqa: BLE001
                for text in everything_in(error):
                    assert SENTINEL not in text
        for shown in (repr(hook), str(vars(hook))):
            assert SENTINEL not in shown
        gc.collect()
        for record in caplog.records:
            assert SENTINEL not in attributes_of(record)

    yield run
    for logger, (level, propagate) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.propagate = propagate


def all_calls(hook: TuningJobHook) -> list[Callable[[], Any]]:
    return [
        lambda: hook.create_tuning_job(BODY),
        lambda: hook.get_tuning_job("1"),
        lambda: list(hook.list_tuning_jobs()),
        lambda: hook.cancel_tuning_job("1"),
        lambda: hook.wait_for_tuning_job("1", poll_interval=0.05, timeout=0.2, error_budget=0.1),
        lambda: hook.generate_content("gemini-3.5-flash", "Hello"),
        hook.test_connection,
    ]


class TestToken:
    def test_when_all_goes_well(
        self, hooks: Hooks, emulator: Emulator, connect: Connect, safe: Callable[..., None]
    ) -> None:
        connect(api_endpoint=emulator.url, password=TOKEN)
        hook = hooks()
        safe(hook, *all_calls(hook))
        assert {r["status"] for r in emulator.requests()} >= {200}

    @pytest.mark.parametrize(
        "fault",
        [
            {"status": 401},
            {"status": 403},
            {"status": 500},
            {"status": 302, "headers": {"Location": "http://127.0.0.1:1/"}},
            {"status": 200, "body": "<html>"},
            {"drop": "before_processing"},
            {"truncate_body": "length"},
            {"delay_seconds": 5},
            {"status": 502, "body": f"<html>GET / HTTP/1.1 Authorization: Bearer {TOKEN}</html>"},
            {"status": 403, "body": {"error": {"code": 403, "message": f"Bearer {TOKEN} is not welcome"}}},
            {"status": 200, "body": {"headers": {"Authorization": f"Bearer {TOKEN}"}}},
        ],
        ids=str,
    )
    def test_when_the_api_fails(
        self,
        hooks: Hooks,
        emulator: Emulator,
        connect: Connect,
        safe: Callable[..., None],
        fault: dict[str, Any],
    ) -> None:
        connect(api_endpoint=emulator.url, password=TOKEN)
        emulator.fault(times=-1, **fault)
        hook = hooks(retry_policy=ONCE, request_timeout=0.2)
        safe(hook, *all_calls(hook)[:3])
        assert emulator.requests()

    @pytest.mark.parametrize(
        "endpoint",
        ["https://vertex.invalid", f"http://127.0.0.1:{free_port()}"],
        ids=["unknown-host", "refused"],
    )
    def test_when_there_is_no_connection(
        self, hooks: Hooks, connect: Connect, safe: Callable[..., None], endpoint: str
    ) -> None:
        connect(api_endpoint=endpoint, password=TOKEN)
        hook = hooks(retry_policy=ONCE, request_timeout=2.0)
        safe(hook, *all_calls(hook)[:2])

    def test_when_the_certificate_is_wrong(
        self, hooks: Hooks, connect: Connect, safe: Callable[..., None]
    ) -> None:
        with Server(answering(JOB), tls=vouched_for(trustme.CA())) as server:
            connect(api_endpoint=server.url, password=TOKEN)
            hook = hooks(retry_policy=ONCE)
            safe(hook, *all_calls(hook)[:2])

    @pytest.mark.parametrize("rest", ["\nX: y", "\r\n\r\n", "\x00", " two words", "ünï", "✓"])
    def test_one_that_no_header_can_hold_is_refused_unseen(
        self, hooks: Hooks, emulator: Emulator, connect: Connect, safe: Callable[..., None], rest: str
    ) -> None:
        connect(api_endpoint=emulator.url, password=f"{TOKEN}{rest}x")
        hook = hooks()
        safe(hook, *all_calls(hook))
        with pytest.raises(TuningInvalidInputError, match="password"):
            hook.get_tuning_job("1")
        assert emulator.requests() == []


class TestIssuedToken:
    @pytest.mark.parametrize(
        "answer",
        [
            {"access_token": TOKEN, "expires_in": 3600},
            {"access_token": TOKEN, "expires_in": "soon"},
            {"accessToken": TOKEN},
            f"<html>{'x' * 10}</html>".encode(),
            (400, {"error": "invalid_grant", "error_description": "No.", "access_token": TOKEN}),
            (401, b"<html>"),
        ],
        ids=["good", "expiry", "name", "html", "refused", "page"],
    )
    def test_whatever_the_token_service_says(
        self, hooks: Hooks, connect: Connect, safe: Callable[..., None], answer: Any
    ) -> None:
        with Server(answering(answer)) as tokens, Server(answering(JOB)) as api:
            key = service_account(
                tokens.url, private_key_id=f"{SENTINEL}-key-id", client_id=f"{SENTINEL}-client"
            )
            connect(api_endpoint=api.url, password=None, keyfile_dict=json.dumps(key))
            hook = hooks(retry_policy=ONCE)
            safe(hook, *all_calls(hook)[:3])
            assert SENTINEL not in repr(hook.settings)

    def test_a_refresh_token_and_a_client_secret(
        self, hooks: Hooks, connect: Connect, safe: Callable[..., None]
    ) -> None:
        with Server(answering((400, {"error": "invalid_grant"}))) as tokens:
            user = {
                "type": "authorized_user",
                "client_id": "id",
                "client_secret": f"{SENTINEL}-secret",
                "refresh_token": f"{SENTINEL}-refresh",
                "token_uri": tokens.url,
            }
            connect(api_endpoint="http://127.0.0.1:1", password=None, keyfile_dict=user)
            hook = hooks(retry_policy=ONCE)
            safe(hook, *all_calls(hook)[:2])


@pytest.mark.filterwarnings("ignore:The load_credentials_from_dict")
class TestBadKeys:
    @pytest.mark.parametrize(
        "key",
        [
            f"{SENTINEL} is no JSON",
            f'{{"private_key": "{SENTINEL}"',
            f'"{SENTINEL}"',
            f'["{SENTINEL}"]',
            "{}",
            {"type": "service_account", "private_key": SENTINEL},
            {"type": SENTINEL, "private_key": SENTINEL},
            {
                "type": "service_account",
                "private_key": f"-----BEGIN PRIVATE KEY-----\n{SENTINEL}\n-----END PRIVATE KEY-----\n",
                "client_email": f"{SENTINEL}@x",
                "token_uri": "https://x",
            },
            {"type": "authorized_user", "refresh_token": SENTINEL},
            {"type": "external_account", "audience": SENTINEL},
            {"type": "external_account", "audience": "a", "credential_source": SENTINEL},
            {"type": "impersonated_service_account", "source_credentials": {"type": SENTINEL}},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("extra", ["keyfile_dict", "credential_config_file", "key_path"])
    def test_their_content_is_not_shown(
        self,
        hooks: Hooks,
        connect: Connect,
        safe: Callable[..., None],
        tmp_path: Path,
        extra: str,
        key: Any,
    ) -> None:
        if extra == "key_path" or (extra == "credential_config_file" and isinstance(key, str)):
            path = tmp_path / "key.json"
            path.write_text(key if isinstance(key, str) else json.dumps(key))
            key = str(path)
        connect(password=None, **{extra: key})
        hook = hooks()
        with pytest.raises(TuningInvalidInputError, match=extra):
            hook.get_tuning_job("1")
        safe(hook, lambda: hook.get_tuning_job("1"), hook.test_connection)
        good, message = hook.test_connection()
        assert not good
        assert SENTINEL not in message

    def test_a_key_in_place_of_its_path_is_not_shown(
        self, hooks: Hooks, connect: Connect, safe: Callable[..., None]
    ) -> None:
        key = {"type": "service_account", "private_key": SENTINEL, "certificate": "x" * 1000}
        connect(password=None, key_path=json.dumps(key))
        hook = hooks()
        with pytest.raises(TuningInvalidInputError, match="key_path"):
            hook.get_tuning_job("1")
        safe(hook, lambda: hook.get_tuning_job("1"), hook.test_connection)
        assert SENTINEL not in hook.test_connection()[1]

    @pytest.mark.parametrize("extra", ["key_path", "credential_config_file"])
    def test_a_file_that_does_not_exist(self, hooks: Hooks, connect: Connect, extra: str) -> None:
        connect(password=None, **{extra: "/no/such/key.json"})
        with pytest.raises(TuningInvalidInputError, match="FileNotFoundError"):
            hooks().get_tuning_job("1")

    @pytest.mark.parametrize("extra", ["key_secret_name", "idp_issuer_url"])
    def test_what_this_provider_does_not_read_is_refused_by_name(
        self, hooks: Hooks, connect: Connect, extra: str
    ) -> None:
        connect(password=None, **{extra: SENTINEL})
        with pytest.raises(TuningInvalidInputError, match=extra) as caught:
            hooks().get_tuning_job("1")
        assert SENTINEL not in str(caught.value)

    def test_an_extra_that_is_no_json(
        self, hooks: Hooks, safe: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        value = {"conn_type": "vertex_ai_tuning", "extra": f"{SENTINEL} is no JSON"}
        monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(value))
        hook = hooks()
        safe(hook, lambda: hook.get_tuning_job("1"))
        with pytest.raises((AirflowException, ValueError)):
            hook.get_tuning_job("1")
