"""Tokens: none, any, one, and issued ones that expire."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.transport.requests import AuthorizedSession
from google.oauth2 import service_account

from airflow_tuning_provider.emulator.testing import Emulator

from .conftest import JOBS, Answer, Client


def reason(answer: Answer) -> str:
    assert (answer.status, answer.error["status"]) == (401, "UNAUTHENTICATED")
    return answer.error["details"][0]["reason"]


def test_any_token_does_but_none_does_not(call: Client) -> None:
    assert call("GET", JOBS, token="anything").status == 200
    answer = call("GET", JOBS, token=None)
    assert reason(answer) == "CREDENTIALS_MISSING"
    assert answer.error["message"].startswith("Request is missing required authentication credential.")
    assert "Bearer" in answer.headers["www-authenticate"]
    assert reason(call("GET", JOBS, token="")) == "CREDENTIALS_MISSING"
    assert reason(call("POST", JOBS, raw=b"not even JSON", token=None)) == "CREDENTIALS_MISSING"


def test_only_the_given_token() -> None:
    with Emulator(token="secret", datasets="skip") as emulator:
        call = Client(emulator.url)
        assert call("GET", JOBS, token="secret").status == 200
        assert reason(call("GET", JOBS, token="other")) == "ACCESS_TOKEN_TYPE_UNSUPPORTED"


def issue(call: Client, **form: str) -> Answer:
    text = "&".join(f"{k}={v}" for k, v in form.items())
    return call("POST", "/_emulator/token", raw=text.encode(), token=None)


JWT = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer"


def test_the_token_endpoint(call: Client, emulator: Emulator) -> None:
    answer = issue(call, grant_type=JWT, assertion="whatever").json
    assert (answer["expires_in"], answer["token_type"]) == (3600, "Bearer")
    assert call("GET", JOBS, token=answer["access_token"]).status == 200
    forged = answer["access_token"][:-1] + ("0" if answer["access_token"][-1] != "0" else "1")
    assert reason(call("GET", JOBS, token=forged)) == "ACCESS_TOKEN_TYPE_UNSUPPORTED"
    assert reason(call("GET", JOBS, token="ya29.emulator.x")) == "ACCESS_TOKEN_TYPE_UNSUPPORTED"
    assert issue(call, grant_type="password").json["error"] == "unsupported_grant_type"
    assert issue(call, grant_type=JWT).json["error"] == "invalid_request"
    assert [r["path"] for r in emulator.requests()] == [JOBS] * 3


@pytest.fixture(scope="module")
def key() -> str:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return private.private_bytes(*pem).decode()


def test_a_service_account_refreshes_an_expired_token(key: str, tmp_path: Path) -> None:
    with Emulator(token_lifetime=0.4, token="other", datasets="skip", state=tmp_path / "jobs.db") as emulator:
        token_uri = f"{emulator.url}/_emulator/token"
        info = {"client_email": "a@p.iam.gserviceaccount.com", "token_uri": token_uri, "private_key": key}
        credentials = service_account.Credentials.from_service_account_info(
            json.loads(json.dumps({**info, "type": "service_account"})),
            scopes=["https://www.googleapis.com/auth/cloud-platform"],
        )
        session = AuthorizedSession(credentials)
        assert session.get(emulator.url + JOBS).status_code == 200
        first = credentials.token
        time.sleep(0.5)
        answer = Client(emulator.url)("GET", JOBS, token=first)
        assert reason(answer) == "ACCESS_TOKEN_EXPIRED"
        # The session sees a 401, refreshes and repeats.
        assert session.get(emulator.url + JOBS).status_code == 200
        assert credentials.token != first
        credentials.refresh(session._auth_request)
        emulator.restart()
        assert session.get(emulator.url + JOBS).status_code == 200
