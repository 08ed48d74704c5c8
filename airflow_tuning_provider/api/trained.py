"""What of a request body decides what is trained, and how it compares with a job that exists."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from airflow_tuning_provider.api.protojson import camel, is_free_form

_COSMETIC = frozenset({"labels", "description", "tunedModelDisplayName"})
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,30})(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,3})?")
_RESOURCE = re.compile(r"projects/([^/]+)(/.+)")


def trained(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a body decides what is trained, the same for every spelling of it.

    Labels, description and the tuned model's display name do not; a number is the same as text.

    :param body: a TuningJob, or a RebaseTunedModelRequest that has one in it.
    """
    return {
        name: trained(value)
        if name == "tuningJob" and isinstance(value, Mapping)
        else _canonical(value, name)
        for name, value in _fields(body).items()
        if name not in _COSMETIC
    }


def differences(wanted: Mapping[str, Any], job: Mapping[str, Any]) -> list[str]:
    """Return the paths of the fields in which a job trains something else than a body asks for.

    What the body does not name is no difference: the server fills in its own recommended values. A field that
    the server leaves out has the default of its type.

    :param wanted: the request body.
    :param job: the whole job as the API returned it.
    """
    return _differences(trained(wanted), job, "", free=False)


def _differences(wanted: Any, found: Any, path: str, *, free: bool) -> list[str]:
    if isinstance(wanted, dict) and (found is None or isinstance(found, Mapping)):
        fields = _fields(found or {}, free=free)
        return [
            difference
            for name, value in wanted.items()
            for difference in _differences(
                value,
                fields.get(name),
                f"{path}.{name}" if path else name,
                free=free or is_free_form(name, path),
            )
        ]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = enumerate(zip(wanted, found, strict=True))
        return [item for n, (a, b) in pairs for item in _differences(a, b, f"{path}[{n}]", free=free)]
    return [] if _same(wanted, _number(found)) else [path]


def _same(wanted: Any, found: Any) -> bool:
    if found is None:
        return wanted in (None, 0, "", []) or (isinstance(wanted, str) and wanted.endswith("_UNSPECIFIED"))
    if isinstance(wanted, str) and isinstance(found, str):
        one, other = _RESOURCE.fullmatch(wanted), _RESOURCE.fullmatch(found)
        if one and other and one[1].isdigit() is not other[1].isdigit():
            # The API names a project by its number, whatever it was called in the request.
            return one[2] == other[2]
    return isinstance(wanted, bool) is isinstance(found, bool) and bool(wanted == found)


def _fields(message: Mapping[str, Any], *, free: bool = False) -> dict[str, Any]:
    return {key if free else camel(key): value for key, value in message.items() if value is not None}


def _canonical(value: Any, path: str, *, free: bool = False) -> Any:
    if isinstance(value, Mapping):
        return {
            name: _canonical(item, f"{path}.{name}", free=free or is_free_form(name, path))
            for name, item in _fields(value, free=free).items()
        }
    if isinstance(value, (list, tuple)):
        return [_canonical(item, path, free=free) for item in value]
    return _number(value)


def _number(value: Any) -> Any:
    """Return a number for a number or its text, whole ones as integers; anything else as it is."""
    number = float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
    if isinstance(number, float) and math.isfinite(number):
        if isinstance(value, str) and value.lstrip("-").isdigit():
            return int(value)  # exact, also beyond what a float holds
        return int(number) if number.is_integer() else number
    return value
