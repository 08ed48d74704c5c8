"""Where tokens come from, and what happens when they cannot be had."""

from __future__ import annotations

import functools
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from airflow_tuning_provider.api.retry import RetryPolicy
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.exceptions import (
    TuningAuthenticationError,
    TuningError,
    TuningInvalidInputError,
    TuningUnavailableError,
)
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
from tests.integration.conftest import BODY, PARENT, QUICK, Connect, Hooks
from tests.integration.servers import (
    JOB,
    Connection,
    Server,
    Stopwatch,
    answering,
    free_port,
    private_key,
)

ONCE = RetryPolicy(max_repeats=0)
EMAIL = "tuner@test-project.iam.gserviceaccount.com"
TOKEN = {"access_token": "t1", "expires_in": 3600, "token_type": "Bearer"}


@functools.cache
def _private_key() -> str:
    return private_key()


def service_account(token_uri: str, **fields: Any) -> dict[str, Any]:
    """Return a service account's key file."""
    return {
        "type": "service_account",
        "project_id": "key-project",
        "private_key_id": "1",
        "private_key": _private_key(),
        "client_email": EMAIL,
        "client_id": "1",
        "token_uri": token_uri,
        **fields,
    }


class TokenServer(Server):
    """Issues the tokens t1, t2, …"""

    def __init__(self, expires_in: int = 3600) -> None:
        self._expires_in = expires_in
        super().__init__(self._issue)

    def _issue(self, connection: Connection, _: bytes) -> None:
        connection.answer(
            200, {**TOKEN, "access_token": f"t{len(self.requests)}", "expires_in": self._expires_in}
        )


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    with TokenServer() as server:
        yield server


@pytest.fixture
def api() -> Iterator[Server]:
    """An API that knows one job."""
    with Server(answering(JOB)) as server:
        yield server


def at_once(hook: TuningJobHook, count: int) -> list[Any]:
    """Get a job from as many threads; return the jobs, and errors in the place of those that failed."""
    seen: list[Any] = []

    def get() -> None:
        try:
            seen.append(hook.get_tuning_job("1"))
        except TuningError as error:
            seen.append(error)

    hook.open()
    threads = [threading.Thread(target=get) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


def bearers(server: Server) -> list[str]:
    return [header(request, "authorization") for request in server.requests]


def header(request: bytes, name: str) -> str:
    lines = request.partition(b"\r\n\r\n")[0].decode().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.lower().startswith(f"{name}:")), "")


