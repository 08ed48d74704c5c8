"""A token estimate: four characters a token, and a flat rate for anything that is not text."""

from __future__ import annotations

import json
from typing import Any

CHARACTERS_PER_TOKEN = 4
TOKENS_PER_MEDIA_PART = 258


def text_tokens(text: str) -> int:
    """Estimate the tokens of a text."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def parts_of(content: Any) -> list[dict[str, Any]]:
    """Return a content's parts, tolerating what is not one."""
    parts = content.get("parts") if isinstance(content, dict) else None
    if isinstance(parts, dict):
        parts = [parts]
    return [part for part in parts or [] if isinstance(part, dict)]


def text_of(content: Any) -> str:
    """Return the text of a content."""
    return "\n".join(part["text"] for part in parts_of(content) if isinstance(part.get("text"), str))


def content_tokens(content: Any) -> int:
    """Estimate the tokens of a content."""
    return sum(_part_tokens(part) for part in parts_of(content))


def content_characters(content: Any) -> int:
    """Count the characters of a content's text, without white space, as character billing had it."""
    return sum(len("".join(text.split())) for text in [text_of(content)])


def _part_tokens(part: dict[str, Any]) -> int:
    if isinstance(part.get("text"), str):
        return text_tokens(part["text"])
    if any(key in part for key in ("fileData", "file_data", "inlineData", "inline_data")):
        return TOKENS_PER_MEDIA_PART
    return text_tokens(json.dumps(part, ensure_ascii=False))
