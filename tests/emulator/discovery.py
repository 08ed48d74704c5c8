"""Check a JSON value against a schema of Google's published discovery document."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import googleapiclient

_DOCUMENTS = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@lru_cache
def _schemas(version: str) -> dict[str, Any]:
    return json.loads((_DOCUMENTS / f"aiplatform.{version}.json").read_text())["schemas"]


def problems(value: Any, schema: str, version: str = "v1") -> list[str]:
    """Return what is wrong with a value; the schema's name goes without Google's prefix."""
    prefix = "GoogleCloudAiplatform" + version.capitalize()
    name = schema if schema in _schemas(version) else prefix + schema
    return list(_check(value, {"$ref": name}, version, schema))


def assert_valid(value: Any, schema: str, version: str = "v1") -> None:
    assert problems(value, schema, version) == []


def _check(value: Any, schema: dict[str, Any], version: str, path: str) -> Any:
    if "$ref" in schema:
        schema = _schemas(version)[schema["$ref"]]
    kind = schema.get("type")
    if kind == "object":
        yield from _check_object(value, schema, version, path)
    elif kind == "array":
        if not isinstance(value, list) or not value:
            yield f"{path}: expected a list that is not empty, got {value!r}"
            return
        for i, item in enumerate(value):
            yield from _check(item, schema["items"], version, f"{path}[{i}]")
    elif kind != "any" and not _is_scalar(value, schema):
        yield f"{path}: expected {kind} {schema.get('format', '')}{schema.get('enum', '')}, got {value!r}"


def _check_object(value: Any, schema: dict[str, Any], version: str, path: str) -> Any:
    if not isinstance(value, dict):
        yield f"{path}: expected an object, got {value!r}"
        return
    for key, item in value.items():
        if key in schema.get("properties", {}):
            yield from _check(item, schema["properties"][key], version, f"{path}.{key}")
        elif "additionalProperties" in schema:
            yield from _check(item, schema["additionalProperties"], version, f"{path}.{key}")
        else:
            yield f"{path}.{key}: unknown field"


def _is_scalar(value: Any, schema: dict[str, Any]) -> bool:
    kind, form = schema["type"], schema.get("format")
    if kind == "string":
        if not isinstance(value, str) or (schema.get("enum") and value not in schema["enum"]):
            return False
        if form == "int64":
            return re.fullmatch(r"-?\d+", value) is not None
        return form != "google-datetime" or _TIME.fullmatch(value) is not None
    if kind == "boolean":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    return isinstance(value, int) if kind == "integer" else isinstance(value, (int, float))
