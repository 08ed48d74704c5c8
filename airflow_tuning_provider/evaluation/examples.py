"""Held-out examples: each line of a data set becomes a question, exactly as it was trained, and a reference answer.

The lines are those of a tuning data set: ``contents`` whose last turn is the model's, or preference pairs
(``contents`` and ``completions``), see
https://cloud.google.com/vertex-ai/generative-ai/docs/models/gemini-supervised-tuning-prepare.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from airflow_tuning_provider.api.inputs import InvalidInputError, shorten
from airflow_tuning_provider.api.protojson import camel
from airflow_tuning_provider.evaluation.answers import content_text

MAX_LINE_BYTES = 64 * 1024 * 1024
"""A longer line is refused: no request may be that large."""

_SCHEMA_FIELDS = ("responseSchema", "responseJsonSchema", "responseMimeType", "responseFormat")
# What a line may hold besides contents that belongs into the request. Labels are ours, a model is the caller's.
_REPLAYED = (
    "systemInstruction",
    "tools",
    "toolConfig",
    "safetySettings",
    "cachedContent",
    "modelArmorConfig",
)
_CHARACTERS_PER_TOKEN = 4
_TOKENS_PER_FILE = 258


@dataclass(frozen=True)
class Example:
    """One held-out line.

    :param number: line number in the file, from 1.
    :param request: fields of a GenerateContentRequest.
    :param reference: the answer that was expected.
    """

    number: int
    request: dict[str, Any]
    reference: str

    @cached_property
    def key(self) -> str:
        """What identifies the question: equal requests have equal keys."""
        text = json.dumps(self.request, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def question(self) -> str:
        """The text of the last turn that is asked, for people."""
        return content_text(self.request["contents"][-1])

    @property
    def estimated_tokens(self) -> tuple[int, int]:
        """A rough estimate of the tokens of the question and of its reference answer."""
        return _tokens(self.request), -(-len(self.reference) // _CHARACTERS_PER_TOKEN)


@dataclass(frozen=True)
class Replay:
    """How lines become requests.

    :param generation_config: fields that replace those of a line's ``generationConfig``.
    :param keep_response_schema: keep a line's response schema and MIME type; Google advises against controlled
        generation with tuned models.
    """

    generation_config: Mapping[str, Any] | None = None
    keep_response_schema: bool = False

    def examples(self, lines: Iterable[bytes]) -> Iterator[Example]:
        """Yield the examples of a JSONL file; empty lines are passed over.

        :raises InvalidInputError: naming the line and the field that cannot be used.
        """
        for number, line in enumerate(lines, 1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield self.example(number, line)

    def example(self, number: int, line: bytes) -> Example:
        """Return one line as an example.

        :param number: its number, from 1, for errors.
        :raises InvalidInputError: naming the line and the field.
        """
        given = _object(number, line)
        contents = given.get("contents")
        if not isinstance(contents, list) or not contents or not all(isinstance(c, dict) for c in contents):
            raise _invalid(number, "contents", contents, "give a list of turns")
        asked, answer = _split(number, contents, given.get("completions"))
        if not asked:
            raise _invalid(number, "contents", contents, "a question has to come before the answer")
        for index, turn in enumerate(asked):
            if not isinstance(turn.get("parts"), list) or not turn["parts"]:
                raise _invalid(number, f"contents[{index}].parts", turn.get("parts"), "give a list of parts")
        reference = content_text(answer)
        if not reference.strip():
            raise _invalid(number, "contents", answer, "the model's turn has no text to compare with")
        request: dict[str, Any] = {"contents": asked}
        request |= {name: given[name] for name in _REPLAYED if given.get(name)}
        config = self._config(number, given.get("generationConfig"))
        if config:
            request["generationConfig"] = config
        return Example(number, request, reference)

    def _config(self, number: int, given: object) -> dict[str, Any]:
        if given is None:
            given = {}
        if not isinstance(given, dict):
            raise _invalid(number, "generationConfig", given, "give an object")
        config = {camel(key): value for key, value in given.items() if value is not None}
        if not self.keep_response_schema:
            config = {key: value for key, value in config.items() if key not in _SCHEMA_FIELDS}
        return config | {camel(key): value for key, value in (self.generation_config or {}).items()}


def with_lowest_thinking(request: Mapping[str, Any], model: str | None) -> dict[str, Any]:
    """Return the request with the least thinking that the model's family takes, unless it says something itself.

    Models of Gemini 3 take ``thinkingLevel``, those before a ``thinkingBudget`` of 0; Google advises the lowest level
    for tuned models. Pro models of Gemini 3 have no level below ``LOW``.

    :param model: the base model, as far as known.
    """
    config = dict(request.get("generationConfig") or {})
    if "thinkingConfig" in config:
        return dict(request)
    name = (model or "").rpartition("/")[2]
    if name.startswith(("gemini-1", "gemini-2.0")):
        return dict(request)
    if name.startswith("gemini-2"):
        config["thinkingConfig"] = {"thinkingBudget": 0}
    else:
        config["thinkingConfig"] = {"thinkingLevel": "LOW" if "-pro" in name else "MINIMAL"}
    return {**request, "generationConfig": config}


def _object(number: int, line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise _invalid(number, "line", f"{len(line)} bytes", f"give at most {MAX_LINE_BYTES} bytes a line")
    try:
        # As UTF-8, and not as whatever json would guess.
        given = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        start = shorten(line[:80].decode("utf-8", "replace"), 60)
        raise _invalid(number, "line", start, f"it is no JSON in UTF-8 ({error})") from None
    if not isinstance(given, dict):
        raise _invalid(number, "line", given, "give a JSON object")
    return {camel(key): value for key, value in given.items()}


def _split(
    number: int, contents: list[dict[str, Any]], completions: object
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return what is asked, and the turn that answers it."""
    if completions is not None:
        return contents, _best(number, completions)
    if contents[-1].get("role") != "model":
        raise _invalid(
            number,
            f"contents[{len(contents) - 1}].role",
            contents[-1].get("role"),
            "the last turn has to be the model's",
        )
    return contents[:-1], contents[-1]


def _best(number: int, completions: object) -> dict[str, Any]:
    scored = [
        (item["score"], item["completion"])
        for item in (completions if isinstance(completions, list) else [])
        if isinstance(item, dict)
        and isinstance(item.get("score"), (int, float))
        and isinstance(item.get("completion"), dict)
    ]
    if not scored:
        raise _invalid(number, "completions", completions, "give a list of {score, completion}")
    best: dict[str, Any] = max(scored, key=lambda pair: pair[0])[1]
    return best


def _tokens(value: object) -> int:
    if isinstance(value, str):
        return -(-len(value) // _CHARACTERS_PER_TOKEN)
    if isinstance(value, Mapping):
        if "fileData" in value or "inlineData" in value:
            return _TOKENS_PER_FILE
        return sum(map(_tokens, value.values()))
    return sum(map(_tokens, value)) if isinstance(value, list) else 0


def _invalid(number: int, field: str, value: object, expected: str) -> InvalidInputError:
    return InvalidInputError(f"line {number}: {field}", value, expected)
