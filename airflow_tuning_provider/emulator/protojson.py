"""Parse a JSON body as Google's front end parses one into a protocol buffer.

The result is canonical: camelCase keys, enums by name, int64 as string, unset fields left out. That is
also the form in which the API gives a resource back, so that what is stored needs no second conversion.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from airflow_tuning_provider.emulator.errors import ApiError, bad_request
from airflow_tuning_provider.emulator.schema import (
    ENUMS,
    EXPLICIT_PRESENCE,
    MESSAGES,
    ONEOFS,
    Field,
    camel_case,
)

_PROTO_TYPES = {
    "str": "TYPE_STRING",
    "bool": "TYPE_BOOL",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "double": "TYPE_DOUBLE",
    "float": "TYPE_FLOAT",
}
# Narrower than what int() and float() take.
_NUMERIC = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_INT_BITS = {"int32": 31, "int64": 63}
# Members of unlisted messages whose keys or values are the user's own data.
_USER_KEYED = frozenset({"properties", "defs"})
_USER_DATA = frozenset(
    {"default", "example", "args", "response", "responseJsonSchema", "parametersJsonSchema"}
)


class _InvalidError(Exception):
    """A scalar does not fit its type."""


def strict_loads(raw: bytes) -> Any:
    """Decode JSON; raise ValueError also for what only Python takes: NaN, and half of a surrogate pair."""
    value = json.loads(raw, parse_constant=_refuse_constant)
    if b"\\ud" in raw.lower():
        # Such a text could be stored but never sent again.
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"Unexpected token: {name}")


def load_json(raw: bytes) -> Any:
    """Decode a request body; an empty one is an empty message."""
    if not raw.strip():
        return {}
    try:
        return strict_loads(raw)
    except json.JSONDecodeError as e:
        line = (e.doc.splitlines() or [""])[e.lineno - 1 : e.lineno]
        snippet = line[0][max(0, e.colno - 40) : e.colno + 40] if line else ""
        raise _payload_error(f"{e.msg} (line {e.lineno}, column {e.colno}).\n{snippet}".rstrip()) from e
    except UnicodeError as e:
        raise _payload_error("Body is not valid UTF-8.") from e
    except ValueError as e:
        raise _payload_error(f"{e}.") from e
    except RecursionError as e:
        raise _payload_error("Message too deep. Max recursion depth reached.") from e


def _payload_error(text: str) -> ApiError:
    message = f"Invalid JSON payload received. {text}"
    return bad_request([("", message)], message)


def parse(message: str, body: Any, version: str, path: str = "") -> dict[str, Any]:
    """Parse a body as the named message; raise Google's 400 with one violation per fault found."""
    parser = _Parser(version)
    try:
        result = parser.message(message, body, path)
    except RecursionError as e:
        raise _payload_error("Message too deep. Max recursion depth reached.") from e
    if parser.violations:
        raise bad_request(parser.violations)
    return result


def prune(message: str, value: dict[str, Any], version: str) -> dict[str, Any]:
    """Leave out of a stored message what the given API version does not know."""
    if version != "v1":
        return value
    return {
        name: _prune_field(field, item, version)
        for name, item in value.items()
        if (field := MESSAGES[message].get(name)) and field.known_to(version)
    }


def _prune_field(field: Field, value: Any, version: str) -> Any:
    if field.type.startswith("[") and field.type[1:-1] in MESSAGES:
        return [prune(field.type[1:-1], item, version) for item in value]
    return prune(field.type, value, version) if field.type in MESSAGES else value


