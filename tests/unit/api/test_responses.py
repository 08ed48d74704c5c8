"""Reading what the API answered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_tuning_provider.api.errors import ApiError, ErrorKind
from airflow_tuning_provider.api.responses import Answer, as_operation, as_page, as_tuning_job, read

P = "projects/1/locations/us-central1"
JOB = {"name": f"{P}/tuningJobs/7", "state": "JOB_STATE_RUNNING"}


def answer(content: Any, status: int = 200) -> Any:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return read(Answer(status, {}, raw), now=0.0)


def bad(result: Any) -> str:
    assert isinstance(result, ApiError)
    assert result.kind is ErrorKind.BAD_RESPONSE
    assert len(result.message) < 500
    return result.message


@pytest.mark.parametrize("status", [200, 201, 206])
def test_a_success_is_its_object(status: int) -> None:
    assert answer(JOB, status) == JOB
    assert answer({}, status) == {}


def test_no_content_is_an_empty_object() -> None:
    assert answer(b"", 204) == {}


@pytest.mark.parametrize(
    "content",
    [
        b"", b" \n", b"<html>Sign in to the network</html>", b'{"name": "x"', b"{'a': 1}", b"\xff\xfe", b"[" * 100_000,
        b'{"a":' * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b"x" * 10**6,
    ],
    ids=lambda value: f"{len(value)} bytes of {value[:8]!r}",
)  # fmt: skip
def test_what_is_no_json_is_told_with_its_start(content: bytes) -> None:
    message = bad(answer(content))
    assert f"HTTP 200 with {len(content)} bytes that are not JSON" in message


@pytest.mark.parametrize(
    ("payload", "kind"), [([], "list"), ("x", "str"), (None, "NoneType"), (7, "int"), (True, "bool")]
)
def test_other_json_is_refused(payload: Any, kind: str) -> None:
    assert f"a JSON {kind} where an object belongs" in bad(answer(payload))


@pytest.mark.parametrize("status", [199, 300, 404, 500])
def test_a_failure_is_an_error(status: int) -> None:
    result = answer({"error": {"message": "no"}}, status)
    assert isinstance(result, ApiError)
    assert result.http_status == status


def test_half_a_surrogate_pair_becomes_a_question_mark() -> None:
    """Neither an event nor an XCom can hold it: a success could not be returned."""
    answer = Answer(200, {}, b'{"a": "x\\ud83d", "b": "\\ud83d\\ude00"}')
    assert read(answer, now=0.0) == {"a": "x?", "b": "\U0001f600"}
    error = read(Answer(500, {}, b'{"error": {"code": 500, "message": "\\uDC00"}}'), now=0.0)
    assert isinstance(error, ApiError)
    error.message.encode()


def test_a_job() -> None:
    assert as_tuning_job(JOB) is JOB
    assert as_tuning_job({**JOB, "state": "JOB_STATE_NEW", "future": [1]})["future"] == [1]  # type: ignore[index]


@pytest.mark.parametrize("state", ["", 3, [], {}])
def test_a_state_that_is_no_text_is_none(state: Any) -> None:
    assert as_tuning_job({**JOB, "state": state}) == {**JOB, "state": "JOB_STATE_UNSPECIFIED"}


@pytest.mark.parametrize("job", [{"name": JOB["name"]}, {**JOB, "state": None}])
def test_json_omits_the_first_value_of_an_enum(job: dict[str, Any]) -> None:
    unspecified = {"name": JOB["name"], "state": "JOB_STATE_UNSPECIFIED"}
    assert as_tuning_job(job) == unspecified
    assert as_page({"tuningJobs": [job, JOB]}) == ([unspecified, JOB], None)


@pytest.mark.parametrize(
    "name", [None, "", 7, "7", f"{P}/models/7", f"{P}/tuningJobs/../x", f"{P}/tuningJobs/7/"]
)
def test_a_job_without_its_name_is_not_taken_for_one(name: Any) -> None:
    assert "a tuning job without 'name'" in bad(as_tuning_job({**JOB, "name": name}))


def test_a_huge_odd_job_is_quoted_shortly() -> None:
    bad(as_tuning_job({"name": "x" * 10**6, "state": "S"}))


@pytest.mark.parametrize("name", [f"{P}/operations/1", f"{P}/tuningJobs/7/operations/1"])
def test_an_operation(name: str) -> None:
    operation = {"name": name}
    assert as_operation(operation) is operation


@pytest.mark.parametrize("name", [None, "", 7, f"{P}/tuningJobs/7", "operations/1"])
def test_an_operation_without_its_name(name: Any) -> None:
    assert "an operation without 'name'" in bad(as_operation({"name": name, "done": True}))


def test_pages() -> None:
    assert as_page({}) == ([], None)
    assert as_page({"tuningJobs": []}) == ([], None)
    assert as_page({"tuningJobs": [JOB], "nextPageToken": "t"}) == ([JOB], "t")
    assert as_page({"tuningJobs": [JOB], "nextPageToken": ""}) == ([JOB], None)
    assert as_page({"nextPageToken": "t"}) == ([], "t"), "a page may be empty and not the last"
    assert as_page({"nextPageToken": "u"}, asked="t") == ([], "u")
    bad(as_page({"nextPageToken": "t"}, asked="t"))


@pytest.mark.parametrize(
    "payload",
    [
        {"tuningJobs": None}, {"tuningJobs": {}}, {"tuningJobs": "x"}, {"nextPageToken": 7}, {"nextPageToken": ["t"]},
        {"tuningJobs": [None]}, {"tuningJobs": ["x"]}, {"tuningJobs": [JOB, {}]}, {"tuningJobs": [{**JOB, "name": ""}]},
        {"error": {"code": 503}}, {"tuningJobs": [JOB], "error": "partial"},
    ],
)  # fmt: skip
def test_a_list_that_cannot_be_trusted_is_not_taken_for_an_empty_one(payload: dict[str, Any]) -> None:
    bad(as_page(payload))
