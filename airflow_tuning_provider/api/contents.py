"""What ``generateContent`` is asked: a prompt, or the API's own Content objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow_tuning_provider.api.inputs import InvalidInputError


def as_contents(
    contents: str | Mapping[str, Any] | Iterable[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Return ``generateContent`` contents; a plain string becomes one user turn.

    :param contents: a prompt, one Content, or several.
    :raises InvalidInputError: if it is anything else.
    """
    if isinstance(contents, str):
        return [{"role": "user", "parts": [{"text": contents}]}]
    turns = [contents] if isinstance(contents, Mapping) else contents
    turns = list(turns) if isinstance(turns, Iterable) else []
    if not turns or not all(isinstance(turn, Mapping) for turn in turns):
        raise InvalidInputError("contents", contents, "give a string, or a list of the API's Content objects")
    return [dict(turn) for turn in turns]