class _Parser:
    def __init__(self, version: str) -> None:
        self.version = version
        self.violations: list[tuple[str, str]] = []

    def message(self, name: str, body: Any, path: str) -> dict[str, Any]:
        if not isinstance(body, dict):
            self._invalid(path, f"type.googleapis.com/google.cloud.aiplatform.{self.version}.{name}", body)
            return {}
        fields = MESSAGES[name]
        result: dict[str, Any] = {}
        for key, value in body.items():
            field = fields.get(camel_case(key))
            if field is None or not field.known_to(self.version):
                self._unknown(key, path)
            elif value is not None and not field.output_only:
                parsed = self._field(field, value, f"{path}.{field.snake}" if path else field.snake)
                if _is_set(parsed, explicit=name in EXPLICIT_PRESENCE):
                    result[field.name] = parsed
        self._check_oneofs(name, result, path)
        return result

    def _field(self, field: Field, value: Any, path: str) -> Any:
        kind = field.type
        if kind.startswith("["):
            # A lone value for a repeated field is taken as a list of one.
            items = value if isinstance(value, list) else [value]
            parsed = [self._value(kind[1:-1], item, f"{path}[{i}]") for i, item in enumerate(items)]
            return [item for item in parsed if item is not None]
        if isinstance(value, list) and kind != "any":
            self._violate(
                path.rpartition(".")[0],
                f'Unknown name "{field.name}"',
                "Proto field is not repeating, cannot start list.",
            )
            return None
        return self._value(kind, value, path)

    def _value(self, kind: str, value: Any, path: str) -> Any:
        if kind == "any":
            return value
        if kind == "struct":
            return self._map("any", value, path)
        if kind == "json":
            return self._free_object(value, path)
        if kind == "map" or kind.startswith("{"):
            return self._map("str" if kind == "map" else kind[1:-1], value, path)
        if kind in MESSAGES:
            return self.message(kind, value, path)
        try:
            return _enum(kind[1:], value) if kind.startswith("@") else _SCALARS[kind](kind, value)
        except _InvalidError:
            proto_type = _PROTO_TYPES.get(
                kind, f"type.googleapis.com/google.cloud.aiplatform.{self.version}.{kind[1:]}"
            )
            self._invalid(path, proto_type, value)
            return None

    def _map(self, kind: str, value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            self._invalid(path, "Map", value)
            return {}
        parsed = {}
        for i, (key, item) in enumerate(value.items()):
            parsed[key] = self._value(kind, item, f"{path}[{i}].value")
        return parsed

    def _free_object(self, value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            self._invalid(path, "Message", value)
            return None
        return _camel_keys(value)

    def _check_oneofs(self, name: str, result: dict[str, Any], path: str) -> None:
        for oneof, members in ONEOFS.get(name, {}).items():
            chosen = [key for key in result if key in members]
            for extra in chosen[1:]:
                text = (
                    f"Invalid value at '{path}' (oneof), oneof field '{oneof}' is already set. "
                    f"Cannot set '{extra}'"
                )
                self.violations.append((path, text))

    def _unknown(self, key: str, path: str) -> None:
        self._violate(path, f'Unknown name "{key}"', "Cannot find field.")

    def _violate(self, path: str, what: str, why: str) -> None:
        where = f" at '{path}'" if path else ""
        self.violations.append((path, f"Invalid JSON payload received. {what}{where}: {why}"))

    def _invalid(self, path: str, proto_type: str, value: Any) -> None:
        shown = json.dumps(value, ensure_ascii=False)
        self.violations.append((path, f"Invalid value at '{path}' ({proto_type}), {shown[:200]}"))


def _is_set(value: Any, *, explicit: bool) -> bool:
    """Tell a set field from one that holds its type's zero; an empty message counts as set."""
    if value is None:
        return False
    if explicit or isinstance(value, dict):
        return True
    if isinstance(value, (str, list)):
        return value not in ("", "0", [])
    return bool(value != 0)


def _integer(kind: str, value: Any) -> str | int:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise _InvalidError
    if isinstance(value, str) and not _NUMERIC.fullmatch(value):
        raise _InvalidError
    try:
        number = int(value) if isinstance(value, (int, str)) else _whole(value)
    except ValueError:
        number = _whole(_number(kind, value))
    bits = _INT_BITS[kind]
    if not -(2**bits) <= number < 2**bits:
        raise _InvalidError
    # Only int64 goes over the wire as a string.
    return str(number) if kind == "int64" else number


def _whole(value: Any) -> int:
    number = float(value)
    if not math.isfinite(number) or number != int(number):
        raise _InvalidError
    return int(number)


def _number(kind: str, value: Any) -> float | int | str:
    if isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity"):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise _InvalidError
    if isinstance(value, str) and not _NUMERIC.fullmatch(value):
        raise _InvalidError
    try:
        number = float(value)
    except (ValueError, OverflowError) as e:
        raise _InvalidError from e
    if not math.isfinite(number):
        raise _InvalidError
    # As Google prints it: 1, not 1.0.
    return int(number) if number == int(number) and abs(number) < 2**53 else number


def _string(kind: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _InvalidError
    return value


def _boolean(kind: str, value: Any) -> bool:
    if value in ("true", "false"):
        return bool(value == "true")
    if not isinstance(value, bool):
        raise _InvalidError
    return value


_SCALARS = {
    "int32": _integer,
    "int64": _integer,
    "double": _number,
    "float": _number,
    "str": _string,
    "bool": _boolean,
}


def _enum(name: str, value: Any) -> str | None:
    """Return the enum's name, or None for its zero, which means unset."""
    members = ENUMS[name]
    if isinstance(value, str) and value in members:
        return value if members[value] else None
    number = int(_integer("int64", value))
    for member, n in members.items():
        if n == number:
            return member if n else None
    raise _InvalidError


def _camel_keys(value: Any) -> Any:
    """Bring the keys of an unlisted message into JSON case and drop nulls."""
    if isinstance(value, list):
        return [_camel_keys(item) for item in value]
    if not isinstance(value, dict):
        return value
    result = {}
    for key, item in value.items():
        name = camel_case(key)
        if item is None:
            continue
        if name in _USER_KEYED and isinstance(item, dict):
            result[name] = {k: _camel_keys(v) for k, v in item.items()}
        else:
            result[name] = item if name in _USER_DATA else _camel_keys(item)
    return result
