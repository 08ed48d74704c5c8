"""The error for input that is refused before anything is sent."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

MAX_SECONDS = 365 * 24 * 3600.0
"""The longest duration that is accepted: what is longer is a mistake, and may not fit where Airflow stores it."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class InvalidInputError(ValueError):
    """A value that the tuning API could not accept, or that must not reach a URL.

    :param field: the parameter or body path at fault, as the user wrote it.
    :param value: the offending value; shown shortened.
    :param expected: what is allowed and what to do.
    """

    def __init__(self, field: str, value: Any, expected: str) -> None:
        self.field = field
        self.value = value
        self.expected = expected
        super().__init__(f"{field}={_show(value)} is not valid: {expected}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.field, self.value, self.expected)


def _show(value: object) -> str:
    try:
        return shorten(repr(value))
    except Exception:  # noqa: BLE001 - an integer of 5,000 digits, an endless structure, a user's broken __repr__
        return f"<{type(value).__name__}>"


def shorten(text: str, limit: int = 200) -> str:
    """Return ``text`` cut to ``limit`` characters, with an ellipsis where something was left out."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def number(value: Any, field: str, *, minimum: float = 0.0, maximum: float = MAX_SECONDS) -> float:
    """Return a number of seconds that may come from a template as text.

    :param field: how errors call the value.
    :param minimum: the value must be above it.
    :param maximum: the value must not be above it.
    :raises InvalidInputError: if it is not a number within these bounds.
    """
    try:
        result = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        result = math.nan
    if not minimum < result <= maximum:
        raise InvalidInputError(
            field, value, f"give a number of seconds above {minimum:g}, and of at most {maximum:.0f}"
        )
    return result


def as_int(value: object) -> int | None:
    """Return a whole number of at most 64 bits, ``None`` if ``value`` is none.

    JSON carries an int64 as text, as templates do; a float counts if it has no fraction. ``True`` is no number.
    """
    if isinstance(value, str):
        whole = int(value) if re.fullmatch(r"\s*[+-]?[0-9]{1,20}\s*", value) else None
    elif isinstance(value, float):
        whole = int(value) if value.is_integer() else None
    else:
        whole = value if isinstance(value, int) and not isinstance(value, bool) else None
    return whole if whole is not None and -(2**63) <= whole < 2**63 else None


def boolean(value: Any, field: str) -> bool:
    """Return a truth value that may come from a template as text.

    :param field: how errors call the value.
    :raises InvalidInputError: if it is neither true nor false.
    """
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("true", "1", "yes", "on"):
        return True
    if text in ("false", "0", "no", "off", "none", ""):
        return False
    raise InvalidInputError(field, value, "give true or false")


def parse_json(content: bytes) -> Any:
    """Return what a server sent as JSON.

    Half of a surrogate pair, which JSON can escape, becomes a question mark: neither events nor XCom can hold it.

    :raises ValueError: if ``content`` is no JSON.
    """
    payload = json.loads(content)
    if _SURROGATE.search(content):
        payload = json.loads(json.dumps(payload, ensure_ascii=False).encode("utf-8", "replace"))
    return payload


def as_mapping(value: object) -> Mapping[str, Any]:
    """Return ``value`` if it is a mapping; anything else that the API's JSON may hold becomes an empty one."""
    return value if isinstance(value, Mapping) else {}


def as_list(value: object) -> list[Any]:
    """Return ``value`` if it is a list; anything else that the API's JSON may hold becomes an empty one."""
    return value if isinstance(value, list) else []


def as_text(value: object) -> str | None:
    """Return ``value`` if it is a non-empty string, ``None`` for anything else that the API's JSON may hold."""
    return value if isinstance(value, str) and value else None
