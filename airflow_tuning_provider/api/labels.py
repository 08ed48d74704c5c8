"""Labels of jobs: what the API accepts, and how ours are added."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from airflow_tuning_provider.api.inputs import InvalidInputError

_MAX_LABELS = 64
_LIMIT = 64
# Letters that are lowercase or have no case, and numbers; not str.islower(), which misses those without case.
_CATEGORIES = frozenset({"Ll", "Lo", "Lm", "Nd", "Nl", "No"})


def check_labels(labels: object, field: str) -> dict[str, str]:
    """Return a copy of ``labels`` if the API accepts them.

    Keys and values: at most 64 characters, lowercase letters of any script, digits, ``_`` and ``-``
    (TuningJob.labels in the discovery document).

    :param field: how errors call the value.
    :raises InvalidInputError: naming the label at fault.
    """
    if not isinstance(labels, Mapping):
        raise InvalidInputError(field, labels, "give a JSON object (dict)")
    if len(labels) > _MAX_LABELS:
        raise InvalidInputError(field, len(labels), f"give at most {_MAX_LABELS} labels")
    rule = f"use at most {_LIMIT} lowercase letters, digits, '_' and '-'"
    for key, value in labels.items():
        if not key or not _is_label_text(key):
            raise InvalidInputError(f"{field} key", key, f"{rule}, at least one")
        if not isinstance(value, str):
            raise InvalidInputError(f"{field}[{key!r}]", value, "give a string")
        if not _is_label_text(value):
            raise InvalidInputError(f"{field}[{key!r}]", value, rule)
    return dict(labels)


def with_labels(job: dict[str, Any], extra: Mapping[str, str]) -> dict[str, Any]:
    """Return the body with ``extra`` labels added; the job's own labels win no conflict with them.

    :param job: a normalised request body.
    :param extra: labels that this provider adds.
    :raises InvalidInputError: if there would be more labels than the API takes.
    """
    own = job.get("labels", {})
    labels = {**own, **extra}
    if len(labels) > _MAX_LABELS:
        room = f"give at most {_MAX_LABELS - len(extra)} labels: this provider adds {len(extra)}"
        raise InvalidInputError("labels", len(own), room)
    return {**job, "labels": check_labels(labels, "labels")}


def _is_label_text(text: object) -> bool:
    return (
        isinstance(text, str)
        and len(text) <= _LIMIT
        and all(char in "_-" or unicodedata.category(char) in _CATEGORIES for char in text)
    )
