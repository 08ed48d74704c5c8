"""Read what the API answered; every shape that is not the promised one becomes an ApiError."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_tuning_provider.api.errors import ApiError, ErrorKind, parse_error
from airflow_tuning_provider.api.inputs import InvalidInputError, parse_json, shorten
from airflow_tuning_provider.api.names import (
    EndpointName,
    ModelName,
    OperationName,
    ResourceName,
    TuningJobName,
)
from airflow_tuning_provider.api.states import JobState

MAX_BODY_BYTES = 64 * 1024 * 1024
"""A larger answer is refused: a full page of tuning jobs stays far below it."""


@dataclass(frozen=True)
class Answer:
    """A whole HTTP answer."""

    status: int
    headers: Mapping[str, str]
    content: bytes


def read(answer: Answer, *, now: float) -> dict[str, Any] | ApiError:
    """Return the JSON object of a success, or the error that the answer is.

    :param answer: the whole answer.
    :param now: the current time in epoch seconds.
    """
    if not 200 <= answer.status < 300:
        return parse_error(answer.status, answer.headers, answer.content, now=now)
    if answer.status == 204:
        return {}
    try:
        payload = parse_json(answer.content)
    except (ValueError, RecursionError):
        start = answer.content[:200].decode("utf-8", errors="replace")
        return bad_response(
            # Nothing at all is no JSON either: an empty list of jobs is "{}", and must not be made up here.
            f"the server answered HTTP {answer.status} with {len(answer.content)} bytes that are not JSON "
            f"(starting {shorten(start, 120)!r})",
            answer.status,
        )
    if not isinstance(payload, dict):
        return bad_response(
            f"the server answered HTTP {answer.status} with a JSON {type(payload).__name__} "
            "where an object belongs",
            answer.status,
        )
    return payload


def bad_response(message: str, http_status: int | None = None) -> ApiError:
    """Return the error for an answer that is not what the API promises.

    :param message: what is wrong with it.
    :param http_status: its HTTP status, if known.
    """
    return ApiError(ErrorKind.BAD_RESPONSE, message, http_status=http_status)


def as_tuning_job(payload: dict[str, Any]) -> dict[str, Any] | ApiError:
    """Return ``payload`` if it is a tuning job with a proper name.

    JSON of protocol buffers omits an enum's first value: a job without a state is in no stated state, and so is one
    whose state is no text.
    """
    state = payload.get("state")
    if not isinstance(state, str) or not state:
        payload = {**payload, "state": JobState.UNSPECIFIED.value}
    try:
        TuningJobName.parse(payload.get("name"), field="name")
    except InvalidInputError:
        return bad_response(
            f"the server sent a tuning job without 'name' in the API's form: {_start_of(payload)}"
        )
    return payload


def as_operation(payload: dict[str, Any]) -> dict[str, Any] | ApiError:
    """Return ``payload`` if it is a long-running operation with a proper name."""
    try:
        OperationName.parse(payload.get("name"), field="name")
    except InvalidInputError:
        return bad_response(
            f"the server sent an operation without 'name' in the API's form: {_start_of(payload)}"
        )
    return payload


def as_model(payload: dict[str, Any]) -> dict[str, Any] | ApiError:
    """Return ``payload`` if it is a model with a proper name."""
    return _named(payload, ModelName, "a model")


def as_endpoint(payload: dict[str, Any]) -> dict[str, Any] | ApiError:
    """Return ``payload`` if it is an endpoint with a proper name."""
    return _named(payload, EndpointName, "an endpoint")


def as_checkpoint(payload: dict[str, Any]) -> dict[str, Any] | ApiError:
    """Return ``payload`` as it is: the id of a checkpoint may be missing."""
    return payload


def as_page(
    payload: dict[str, Any],
    *,
    asked: str | None = None,
    key: str = "tuningJobs",
    item: Callable[[dict[str, Any]], dict[str, Any] | ApiError] = as_tuning_job,
) -> tuple[list[dict[str, Any]], str | None] | ApiError:
    """Return what a page of a list holds and the next page's token.

    :param payload: a list answer; an empty list is ``{}`` on the wire.
    :param asked: the token that this page was asked for with.
    :param key: where the list is.
    :param item: how to read what is listed.
    """
    listed = payload.get(key, [])
    token = payload.get("nextPageToken") or None
    if not isinstance(listed, list) or not (token is None or isinstance(token, str)) or "error" in payload:
        return bad_response(f"the server sent a list of another shape: {_start_of(payload)}")
    if token is not None and token == asked:
        return bad_response("the server sent the same page token twice: its list would never end")
    checked: list[dict[str, Any]] = []
    for one in listed:
        found = item(one) if isinstance(one, dict) else bad_response(f"what is listed in {key} is no object")
        if isinstance(found, ApiError):
            return found
        checked.append(found)
    return checked, token


def _named(payload: dict[str, Any], kind: type[ResourceName], what: str) -> dict[str, Any] | ApiError:
    try:
        kind.parse(payload.get("name"), field="name")
    except InvalidInputError:
        return bad_response(f"the server sent {what} without 'name' in the API's form: {_start_of(payload)}")
    return payload


def _start_of(payload: object) -> str:
    return shorten(repr(payload))