class TestServiceAccountKey:
    def test_the_emulator_s_token_endpoint_and_api(
        self, hooks: Hooks, emulator: Emulator, connect: Connect
    ) -> None:
        key = service_account(f"{emulator.url}/_emulator/token")
        connect(api_endpoint=emulator.url, password=None, keyfile_dict=json.dumps(key))
        hook = hooks()
        assert hook.get_tuning_job(hook.create_tuning_job(BODY)["name"])
        good, message = hook.test_connection()
        assert good
        assert f"credentials (acting as {EMAIL})" in message

    def test_one_token_serves_many_calls(
        self, hooks: Hooks, api: Server, tokens: TokenServer, connect: Connect
    ) -> None:
        connect(api_endpoint=api.url, password=None, keyfile_dict=service_account(tokens.url))
        hook = hooks()
        for _ in range(5):
            hook.get_tuning_job("1")
        assert len(tokens.requests) == 1
        assert bearers(api) == ["Bearer t1"] * 5

    def test_an_expired_token_is_replaced(self, hooks: Hooks, api: Server, connect: Connect) -> None:
        with TokenServer(expires_in=1) as tokens:
            connect(api_endpoint=api.url, password=None, keyfile_dict=service_account(tokens.url))
            hook = hooks()
            for _ in range(3):
                hook.get_tuning_job("1")
        assert len(tokens.requests) == 3
        assert bearers(api) == ["Bearer t1", "Bearer t2", "Bearer t3"]

    def test_a_kill_gets_a_token_where_that_at_hand_has_expired(self, api: Server, connect: Connect) -> None:
        """Between two looks that are an hour apart, for instance."""
        with TokenServer(expires_in=1) as tokens:
            connect(api_endpoint=api.url, password=None, keyfile_dict=service_account(tokens.url))
            with TuningJobHook(retry_policy=ONCE) as hook:
                hook.get_tuning_job("1")
                hook.cancel_now("1")
        assert bearers(api) == ["Bearer t1", "Bearer t2"]

    def test_a_kill_does_not_wait_for_a_token(self, api: Server, connect: Connect) -> None:
        with Server(lambda *_: time.sleep(5)) as tokens:
            connect(api_endpoint=api.url, password=None, keyfile_dict=service_account(tokens.url))
            with TuningJobHook(retry_policy=ONCE) as hook:
                began = time.monotonic()
                with pytest.raises(TuningUnavailableError, match="no access token"):
                    hook.cancel_now("1", timeout=0.4)
                assert time.monotonic() - began < 3

    def test_tokens_that_really_expire(self, hooks: Hooks, connect: Connect) -> None:
        with Emulator(speed=4000, datasets="skip", token_lifetime=1, token="no other") as emulator:
            key = service_account(f"{emulator.url}/_emulator/token")
            connect(api_endpoint=emulator.url, password=None, keyfile_dict=key)
            hook = hooks()
            name = hook.create_tuning_job(BODY)["name"]
            emulator.set_state(name, "JOB_STATE_RUNNING")
            threading.Timer(1.2, emulator.set_state, (name, "JOB_STATE_SUCCEEDED")).start()
            hook.wait_for_tuning_job(name, poll_interval=0.3)
            assert {request["status"] for request in emulator.requests()} == {200}

    def test_a_revoked_token_is_replaced_once(
        self, hooks: Hooks, tokens: TokenServer, connect: Connect
    ) -> None:
        with Server(answering((401, {}), JOB)) as api:
            connect(api_endpoint=api.url, password=None, keyfile_dict=service_account(tokens.url))
            assert hooks().get_tuning_job("1") == JOB
        assert bearers(api) == ["Bearer t1", "Bearer t2"]

    def test_a_token_service_that_is_down_when_a_token_was_revoked_is_waited_for(
        self, hooks: Hooks, connect: Connect
    ) -> None:
        token_answers = answering(TOKEN, (500, b"", {"Connection": "close"}), TOKEN)
        with Server(answering((401, {}), JOB)) as api, Server(token_answers) as tokens:
            connect(api_endpoint=api.url, password=None, keyfile_dict=service_account(tokens.url))
            assert hooks().create_tuning_job(BODY) == JOB
        assert len(api.requests) == 2

    def test_fifty_calls_at_once_share_one_token(
        self, hooks: Hooks, api: Server, tokens: TokenServer, connect: Connect
    ) -> None:
        connect(api_endpoint=api.url, password=None, keyfile_dict=service_account(tokens.url))
        assert at_once(hooks(), 50) == [JOB] * 50
        assert len(tokens.requests) == 1
        assert bearers(api) == ["Bearer t1"] * 50

    def test_fifty_refused_calls_share_one_new_token(
        self, hooks: Hooks, tokens: TokenServer, connect: Connect
    ) -> None:
        def refuse_the_first_token(connection: Connection, request: bytes) -> None:
            if header(request, "authorization") == "Bearer t1":
                connection.answer(401, {})
            else:
                connection.answer(200, JOB)

        with Server(refuse_the_first_token) as api:
            connect(api_endpoint=api.url, password=None, keyfile_dict=service_account(tokens.url))
            assert at_once(hooks(), 50) == [JOB] * 50
        assert len(tokens.requests) == 2

    def test_fifty_calls_at_once_wait_once_for_a_token_service_that_hangs(
        self, hooks: Hooks, connect: Connect
    ) -> None:
        with Server(lambda connection, _: connection.hang()) as tokens:
            connect(
                api_endpoint="http://127.0.0.1:1", password=None, keyfile_dict=service_account(tokens.url)
            )
            with Stopwatch() as watch:
                seen = at_once(hooks(request_timeout=0.5, retry_policy=ONCE), 50)
        assert {type(error) for error in seen} == {TuningUnavailableError}
        assert watch.seconds < 3
        assert len(tokens.requests) <= 2

    def test_the_scopes_are_asked_for(
        self, hooks: Hooks, api: Server, tokens: TokenServer, connect: Connect
    ) -> None:
        connect(
            api_endpoint=api.url,
            password=None,
            keyfile_dict=service_account(tokens.url),
            scope="https://scope/a, https://scope/b",
        )
        hook = hooks()
        hook.get_tuning_job("1")
        assert hook.credentials.scopes == ["https://scope/a", "https://scope/b"]

    def test_the_key_s_project_is_the_last_resort(
        self, hooks: Hooks, api: Server, tokens: TokenServer, connect: Connect
    ) -> None:
        connect(api_endpoint=api.url, password=None, project=None, keyfile_dict=service_account(tokens.url))
        hooks().get_tuning_job("1")
        assert b"/projects/key-project/" in api.requests[0]

    def test_a_key_of_another_universe_signs_its_own_tokens(
        self, hooks: Hooks, api: Server, tokens: TokenServer, connect: Connect
    ) -> None:
        key = service_account(tokens.url, universe_domain="universe.example")
        connect(api_endpoint=api.url, password=None, keyfile_dict=key, universe_domain="universe.example")
        hooks().get_tuning_job("1")
        assert tokens.requests == []
        assert bearers(api)[0].startswith("Bearer ey")

    def test_the_key_s_token_goes_to_no_other_service(
        self,
        hooks: Hooks,
        api: Server,
        tokens: TokenServer,
        connect: Connect,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        # google-auth's own sessions ask Google's IAM about access boundaries in the background.
        with Server(answering((407, b""))) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            connect(api_endpoint=api.url, password=None, keyfile_dict=service_account(tokens.url))
            hook = hooks()
            for _ in range(3):
                hook.get_tuning_job("1")
        assert proxy.connections == 0

    @pytest.mark.parametrize("where", ["keyfile_dict", "key_path"])
    @pytest.mark.parametrize("form", ["escaped line ends", "without a type"])
    def test_keys_that_the_official_connection_reads(
        self,
        hooks: Hooks,
        api: Server,
        tokens: TokenServer,
        connect: Connect,
        tmp_path: Path,
        form: str,
        where: str,
    ) -> None:
        key = service_account(tokens.url)
        if form == "without a type":
            del key["type"]
        else:
            key["private_key"] = key["private_key"].replace("\n", "\\n")
        (tmp_path / "key.json").write_text(json.dumps(key))
        given: Any = json.dumps(key) if where == "keyfile_dict" else str(tmp_path / "key.json")
        connect(
            api_endpoint=api.url, conn_type="google_cloud_platform", password="left over", **{where: given}
        )
        assert hooks().get_tuning_job("1") == JOB
        assert bearers(api) == ["Bearer t1"]

    @pytest.mark.parametrize(("key_s", "ours"), [("universe.example", None), (None, "universe.example")])
    def test_a_key_of_another_universe_than_the_connection_s_is_refused_in_words(
        self, hooks: Hooks, tokens: TokenServer, connect: Connect, key_s: str | None, ours: str | None
    ) -> None:
        fields = {} if key_s is None else {"universe_domain": key_s}
        connect(password=None, keyfile_dict=service_account(tokens.url, **fields), universe_domain=ours)
        words = f"universe '{key_s or 'googleapis.com'}' and the connection for '{ours or 'googleapis.com'}'"
        with pytest.raises(TuningInvalidInputError, match=words) as caught:
            hooks().get_tuning_job("1")
        assert "PRIVATE KEY" not in str(caught.value)
        assert tokens.requests == []

    def test_the_key_may_stand_in_a_file(
        self, hooks: Hooks, api: Server, tokens: TokenServer, connect: Connect, tmp_path: Path
    ) -> None:
        path = tmp_path / "key.json"
        path.write_text(json.dumps(service_account(tokens.url)))
        connect(api_endpoint=api.url, password=None, key_path=str(path))
        assert hooks().get_tuning_job("1") == JOB
        assert bearers(api) == ["Bearer t1"]

    def test_application_default_credentials_are_the_default(
        self,
        hooks: Hooks,
        api: Server,
        tokens: TokenServer,
        connect: Connect,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        path = tmp_path / "key.json"
        path.write_text(json.dumps(service_account(tokens.url)))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        connect(api_endpoint=api.url, password=None)
        assert hooks().get_tuning_job("1") == JOB

    def test_without_any_credentials_the_message_says_what_to_give(
        self, hooks: Hooks, api: Server, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
        monkeypatch.setenv("NO_GCE_CHECK", "true")
        connect(api_endpoint=api.url, password=None)
        with pytest.raises(TuningAuthenticationError, match="no Google credentials were found"):
            hooks().get_tuning_job("1")
        assert api.requests == []


class TestTokenService:
    """A token service that fails: what passes is waited for, what lasts is told at once."""

    @pytest.mark.parametrize(
        "answer",
        [
            (400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}),
            (401, {"error": "invalid_client", "error_description": "Invalid JWT Signature."}),
            (403, {"message": "Invalid JWT Signature."}),
            (404, b"<html>Invalid JWT Signature.</html>"),
        ],
    )
    def test_what_lasts(self, hooks: Hooks, api: Server, connect: Connect, answer: Any) -> None:
        with Server(answering(answer)) as tokens:
            connect(api_endpoint=api.url, password=None, keyfile_dict=service_account(tokens.url))
            with pytest.raises(TuningAuthenticationError, match="Invalid JWT Signature") as caught:
                hooks().get_tuning_job("1")
        assert len(tokens.requests) == 1
        assert api.requests == []
        assert len(str(caught.value)) < 600

    @pytest.mark.parametrize(
        "answer",
        [
            b"<html>" + b"x" * 10_000,
            b"[]",
            b"null",
            b"\xff\xfe",
            {"access_token": "t", "expires_in": "soon"},
        ],
        ids=["html", "list", "null", "binary", "expiry"],
    )
    def test_an_answer_that_is_no_token(
        self, hooks: Hooks, api: Server, connect: Connect, answer: Any
    ) -> None:
        with Server(answering(answer, TOKEN)) as tokens:
            connect(api_endpoint=api.url, password=None, keyfile_dict=service_account(tokens.url))
            with pytest.raises(TuningUnavailableError, match="is no token") as caught:
                hooks(retry_policy=ONCE).create_tuning_job(BODY)
            assert caught.value.api_error is not None
            assert not caught.value.api_error.sent
            assert hooks().create_tuning_job(BODY) == JOB
        assert len(api.requests) == 1

    def test_an_overloaded_one(self, hooks: Hooks, api: Server, connect: Connect) -> None:
        # google-auth itself asks three times, a second or two apart.
        with Server(answering((503, b""))) as tokens:
            connect(api_endpoint=api.url, password=None, keyfile_dict=service_account(tokens.url))
            with pytest.raises(TuningUnavailableError, match="no access token could be had"):
                hooks(retry_policy=ONCE).create_tuning_job(BODY)
        assert api.requests == []

    @pytest.mark.parametrize("drips", [False, True])
    def test_one_that_hangs(self, hooks: Hooks, api: Server, connect: Connect, drips: bool) -> None:
        def hang(connection: Connection, _: bytes) -> None:
            if drips:
                connection.drip(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000, every=0.1)
            connection.hang()

        with Server(hang) as tokens:
            connect(api_endpoint=api.url, password=None, keyfile_dict=service_account(tokens.url))
            with Stopwatch() as watch, pytest.raises(TuningUnavailableError, match="no access token"):
                hooks(retry_policy=ONCE, request_timeout=0.5).create_tuning_job(BODY)
        assert watch.seconds < 2.5
        assert api.requests == []

    def test_one_that_cannot_be_reached(self, hooks: Hooks, api: Server, connect: Connect) -> None:
        key = service_account(f"http://127.0.0.1:{free_port()}")
        connect(api_endpoint=api.url, password=None, keyfile_dict=key)
        with pytest.raises(TuningUnavailableError, match="no access token"):
            hooks(retry_policy=ONCE).create_tuning_job(BODY)

    @pytest.mark.parametrize("status", [302, 307])
    def test_one_that_redirects(self, hooks: Hooks, api: Server, connect: Connect, status: int) -> None:
        with (
            Server(answering(TOKEN)) as other,
            Server(answering((status, b"", {"Location": other.url}))) as tokens,
        ):
            connect(api_endpoint=api.url, password=None, keyfile_dict=service_account(tokens.url))
            with pytest.raises(TuningError, match="no access token"):
                hooks(retry_policy=ONCE).create_tuning_job(BODY)
        assert other.connections == 0

    def test_a_wait_survives_its_failure(self, hooks: Hooks, connect: Connect) -> None:
        ended = {**JOB, "state": "JOB_STATE_SUCCEEDED"}
        with Server(answering(b"<html>", TOKEN)) as tokens, Server(answering(ended)) as api:
            connect(api_endpoint=api.url, password=None, keyfile_dict=service_account(tokens.url))
            assert hooks().wait_for_tuning_job("1", poll_interval=0.05) == ended


class TestFederation:
    @pytest.fixture
    def config(self, tmp_path: Path, tokens: TokenServer) -> dict[str, Any]:
        (tmp_path / "subject").write_text("subject-token")
        audience = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x"
        return {
            "type": "external_account",
            "audience": audience,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{tokens.url}/v1/token",
            "credential_source": {"file": str(tmp_path / "subject")},
        }

    @pytest.mark.parametrize("form", ["path", "text", "object"])
    def test_a_workload_s_own_token_is_exchanged(
        self,
        hooks: Hooks,
        api: Server,
        tokens: TokenServer,
        connect: Connect,
        config: dict[str, Any],
        tmp_path: Path,
        form: str,
    ) -> None:
        (tmp_path / "config.json").write_text(json.dumps(config))
        given: Any = {"path": str(tmp_path / "config.json"), "text": json.dumps(config), "object": config}[
            form
        ]
        connect(api_endpoint=api.url, password=None, credential_config_file=given)
        assert hooks().get_tuning_job("1") == JOB
        assert bearers(api) == ["Bearer t1"]
        sent = parse_qs(tokens.requests[0].partition(b"\r\n\r\n")[2].decode())
        assert sent["subject_token"] == ["subject-token"]
        assert sent["scope"] == ["https://www.googleapis.com/auth/cloud-platform"]

    def test_a_subject_token_that_is_gone_is_told(
        self, hooks: Hooks, api: Server, connect: Connect, config: dict[str, Any], tmp_path: Path
    ) -> None:
        (tmp_path / "subject").unlink()
        connect(api_endpoint=api.url, password=None, credential_config_file=config)
        with pytest.raises(TuningError, match="no access token could be had"):
            hooks(retry_policy=ONCE).get_tuning_job("1")


class TestImpersonation:
    CHAIN = (
        "first@p.iam.gserviceaccount.com, second@p.iam.gserviceaccount.com,acting@p.iam.gserviceaccount.com"
    )

    def test_the_last_of_the_chain_acts(
        self, hooks: Hooks, api: Server, tokens: TokenServer, connect: Connect
    ) -> None:
        connect(
            api_endpoint=api.url,
            password=None,
            keyfile_dict=service_account(tokens.url),
            impersonation_chain=self.CHAIN,
            scope="https://scope/a",
            quota_project_id="quota-project",
        )
        acting = hooks().credentials
        assert acting.service_account_email == "acting@p.iam.gserviceaccount.com"
        assert acting._delegates == ["first@p.iam.gserviceaccount.com", "second@p.iam.gserviceaccount.com"]
        assert acting._target_scopes == ["https://scope/a"]
        assert acting._source_credentials.service_account_email == EMAIL
        assert acting.quota_project_id == "quota-project"

    @pytest.mark.parametrize("chain", ["own@p.iam.gserviceaccount.com", ["own@p.iam.gserviceaccount.com"]])
    def test_the_hook_s_chain_wins(self, hooks: Hooks, connect: Connect, chain: Any) -> None:
        connect(impersonation_chain=self.CHAIN)
        acting = hooks(impersonation_chain=chain).credentials
        assert acting.service_account_email == "own@p.iam.gserviceaccount.com"
        assert acting._delegates == []

    def test_create_poll_and_cancel_act_as_the_same_account(
        self, api: Server, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Impersonation asks Google's IAM, which is not here: the tokens come from a real HTTP server instead.
        with TokenServer() as iam:
            self._redirect_iam(monkeypatch, iam)
            connect(api_endpoint=api.url, impersonation_chain=self.CHAIN)
            with TuningJobHook(retry_policy=QUICK) as hook:
                credentials = hook.credentials
                hook.create_tuning_job(BODY)
                hook.get_tuning_job("1")
                hook.cancel_tuning_job("1")
                hook.cancel_now("1")
                assert hook.credentials is credentials
        assert len(iam.requests) == 1
        assert b"acting@p.iam.gserviceaccount.com:generateAccessToken" in iam.requests[0]
        body = json.loads(iam.requests[0].partition(b"\r\n\r\n")[2])
        assert body["delegates"] == [
            "first@p.iam.gserviceaccount.com",
            "second@p.iam.gserviceaccount.com",
        ]
        assert bearers(iam) == ["Bearer some-token"]
        assert set(bearers(api)) == {"Bearer impersonated"}

    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            ((403, {"error": {"code": 403, "message": "denied"}}), TuningAuthenticationError),
            ((503, {"error": {"code": 503, "message": "later"}}), TuningUnavailableError),
            ((502, b"<html>"), TuningUnavailableError),
        ],
    )
    def test_a_refusal_lasts_and_an_outage_passes(
        self,
        hooks: Hooks,
        api: Server,
        connect: Connect,
        monkeypatch: pytest.MonkeyPatch,
        answer: Any,
        error: type[TuningError],
    ) -> None:
        with Server(answering(answer)) as iam:
            self._redirect_iam(monkeypatch, iam)
            connect(api_endpoint=api.url, impersonation_chain=self.CHAIN)
            with pytest.raises(error, match=r"acting@p\.iam"):
                hooks(retry_policy=ONCE).get_tuning_job("1")
        assert api.requests == []

    def _redirect_iam(self, monkeypatch: pytest.MonkeyPatch, iam: Server) -> None:
        from google.auth import iam as addresses

        if isinstance(iam, TokenServer):
            answer = {"accessToken": "impersonated", "expireTime": "2999-01-01T00:00:00Z"}
            iam._handler = answering(answer)
        for name in ("_IAM_ENDPOINT", "_IAM_BASE_URL"):
            if hasattr(addresses, name):
                value = getattr(addresses, name)
                monkeypatch.setattr(
                    addresses,
                    name,
                    f"{iam.url}/v1/projects/-/serviceAccounts/{{}}{value.rpartition('{}')[2]}",
                )

    @pytest.mark.parametrize(
        "chain",
        ["no address", "a@b", "ü@p.iam.gserviceaccount.com", "a@p.com/../x", "a b@p.com", 5, ["x", 5]],
    )
    def test_what_is_no_address_is_refused(self, hooks: Hooks, connect: Connect, chain: Any) -> None:
        connect(impersonation_chain=chain)
        with pytest.raises(TuningInvalidInputError, match="impersonation_chain"):
            hooks().get_tuning_job("1")


class TestOtherSettings:
    def test_the_quota_project_travels_in_a_header(self, hooks: Hooks, api: Server, connect: Connect) -> None:
        connect(api_endpoint=api.url, quota_project_id="quota-project")
        hooks().get_tuning_job("1")
        assert header(api.requests[0], "x-goog-user-project") == "quota-project"

    def test_an_anonymous_connection_sends_no_token(
        self, hooks: Hooks, api: Server, connect: Connect
    ) -> None:
        connect(api_endpoint=api.url, is_anonymous=True, password="ignored")
        hooks().get_tuning_job("1")
        assert bearers(api) == [""]

    def test_a_refused_anonymous_connection_is_told(self, hooks: Hooks, connect: Connect) -> None:
        with Server(answering((401, {}))) as api:
            connect(api_endpoint=api.url, is_anonymous="true", password=None)
            with pytest.raises(TuningAuthenticationError):
                hooks().get_tuning_job("1")

    def test_a_token_pasted_with_its_line_end_works(
        self, hooks: Hooks, api: Server, connect: Connect
    ) -> None:
        connect(api_endpoint=api.url, password=" pasted-token\n")
        hooks().get_tuning_job("1")
        assert bearers(api) == ["Bearer pasted-token"]

    @pytest.mark.parametrize("conn_type", ["google_cloud_platform", "vertex_ai_tuning"])
    @pytest.mark.parametrize("prefix", ["", "extra__google_cloud_platform__"])
    def test_both_connection_types_and_both_spellings_of_their_extras(
        self,
        hooks: Hooks,
        api: Server,
        tokens: TokenServer,
        monkeypatch: pytest.MonkeyPatch,
        conn_type: str,
        prefix: str,
    ) -> None:
        extra = {
            "project": "official-project",
            "keyfile_dict": json.dumps(service_account(tokens.url)),
            "key_path": None,
            "credential_config_file": "",
            "scope": "https://www.googleapis.com/auth/cloud-platform",
            "num_retries": 5,
            "key_secret_name": None,
            "key_secret_project_id": "",
            "idp_issuer_url": "",
            "impersonation_chain": None,
            "is_anonymous": False,
            "quota_project_id": None,
            "use_adc": None,
        }
        value = {"conn_type": conn_type, "extra": {prefix + name: value for name, value in extra.items()}}
        value["extra"]["api_endpoint"] = api.url
        monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(value))
        assert hooks(location="us-central1").get_tuning_job("1") == JOB
        assert b"/projects/official-project/" in api.requests[0]
        assert bearers(api) == ["Bearer t1"]

    def test_a_connection_as_a_uri(self, hooks: Hooks, api: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        host = api.url.replace(":", "%3A").replace("/", "%2F")
        uri = f"vertex-ai-tuning://:a-token@/?project=uri-project&location=us-central1&api_endpoint={host}"
        monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", uri)
        assert hooks().get_tuning_job("1") == JOB
        assert bearers(api) == ["Bearer a-token"]
        assert f"/{PARENT}/".replace("test-project", "uri-project").encode() in api.requests[0]
