"""What is made of failed calls: Google's error envelope, and whatever else answers."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest

from airflow_tuning_provider.api.errors import (
    ApiError,
    ErrorKind,
    FieldViolation,
    kind_of_status,
    parse_error,
    parse_retry_after,
)
from airflow_tuning_provider.api.retry import is_ambiguous

NOW = 1_730_000_000.0


def envelope(code: int = 400, message: Any = "no", status: Any = "INVALID_ARGUMENT", **more: Any) -> bytes:
    return json.dumps({"error": {"code": code, "message": message, "status": status, **more}}).encode()


def parse(http_status: int, content: bytes, **headers: str) -> ApiError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return parse_error(http_status, named, content, now=NOW)


@pytest.mark.parametrize(
    ("http_status", "kind", "transient"),
    [
        (400, ErrorKind.BAD_REQUEST, False),
        (401, ErrorKind.UNAUTHENTICATED, False),
        (403, ErrorKind.NOT_PERMITTED, False),
        (404, ErrorKind.NOT_FOUND, False),
        (405, ErrorKind.BAD_REQUEST, False),
        (408, ErrorKind.UNAVAILABLE, True),
        (409, ErrorKind.BAD_REQUEST, False),
        (412, ErrorKind.BAD_REQUEST, False),
        (413, ErrorKind.BAD_REQUEST, False),
        (429, ErrorKind.QUOTA, True),
        (499, ErrorKind.UNAVAILABLE, True),
        (500, ErrorKind.UNAVAILABLE, True),
        (501, ErrorKind.UNAVAILABLE, True),
        (502, ErrorKind.UNAVAILABLE, True),
        (503, ErrorKind.UNAVAILABLE, True),
        (504, ErrorKind.UNAVAILABLE, True),
        (599, ErrorKind.UNAVAILABLE, True),
        (101, ErrorKind.BAD_RESPONSE, True),
    ],
)
def test_statuses(http_status: int, kind: ErrorKind, transient: bool) -> None:
    assert kind_of_status(http_status) is kind
    assert kind.transient is transient
    assert parse(http_status, envelope(http_status)).kind is kind


def test_googles_envelope() -> None:
    content = envelope(
        message="List of found errors",
        details=[
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "BAD_DATASET",
                "domain": "aiplatform.googleapis.com",
            },
            {
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [
                    {"field": "tuning_job.base_model", "description": "not supported"},
                    {"field": "tuning_job.labels", "description": "too long"},
                ],
            },
        ],
    )
    error = parse(400, content)
    assert error == ApiError(
        ErrorKind.BAD_REQUEST,
        "List of found errors",
        400,
        "INVALID_ARGUMENT",
        "BAD_DATASET",
        (
            FieldViolation("tuning_job.base_model", "not supported"),
            FieldViolation("tuning_job.labels", "too long"),
        ),
    )
    assert str(error) == (
        "400 INVALID_ARGUMENT: List of found errors\n"
        "  tuning_job.base_model: not supported\n"
        "  tuning_job.labels: too long"
    )


def test_many_violations_are_kept_but_not_all_shown() -> None:
    violations = [{"field": f"f{index}", "description": "x" * 10_000} for index in range(1000)]
    error = parse(400, envelope(details=[{"fieldViolations": violations}]))
    assert len(error.field_violations) == 1000
    assert str(error).endswith("\n  and 980 more")
    assert len(str(error)) < 30_000


def test_a_long_message_is_cut() -> None:
    assert len(parse(400, envelope(message="x" * 10**6)).message) == 4000


@pytest.mark.parametrize("message", [None, ""])
def test_an_envelope_without_message_keeps_its_status(message: Any) -> None:
    error = parse(503, envelope(503, message, "UNAVAILABLE"))
    assert str(error) == "503 UNAVAILABLE: the API gave no message"


@pytest.mark.parametrize(
    "details",
    [
        None, {}, "details", 7, [], [None, 1, "x", []], [{"fieldViolations": None}], [{"fieldViolations": {}}],
        [{"fieldViolations": ["x", None]}], [{"reason": None}], [{"retryDelay": None}], [{"retryDelay": {}}],
    ],
)  # fmt: skip
def test_odd_details_are_ignored(details: Any) -> None:
    error = parse(400, envelope(details=details))
    assert (error.message, error.reason, error.field_violations, error.retry_after) == ("no", None, (), None)


def test_violations_without_text() -> None:
    details = [
        {"fieldViolations": [{}, {"field": None, "description": None}, {"field": 1, "description": 2}]}
    ]
    assert parse(400, envelope(details=details)).field_violations == (
        FieldViolation("", ""),
        FieldViolation("", ""),
        FieldViolation("1", "2"),
    )


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [("3.5s", 3.5), ("0s", 0.0), ("60s", 60.0), ("0.000000001s", 1e-9), ("999999999s", 999_999_999.0)],
)
def test_retry_info_wins_over_the_header(delay: str, seconds: float) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}]
    error = parse(429, envelope(429, details=details), Retry_After="77")
    assert error.retry_after == seconds


@pytest.mark.parametrize(
    "delay", ["", "s", "3", "-1s", "1e3s", "3.5 s", "infs", "nans", "٣s", "9" * 20 + "s", 3, True]
)
def test_odd_retry_info_leaves_the_header(delay: Any) -> None:
    error = parse(429, envelope(429, details=[{"retryDelay": delay}]), retry_after="77")
    assert error.retry_after == 77.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 120 ", 120.0),
        ("0", 0.0),
        ("1.5", 1.5),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        ("Sun, 27 Oct 2024 03:34:50 GMT", 90.0),
        # The obsolete forms of RFC 9110, 5.6.7, which a recipient must accept
        ("Sunday, 27-Oct-24 03:34:50 GMT", 90.0),
        ("Sun Oct 27 03:34:50 2024", 90.0),
        ("Sun, 27 Oct 2024 03:34:50 -0000", 90.0),
        ("Sun, 27 Oct 2024 05:34:50 +0200", 90.0),
    ],
)
def test_retry_after(value: str, seconds: float) -> None:
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    "value",
    [
        None, "", " ", "soon", "-5", "1e3", "inf", "nan", "1,5", "٣", "0x10", "9" * 10, "1.5.5", "\n", "120\n7",
        "Sun, 99 Oct 2024 03:34:50 GMT", "Sun, 27 Oct 2024 99:34:50 GMT", "1 2 3 4 5 6", ", , , ,", "Oct", "x" * 10_000,
    ],
)  # fmt: skip
def test_odd_retry_after(value: Any) -> None:
    assert parse_retry_after(value, NOW) is None


@pytest.fixture
def far_from_greenwich() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Pacific/Auckland"
    time.tzset()
    yield
    os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
    time.tzset()


@pytest.mark.usefixtures("far_from_greenwich")
def test_a_date_without_zone_is_gmt_wherever_this_runs() -> None:
    assert parse_retry_after("Sun Oct 27 03:34:50 2024", NOW) == 90.0


@pytest.mark.parametrize("name", ["Retry-After", "retry-after", "RETRY-AFTER"])
def test_header_names_have_no_case(name: str) -> None:
    assert parse_error(503, {name: "7"}, b"", now=NOW).retry_after == 7.0


HTML = b"<!DOCTYPE html>\n<html><title>502 Server Error</title>\n<p>Try again in 30 seconds."


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (HTML, "'<!DOCTYPE html> <html><title>502 Server Error</title> <p>Try again in 30 seconds.'"),
        (b"", "an empty body"),
        (b" \r\n\t ", "an empty body"),
        (b"upstream connect error", "'upstream connect error'"),
        (b"\xff\xfe\xfa", "'\ufffd\ufffd\ufffd'"),
        (b'{"error": "invalid_grant"}', """'{"error": "invalid_grant"}'"""),
        (b'{"error": null}', """'{"error": null}'"""),
        (b'{"error": []}', """'{"error": []}'"""),
        (b'{"message": "no"}', """'{"message": "no"}'"""),
        (b'[{"error": {}}]', """'[{"error": {}}]'"""),
        (b"null", "'null'"),
        (b"7", "'7'"),
        (b'"error"', """'"error"'"""),
        (b'{"error":', """'{"error":'"""),
    ],
)
def test_whatever_else_answers_is_quoted(content: bytes, shown: str) -> None:
    error = parse(502, content, Retry_After="30")
    assert error.kind is ErrorKind.UNAVAILABLE
    assert error.message == f"the server answered HTTP 502 without Google's error envelope: {shown}"
    assert error.retry_after == 30.0


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000, b'{"error":' * 100_000, b'{"error": {"message": ' + b"9" * 5000 + b"}}", b"x" * 10**6,
        b"\x00" * 999,
    ],
    ids=["deep list", "deep object", "long number", "long text", "zeros"],
)  # fmt: skip
def test_hostile_content_is_quoted_shortly(content: bytes) -> None:
    error = parse(500, content)
    assert error.kind is ErrorKind.UNAVAILABLE
    assert len(error.message) < 800


def test_a_404_that_is_not_the_apis_does_not_say_that_a_job_is_gone() -> None:
    error = parse(404, b"<html>Error 404 (Not Found)!!1</html>")
    assert error.kind is ErrorKind.BAD_REQUEST
    assert error.message.endswith("Check the location, and the API endpoint of the connection")
    assert parse(404, envelope(404, "no such job", "NOT_FOUND")).kind is ErrorKind.NOT_FOUND


@pytest.mark.parametrize("http_status", [300, 301, 302, 303, 304, 307, 308])
def test_a_redirect_is_told_not_followed(http_status: int) -> None:
    error = parse(http_status, envelope(), Location="https://evil.example.com")
    assert error.kind is ErrorKind.BAD_REQUEST
    assert f"redirect (HTTP {http_status}), which is not followed" in error.message
    assert "evil" not in str(error)


def test_an_error_without_answer_is_its_message() -> None:
    assert str(ApiError(ErrorKind.UNAVAILABLE, "the connection failed")) == "the connection failed"


@pytest.mark.parametrize(
    "content", [b"", b"<html>Too many requests</html>", b"{}", b'{"error": "rate limited"}']
)
def test_a_429_of_somebody_else_is_no_refusal_by_the_api(content: bytes) -> None:
    error = parse(429, content, Retry_After="7")
    assert (error.kind, error.retry_after) == (ErrorKind.UNAVAILABLE, 7.0)
    assert is_ambiguous(error)
    assert not is_ambiguous(parse(429, envelope(429)))


def test_refusals_are_of_who_asks() -> None:
    assert {kind for kind in ErrorKind if kind.refusal} == {
        ErrorKind.UNAUTHENTICATED,
        ErrorKind.NOT_PERMITTED,
    }
