"""Faults that tests inject: which request they hit, and what happens to it."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

from airflow_tuning_provider.emulator.errors import envelope, invalid_argument, status_of_http

DROPS = ("before_processing", "after_processing")
_KINDS = ("status", "delay_seconds", "drop", "truncate_body")
_KNOWN = ("method", "path_regex", "times", "headers", "body", *_KINDS)
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
# Faults leave the control API alone, but the token endpoint can be hit by a fault that names it.
TOKEN_PATH = "/_emulator/token"  # noqa: S105


@dataclass
class Fault:
    """One rule; ``remaining`` None means until it is deleted."""

    id: int
    method: str | None = None
    path_regex: str | None = None
    remaining: int | None = 1
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    delay_seconds: float | None = None
    drop: str | None = None
    truncate_body: bool | str | None = None
    hits: int = 0

    def matches(self, method: str, path: str) -> bool:
        """Tell whether the rule applies to a request."""
        if self.remaining == 0 or (self.method and self.method != method):
            return False
        if path == TOKEN_PATH and "_emulator/token" not in (self.path_regex or ""):
            return False
        return self.path_regex is None or re.search(self.path_regex, path) is not None

    def response_body(self) -> bytes:
        """Return the body of a fault that answers with a status."""
        body = self.body
        if body is None:
            assert self.status is not None
            if self.status < 400:
                return b""
            name = status_of_http(self.status)
            body = envelope(self.status, name, f"Injected fault: {name}.")
        return body.encode() if isinstance(body, str) else json.dumps(body).encode()

    def response_headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers of a fault that answers with a status."""
        headers = {k.lower(): v for k, v in self.headers.items()}
        kind = "text/html; charset=UTF-8" if isinstance(self.body, str) else "application/json; charset=UTF-8"
        headers.setdefault("content-type", kind)
        headers["content-length"] = str(len(self.response_body()))
        return [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()]

    def describe(self) -> dict[str, Any]:
        """Return the rule as the control API shows it."""
        shown = {
            "id": self.id,
            "method": self.method,
            "path_regex": self.path_regex,
            "remaining": self.remaining,
            "hits": self.hits,
        }
        for kind in (*_KINDS, "headers", "body"):
            value = getattr(self, kind)
            if value is not None and value != {}:
                shown[kind] = value
        return shown


class Faults:
    """The rules in force, in the order in which they were given."""

    def __init__(self) -> None:
        self.rules: list[Fault] = []
        self._next_id = 1

    def add(self, body: Any) -> Fault:
        """Add a rule from a control request; refuse a bad one by the name of the field."""
        fault = _parse(body, self._next_id)
        self._next_id += 1
        self.rules.append(fault)
        return fault

    def take(self, method: str, path: str) -> Fault | None:
        """Return the first rule that applies to a request, and count the hit."""
        for fault in self.rules:
            if fault.matches(method, path):
                fault.hits += 1
                if fault.remaining is not None:
                    fault.remaining -= 1
                return fault
        return None

    def clear(self) -> None:
        """Delete all rules."""
        self.rules.clear()


def _parse(body: Any, id_: int) -> Fault:
    if not isinstance(body, dict):
        raise invalid_argument("A fault must be a JSON object.")
    given = {key: value for key, value in body.items() if value is not None}
    for key in body:
        if key not in _KNOWN:
            raise invalid_argument(f"{key}: unknown field; known are {', '.join(_KNOWN)}.")
    kinds = [kind for kind in _KINDS if kind in given and (kind == "status" or given[kind] is not False)]
    if len(kinds) != 1:
        found = ", ".join(kinds) or "none"
        raise invalid_argument(f"{', '.join(_KINDS)}: exactly one of these is needed, got {found}.")
    fault = Fault(id_)
    fault.method = _method(given.get("method"))
    fault.path_regex = _regex(given.get("path_regex"))
    fault.remaining = _times(body)
    _set_kind(fault, kinds[0], given[kinds[0]])
    for key in ("headers", "body"):
        if key in given and kinds[0] != "status":
            raise invalid_argument(f"{key}: only goes with status.")
    fault.headers = _headers(given.get("headers", {}))
    fault.body = _body(given.get("body"))
    return fault


def _method(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or value.upper() not in _METHODS:
        raise invalid_argument(f"method: must be one of {', '.join(_METHODS)}, got {value!r}.")
    return value.upper()


def _regex(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise invalid_argument(f"path_regex: must be a string, got {value!r}.")
    try:
        re.compile(value)
    except re.error as e:
        raise invalid_argument(f"path_regex: not a regular expression: {e}.") from e
    return value


def _times(body: dict[str, Any]) -> int | None:
    value = body.get("times", 1)
    if value is None or value == -1:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise invalid_argument(f"times: must be a positive number, or -1 or null for always, got {value!r}.")
    return value


def _headers(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise invalid_argument(f"headers: must be an object of strings, got {value!r}.")
    for name, text in value.items():
        plain = isinstance(text, (str, int)) and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name)
        if not plain or re.search(r"[^\x20-\x7e\x80-\xff\t]", str(text)):
            raise invalid_argument(f"headers: not a valid header: {name!r}: {text!r}.")
    return {name: str(text) for name, text in value.items()}


def _body(value: Any) -> Any:
    if value is not None and not isinstance(value, (str, dict, list)):
        raise invalid_argument(f"body: must be a string, an object or a list, got {value!r}.")
    return value


def _set_kind(fault: Fault, kind: str, value: Any) -> None:
    if kind == "status":
        if isinstance(value, bool) or not isinstance(value, int) or not 200 <= value <= 599:
            raise invalid_argument(f"status: must be an HTTP status from 200 to 599, got {value!r}.")
        fault.status = value
    elif kind == "delay_seconds":
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value < 0:
            raise invalid_argument(f"delay_seconds: must be a number of seconds, got {value!r}.")
        fault.delay_seconds = float(value)
    elif kind == "drop":
        if value not in DROPS:
            raise invalid_argument(f"drop: must be one of {', '.join(DROPS)}, got {value!r}.")
        fault.drop = value
    else:
        if value not in (True, "length", "json"):
            raise invalid_argument(f'truncate_body: must be true, "length" or "json", got {value!r}.')
        fault.truncate_body = value
