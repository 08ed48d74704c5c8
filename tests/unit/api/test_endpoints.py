"""Which host answers, and which hosts are refused."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_tuning_provider.api.endpoints import (
    base_url,
    is_loopback,
    parse_api_endpoint,
    validate_universe_domain,
)
from airflow_tuning_provider.api.inputs import InvalidInputError


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("us-central1", "https://us-central1-aiplatform.googleapis.com"),
        ("europe-west4", "https://europe-west4-aiplatform.googleapis.com"),
        ("global", "https://aiplatform.googleapis.com"),
        ("us", "https://aiplatform.us.rep.googleapis.com"),
        ("eu", "https://aiplatform.eu.rep.googleapis.com"),
    ],
)
def test_hosts_follow_the_location(location: str, expected: str) -> None:
    assert base_url(location) == expected
    other = expected.replace("googleapis.com", "apis-berlin-build0.goog")
    assert base_url(location, universe_domain="apis-berlin-build0.goog") == other
    assert base_url(location, api_endpoint="localhost:1") == "https://localhost:1"


@pytest.mark.parametrize(
    "location", ["", "evil.com/", "us-central1@evil.com", "us-central1.evil.com", "a\n", None]
)
def test_a_location_cannot_choose_the_host(location: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"^location="):
        base_url(location)


@pytest.mark.parametrize("empty", ["", None])
def test_no_endpoint_of_the_connection_means_googles(empty: Any) -> None:
    assert base_url("global", api_endpoint=empty) == "https://aiplatform.googleapis.com"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "localhost",
        "a b.com",
        "a.com/",
        "a.com:443",
        "u@a.com",
        "A.com",
        "a..com",
        "-a.com",
        "a.com\n",
        None,
    ],
)
def test_what_is_no_universe(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"^universe_domain="):
        validate_universe_domain(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("https://proxy.example.com", "https://proxy.example.com"),
        ("HTTPS://Proxy.Example.com:8443/", "https://proxy.example.com:8443"),
        ("proxy.example.com", "https://proxy.example.com"),
        ("proxy.example.com:8443/vertex", "https://proxy.example.com:8443/vertex"),
        ("https://h/a/b.c/", "https://h/a/b.c"),
        ("https://host:", "https://host"),
        ("https://10.0.0.7:8443", "https://10.0.0.7:8443"),
        ("https://[2001:db8::1]:8443/x", "https://[2001:db8::1]:8443/x"),
        ("[::1]:8080", "https://[::1]:8080"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_endpoints_of_the_connection(value: str, expected: str) -> None:
    assert parse_api_endpoint(value) == expected
    assert parse_api_endpoint(expected) == expected


@pytest.mark.parametrize(
    "value",
    [
        # the token would travel in the clear
        "http://proxy.example.com", "http://10.0.0.7", "http://0.0.0.0", "http://localhost.example.com",
        "http://127.0.0.1.example.com", "http://[2001:db8::1]", "http://127.1", "http://2130706433", "http://0x7f.1",
        # credentials, queries, fragments, escapes, backslashes
        "https://user@host", "https://user:pw@host", "https://host@evil.com", "https://host\\@evil.com",
        "https://host?x=1", "https://host#x", "https://host/%2e%2e", "https://ho%73t", "https://host/?", "https://host#",
        # path segments
        "https://host/..", "https://host/a/../b", "https://host/./b", "https://host//b", "https://host/a b",
        # other schemes, missing slashes and hosts
        "ftp://host", "file:///etc/passwd", "https:/host", "http:/localhost", "https:host", "https://", "https:///x",
        "//host", "://host", "javascript://host", "https://https://host",
        # hosts that are none
        "https://a..b", "https://-a", "https://a-", "https://a_b", "https://host.", "::1", "https://::1", "https://[::1",
        "https://[v1.a]", "https://[evil.com]", "https://[::1%25eth0]", "https://[fe80::1%eth0]", "https://[::1]x",
        "https://" + "a" * 64, "https://" + "a." * 130 + "a",
        # ports
        "https://host:99999", "https://host:-1", "https://host:x", "https://host:80:80",
        # not ASCII, or not printable
        "https://h\u043est", "https://host\uff0f.evil.com", "https://host\u3002evil.com", "https://host\n", " https://host",
        "https://ho st", "https://host\x00", "https://host\t",
        # not text
        None, 1, b"https://host", ["https://host"], {},
    ],
)  # fmt: skip
def test_endpoints_that_are_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"^api_endpoint="):
        parse_api_endpoint(value)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.255.0.3", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
        ("", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
