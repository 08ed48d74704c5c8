"""Faults, seen from the wire."""

from __future__ import annotations

import http.client
import json
import socket
import time
from typing import Any

import pytest

from airflow_tuning_provider.emulator.testing import Emulator, EmulatorError

from .conftest import BODY, JOBS, Client


def raw_request(emulator: Emulator, method: str, path: str, body: Any = None) -> bytes:
    """Send a request over a bare socket; return all that comes until the server closes."""
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\nContent-Length: {len(data)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", emulator.port), timeout=10) as sock:
        sock.sendall(head.encode() + data)
        received = b""
        try:
            while chunk := sock.recv(65536):
                received += chunk
        except ConnectionResetError:
            pass
        return received


def test_a_drop_before_processing_closes_without_a_byte_and_without_effect(
    emulator: Emulator, call: Client
) -> None:
    emulator.fault(method="POST", drop="before_processing")
    assert raw_request(emulator, "POST", JOBS, BODY) == b""
    assert emulator.jobs() == []
    (request,) = emulator.requests()
    assert (request["method"], request["path"], request["status"]) == ("POST", JOBS, None)
    assert call("POST", JOBS, BODY).status == 200


def test_a_drop_after_processing_has_its_effect(emulator: Emulator) -> None:
    emulator.fault(method="POST", drop="after_processing")
    assert raw_request(emulator, "POST", JOBS, BODY) == b""
    assert len(emulator.jobs()) == 1
    assert emulator.requests()[0]["status"] is None


def test_a_drop_does_not_disturb_other_connections(emulator: Emulator) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port)
    headers = {"Authorization": "Bearer t"}
    connection.request("GET", JOBS, headers=headers)
    connection.getresponse().read()
    emulator.fault(drop="before_processing")
    assert raw_request(emulator, "GET", JOBS) == b""
    connection.request("GET", JOBS, headers=headers)
    assert connection.getresponse().read() == b"{}"
    emulator.fault(drop="before_processing")
    connection.request("GET", JOBS, headers=headers)
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        connection.getresponse()


def test_a_body_shorter_than_announced(emulator: Emulator, call: Client) -> None:
    call.create()
    emulator.fault(truncate_body=True)
    head, _, body = raw_request(emulator, "GET", JOBS).partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line
    )
    assert head.startswith(b"HTTP/1.1 200")
    assert 0 < len(body) < length
    emulator.fault(truncate_body=True)
    with pytest.raises(http.client.IncompleteRead):
        call("GET", JOBS)


def test_half_a_json_with_the_right_length(emulator: Emulator, call: Client) -> None:
    call.create()
    emulator.fault(truncate_body="json")
    answer = call("GET", JOBS)
    assert answer.status == 200
    with pytest.raises(ValueError):
        answer.json  # noqa: B018


def test_a_status_with_headers_and_body(emulator: Emulator, call: Client) -> None:
    emulator.fault(status=429, headers={"Retry-After": "7"}, body={"error": {"code": 429}})
    answer = call("POST", JOBS, BODY)
    assert (answer.status, answer.headers["retry-after"], answer.json) == (429, "7", {"error": {"code": 429}})
    emulator.fault(status=502, body="<html>bad gateway</html>")
    answer = call("GET", JOBS)
    assert (answer.status, answer.text) == (502, "<html>bad gateway</html>")
    assert answer.headers["content-type"].startswith("text/html")
    emulator.fault(status=503)
    assert call("GET", JOBS).error["status"] == "UNAVAILABLE"
    assert emulator.jobs() == []


def test_a_delay(emulator: Emulator, call: Client) -> None:
    emulator.fault(delay_seconds=0.4)
    start = time.monotonic()
    assert call("GET", JOBS).status == 200
    assert 0.4 <= time.monotonic() - start < 3


def test_which_requests_are_hit(emulator: Emulator, call: Client) -> None:
    name = call.create()["name"]
    emulator.fault(method="get", path_regex=r"/tuningJobs/\d+$", status=500, times=2)
    assert [call("GET", JOBS).status, call("POST", JOBS, BODY).status] == [200, 200]
    assert [call("GET", f"/v1/{name}").status for _ in range(3)] == [500, 500, 200]
    (fault,) = emulator.faults()
    assert (fault["hits"], fault["remaining"]) == (2, 0)


@pytest.mark.parametrize("times", [-1, None])
def test_until_deleted(emulator: Emulator, call: Client, times: int | None) -> None:
    emulator.fault(status=500, times=times)
    assert [call("GET", JOBS).status for _ in range(4)] == [500] * 4
    emulator.clear_faults()
    assert call("GET", JOBS).status == 200
    assert emulator.faults() == []


def test_faults_apply_in_order_one_at_a_time(emulator: Emulator, call: Client) -> None:
    emulator.fault(status=500)
    emulator.fault(status=503)
    assert [call("GET", JOBS).status for _ in range(3)] == [500, 503, 200]


def test_the_control_api_is_never_hit_or_recorded(emulator: Emulator, call: Client) -> None:
    emulator.fault(status=500, times=-1, path_regex=".*")
    emulator.jobs()
    assert call("POST", "/_emulator/token", raw=b"grant_type=refresh_token").status == 200
    assert emulator.requests() == []


def test_the_token_endpoint_is_hit_by_a_fault_that_names_it(emulator: Emulator, call: Client) -> None:
    emulator.fault(status=503, path_regex="^/_emulator/token$")
    assert call("POST", "/_emulator/token", raw=b"grant_type=refresh_token").status == 503
    assert call("POST", "/_emulator/token", raw=b"grant_type=refresh_token").status == 200


@pytest.mark.parametrize(
    ("fault", "field"),
    [
        ({}, "status, delay_seconds, drop, truncate_body"),
        ({"status": 500, "drop": "before_processing"}, "status, delay_seconds, drop, truncate_body"),
        ({"status": 99}, "status"),
        ({"status": "500"}, "status"),
        ({"status": 0}, "status"),
        ({"delay_seconds": -1}, "delay_seconds"),
        ({"delay_seconds": "1"}, "delay_seconds"),
        ({"drop": "later"}, "drop"),
        ({"drop": True}, "drop"),
        ({"truncate_body": "half"}, "truncate_body"),
        ({"status": 500, "times": 0}, "times"),
        ({"status": 500, "times": 1.5}, "times"),
        ({"status": 500, "times": "1"}, "times"),
        ({"status": 500, "method": "FETCH"}, "method"),
        ({"status": 500, "path_regex": "("}, "path_regex"),
        ({"status": 500, "path_regex": 1}, "path_regex"),
        ({"status": 500, "headers": ["a"]}, "headers"),
        ({"status": 500, "headers": {"a": "b\r\nc: d"}}, "headers"),
        ({"status": 500, "body": 5}, "body"),
        ({"drop": "before_processing", "body": "x"}, "body"),
        ({"status": 500, "path": "x"}, "path"),
    ],
)
def test_a_bad_fault_is_refused_by_field(emulator: Emulator, fault: dict[str, Any], field: str) -> None:
    with pytest.raises(EmulatorError, match=f"400: {field}: "):
        emulator.fault(**fault)
    assert emulator.faults() == []
