"""Reading a connection: every extra, in every shape that Airflow's forms and files give it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk import Connection

from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.hooks.connection import DEFAULT_SCOPES, ConnectionSettings, settings_from

LONG = "extra__google_cloud_platform__"


def read(
    extra: Any = None, password: str | None = None, conn_type: str = "google_cloud_platform"
) -> ConnectionSettings:
    text = extra if isinstance(extra, str) or extra is None else json.dumps(extra)
    return settings_from(Connection(conn_id="c", conn_type=conn_type, password=password, extra=text))


@pytest.mark.parametrize("extra", [None, "", {}, {"project": None, "scope": "", "num_retries": None}])
def test_what_is_not_given_has_its_default(extra: Any) -> None:
    settings = read(extra)
    assert settings == ConnectionSettings("c")
    assert settings.scopes == DEFAULT_SCOPES
    assert settings.universe_domain == "googleapis.com"


@pytest.mark.parametrize(
    ("extra", "field", "value"),
    [
        ({"project": "my-project"}, "project", "my-project"),
        ({LONG + "project": "my-project"}, "project", "my-project"),
        ({"project": "short", LONG + "project": "long"}, "project", "short"),
        ({"location": "us"}, "location", "us"),
        ({"api_endpoint": "localhost.example:99/"}, "api_endpoint", "https://localhost.example:99"),
        ({"api_endpoint": "http://[::1]:99"}, "api_endpoint", "http://[::1]:99"),
        ({"scope": "a, b,,c "}, "scopes", ("a", "b", "c")),
        ({"scope": ["a", "b"]}, "scopes", ("a", "b")),
        ({"keyfile_dict": '{"a": 1}'}, "keyfile_dict", {"a": 1}),
        ({"keyfile_dict": {"a": 1}}, "keyfile_dict", {"a": 1}),
        ({LONG + "keyfile_dict": '{"a": 1}'}, "keyfile_dict", {"a": 1}),
        ({"credential_config_file": "/a/path"}, "credential_config_file", "/a/path"),
        ({"credential_config_file": ' {"a": 1}'}, "credential_config_file", {"a": 1}),
        ({"impersonation_chain": "a@b.c"}, "impersonation_chain", ("a@b.c",)),
        (
            {"impersonation_chain": "app.example.com@appspot.gserviceaccount.com"},
            "impersonation_chain",
            ("app.example.com@appspot.gserviceaccount.com",),
        ),
        ({"num_retries": "3"}, "num_retries", 3),
        ({"num_retries": 0}, "num_retries", 0),
        ({"is_anonymous": "True"}, "is_anonymous", True),
        ({"is_anonymous": True}, "is_anonymous", True),
        ({"is_anonymous": "false"}, "is_anonymous", False),
        ({"quota_project_id": "q-1"}, "quota_project_id", "q-1"),
        ({"universe_domain": "universe.example"}, "universe_domain", "universe.example"),
    ],
)
def test_an_extra_is_read(extra: dict[str, Any], field: str, value: Any) -> None:
    assert getattr(read(extra), field) == value


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ({"project": "../x"}, "project"),
        ({"location": "us-central1.evil.example/"}, "location"),
        ({"api_endpoint": "http://vertex.example"}, "api_endpoint"),
        ({"api_endpoint": "https://user:password@vertex.example"}, "api_endpoint"),
        ({"universe_domain": "evil.example/"}, "universe_domain"),
        ({"quota_project_id": "q\r\nX: y"}, "quota_project_id"),
        ({"scope": {"a": 1}}, "scope"),
        ({"keyfile_dict": "no json"}, "keyfile_dict"),
        ({"keyfile_dict": "[]"}, "keyfile_dict"),
        ({"credential_config_file": "{no json"}, "credential_config_file"),
        ({"num_retries": -1}, "num_retries"),
        ({"num_retries": "many"}, "num_retries"),
        ({"key_secret_name": "x"}, "key_secret_name"),
        ({"idp_issuer_url": "x"}, "idp_issuer_url"),
        ("[]", "extra"),
        ("no json", "extra"),
    ],
)
def test_what_cannot_be_right_is_refused_by_name(extra: Any, field: str) -> None:
    with pytest.raises((InvalidInputError, ValueError), match=field):
        read(extra)


def test_the_universe_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "universe.example")
    assert read().universe_domain == "universe.example"
    assert read({"universe_domain": "other.example"}).universe_domain == "other.example"


def test_secrets_are_not_part_of_the_repr() -> None:
    settings = read(
        {"keyfile_dict": {"private_key": "s3ntinel"}, "credential_config_file": {"secret": "s3ntinel"}},
        password="s3ntinel-token",
        conn_type="vertex_ai_tuning",
    )
    assert settings.access_token == "s3ntinel-token"
    assert "s3ntinel" not in repr(settings)


@pytest.mark.parametrize("password", ["a-left-over", "two words", "ünï"])
def test_the_password_of_an_official_connection_means_nothing(password: str) -> None:
    assert read(password=password) == ConnectionSettings("c")


@pytest.mark.parametrize(
    "chain", [".a@b.c", "a.@b.c", "a..b@c.d", "a@b..c", "a@.b.c", "a@b.c/../x", "a@b", f"{'a' * 320}@b.c"]
)
def test_dots_in_an_account_only_part_words(chain: str) -> None:
    with pytest.raises(InvalidInputError, match="impersonation_chain"):
        read({"impersonation_chain": chain})
