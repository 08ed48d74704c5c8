"""Proto JSON as the API reads it: field names in either spelling, nulls unset, nothing that JSON cannot say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from airflow_tuning_provider.api.inputs import InvalidInputError

# Keys below which the names are the user's data, not field names: they keep their spelling.
_FREE_FORM = frozenset(
    {
        "labels", "parameters", "metricSpecParameters", "stepAutoraterConfigs", "additionalConfig",
        "otherMetadata", "properties", "defs", "default", "example", "references", "customConfigs",
        "parametersJsonSchema", "responseJsonSchema", "responseSchema",
    }
)  # fmt: skip


def normalize(body: object, field: str) -> dict[str, Any]:
    """Return a copy of a JSON object with camelCase field names and without nulls.

    :param body: the object in camelCase, snake_case or a mixture.
    :param field: how errors call it.
    :raises InvalidInputError: if it is no mapping, is not JSON, or has one field in both spellings.
    """
    if not isinstance(body, Mapping):
        raise InvalidInputError(field, body, "give a JSON object (dict)")
    try:
        return _message(body, field)
    except RecursionError:
        raise InvalidInputError(field, "…", "it is nested too deeply, or contains itself") from None


def camel(key: str) -> str:
    """Return a field's name in camelCase, whichever spelling ``key`` has."""
    head, *tail = key.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in tail) if head else key


def is_free_form(name: str, parent: str) -> bool:
    """Whether the keys below a field are the user's data.

    :param name: the field, in camelCase.
    :param parent: the field, or its path, that holds it.
    """
    return name in _FREE_FORM or (name == "hyperParameters" and parent.endswith("partnerModelTuningSpec"))


def _message(message: Mapping[Any, Any], path: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, item in message.items():
        if not isinstance(key, str):
            raise InvalidInputError(path, key, "keys must be strings")
        name = camel(key)
        if item is None:
            continue
        if name in result:
            raise InvalidInputError(f"{path}.{key}", item, f"given twice, as {name} and in snake_case")
        copy = _plain if is_free_form(name, path) else _field
        result[name] = copy(item, f"{path}.{name}")
    return result


def _field(value: Any, path: str) -> Any:
    if isinstance(value, Mapping):
        return _message(value, path)
    if isinstance(value, (list, tuple)):
        return [_field(item, f"{path}[{index}]") for index, item in enumerate(value)]
    return _plain(value, path)


def _plain(value: Any, path: str) -> Any:
    """Copy JSON data as it is; refuse what JSON cannot say."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise InvalidInputError(path, wrong[0], "keys must be strings")
        return {key: _plain(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, (int, float)):
        raise InvalidInputError(path, value, "give a finite number of at most 64 bits")
    raise InvalidInputError(path, value, f"{type(value).__name__} is not JSON")
