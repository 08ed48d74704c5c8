"""Checks one line at a time: what an example of a tuning data set has to be, told field by field.

The format: https://cloud.google.com/vertex-ai/generative-ai/docs/models/gemini-supervised-tuning-prepare (GeminiExample
in the API's discovery document). This is the slow and complete way;
:mod:`airflow_tuning_provider.datasets.lanes` lets through quickly what is plainly right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_tuning_provider.datasets.problems import ERROR, WARNING, Problem
from airflow_tuning_provider.datasets.reading import bad_utf8
from airflow_tuning_provider.datasets.rules import Rules

MAX_DEPTH = 64

SUPERVISED = "supervised"
PREFERENCE = "preference"

_EXAMPLE = {
    "contents",
    "systemInstruction",
    "tools",
    "toolConfig",
    "generationConfig",
    "safetySettings",
    "labels",
    "model",
    "cachedContent",
    "modelArmorConfig",
    "completions",
    "references",
}
_DATA = {
    "text",
    "fileData",
    "inlineData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
}
_BESIDE = {"thought", "thoughtSignature", "videoMetadata", "mediaResolution", "partMetadata"}
_USER = ("user", "function", "tool")
_CONTENT = {"role", "parts"}
_ASSISTANTS = {"assistant": "model", "ai": "model", "bot": "model", "human": "user"}


class _TwiceError(ValueError):
    """A key stands twice in one object."""


def parse(line: bytes) -> tuple[Any, Problem | None]:
    """Return the JSON of a line, or the problem that keeps it from being read.

    :param line: the line, without its end.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return None, bad_utf8(error)
    if "\0" in text:
        return None, Problem("nul", f"there is a NUL character at {text.index(chr(0)) + 1}")
    if (found := depth(line)) > MAX_DEPTH:
        return None, Problem("depth", f"the JSON is {found} levels deep; at most {MAX_DEPTH} are read")
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant), None
    except _TwiceError as error:
        return None, Problem(
            "duplicate_key", f"the key {error} stands twice in one object", path=str(error).strip("'\"")
        )
    except json.JSONDecodeError as error:
        return None, Problem("json", f"this is no JSON: {error.msg} at character {error.pos + 1}")
    except (ValueError, RecursionError) as error:
        return None, Problem("json", f"this is no JSON: {error}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _TwiceError(repr(next(key for key in keys if keys.count(key) > 1)))
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def depth(line: bytes) -> int:
    """Return how deep the objects and lists of a line are nested, at most.

    :param line: JSON.
    """
    if line.count(b"{") + line.count(b"[") <= MAX_DEPTH:
        return 0
    level = deepest = 0
    for token in _BRACKETS.finditer(line):
        first = token.group()[:1]
        if first in b"[{":
            level += 1
            deepest = max(deepest, level)
        elif first in b"]}":
            level -= 1
    return deepest


def check(example: Any, rules: Rules, *, kind: str | None = None) -> Iterator[Problem]:
    """Yield everything that is wrong with an example.

    :param example: the JSON of a line.
    :param rules: the limits of its model family.
    :param kind: ``supervised`` or ``preference``; ``None``: whichever it looks like.
    """
    if not isinstance(example, Mapping):
        yield Problem("type", f"an example is a JSON object, not {_kind(example)}")
        return
    example = camel(example)
    if "contents" not in example:
        yield Problem("missing", _no_contents(example), path="contents")
        return
    for name in sorted(map(str, set(example) - _EXAMPLE)):
        yield Problem("unknown_field", "the API documents no such field", path=name, severity=WARNING)
    preference = kind == PREFERENCE or (kind is None and "completions" in example)
    media = rules.preference_media if preference else rules.media
    if (system := example.get("systemInstruction")) is not None:
        yield from _content(system, "systemInstruction", media)
    contents = example["contents"]
    if not isinstance(contents, list) or not contents:
        yield Problem("type", "give a list of contents, the first of the user", path="contents")
        return
    for i, content in enumerate(contents):
        yield from _content(content, f"contents[{i}]", media)
    if all(isinstance(content, Mapping) for content in contents):
        yield from _turns(contents, preference)
    if preference:
        yield from _completions(example.get("completions"), media)
    for name, wanted in (("tools", list), ("toolConfig", Mapping), ("generationConfig", Mapping)):
        value = example.get(name)
        if value is not None and not isinstance(value, wanted):
            yield Problem("type", f"give {_WORDS[wanted]}, not {_kind(value)}", path=name)


_WORDS: dict[Any, str] = {list: "a list", Mapping: "an object"}


def _no_contents(example: Mapping[str, Any]) -> str:
    if "messages" in example:
        return (
            "there are no contents, but messages: this is OpenAI's format, or Gemini 1.0's that is retired. "
            "PrepareTuningDatasetOperator converts it"
        )
    if "inputText" in example or "input_text" in example:
        return "there are no contents, but input_text: this is the retired format of text-bison"
    return "there are no contents"


def _turns(contents: list[Mapping[str, Any]], preference: bool) -> Iterator[Problem]:
    roles = [_side(content) for content in contents]
    systems = 0
    while systems < len(roles) and roles[systems] == "system":
        systems += 1
    if systems:
        yield Problem(
            "role",
            "give the system's words as systemInstruction",
            path="contents[0].role",
            severity=WARNING,
        )
    for i, role in enumerate(roles[systems:]):
        expected = ("user", "model")[i % 2]
        if role in ("user", "model", "system") and role != expected:
            yield Problem(
                "turns",
                f"the turns alternate and the user is first: {expected} is expected here, not {role}",
                path=f"contents[{i + systems}].role",
            )
            return
    last = f"contents[{len(contents) - 1}].role"
    if preference and roles[-1] != "user":
        yield Problem(
            "last_turn", "the last turn of the contents is the user's; completions follow", path=last
        )
    elif not preference and roles[-1] != "model":
        yield Problem(
            "last_turn", "the last turn is the model's: it is the answer that the model learns", path=last
        )


def _side(content: Mapping[str, Any]) -> Any:
    role = content.get("role", "user")
    return "user" if role in _USER else role


def _completions(completions: Any, media: tuple[str, ...]) -> Iterator[Problem]:
    if not isinstance(completions, list) or len(completions) < 2:
        yield Problem("completions", "give at least two completions with their scores", path="completions")
        return
    scores = set()
    for i, item in enumerate(completions):
        path = f"completions[{i}]"
        if not isinstance(item, Mapping):
            yield Problem("type", f"give an object, not {_kind(item)}", path=path)
            continue
        score = item.get("score")
        if isinstance(score, bool) or not isinstance(score, (int, float)):
            yield Problem("score", f"give a number, not {_kind(score)}", path=f"{path}.score")
        scores.add(score if isinstance(score, (int, float)) else None)
        yield from _content(item.get("completion"), f"{path}.completion", media)
        if isinstance(item.get("completion"), Mapping) and item["completion"].get("role", "model") != "model":
            yield Problem("role", "a completion has role model", path=f"{path}.completion.role")
    if len(scores) == 1 and None not in scores:
        yield Problem(
            "score", "all completions have the same score: there is nothing to prefer", path="completions"
        )


def _content(content: Any, path: str, media: tuple[str, ...]) -> Iterator[Problem]:
    if not isinstance(content, Mapping):
        yield Problem("type", f"give an object with role and parts, not {_kind(content)}", path=path)
        return
    role = content.get("role", "user")
    if role not in ("user", "model", "system", *_USER):
        wanted = _ASSISTANTS.get(role) if isinstance(role, str) else None
        hint = f"; Gemini calls it {wanted}" if wanted else ""
        yield Problem("role", f"the role is user or model, not {_show(role)}{hint}", path=f"{path}.role")
    for name in sorted(map(str, set(content) - _CONTENT)):
        yield Problem(
            "unknown_field", "the API documents no such field", path=f"{path}.{name}", severity=WARNING
        )
    parts = content.get("parts")
    if not isinstance(parts, list) or not parts:
        yield Problem("parts", "give a list of at least one part", path=f"{path}.parts")
        return
    for i, part in enumerate(parts):
        yield from _part(part, f"{path}.parts[{i}]", media)


def _part(part: Any, path: str, media: tuple[str, ...]) -> Iterator[Problem]:
    if not isinstance(part, Mapping):
        yield Problem("type", f'give an object such as {{"text": "…"}}, not {_kind(part)}', path=path)
        return
    part = camel(part)
    data = [name for name in part if name in _DATA]
    if len(data) != 1:
        text = f"a part has one of text, fileData, inlineData, functionCall …; here are {len(data)}"
        yield Problem("part", text, path=path)
    for name in sorted(map(str, set(part) - _DATA - _BESIDE)):
        yield Problem(
            "unknown_field", "the API documents no such field", path=f"{path}.{name}", severity=WARNING
        )
    for name in data:
        yield from _datum(name, part[name], f"{path}.{name}", media)


def _datum(name: str, value: Any, path: str, media: tuple[str, ...]) -> Iterator[Problem]:
    if name == "text":
        if not isinstance(value, str):
            yield Problem("type", f"give text, not {_kind(value)}", path=path)
        elif not value:
            yield Problem("empty_text", "the text is empty", path=path, severity=WARNING)
        elif _is_broken(value):
            yield Problem("surrogate", "the text holds half of a surrogate pair", path=path)
        return
    if not isinstance(value, Mapping):
        yield Problem("type", f"give an object, not {_kind(value)}", path=path)
        return
    if name in ("fileData", "inlineData"):
        yield from _media(name, camel(value), path, media)
    elif name in ("functionCall", "functionResponse") and not isinstance(value.get("name"), str):
        yield Problem("missing", "give the function's name", path=f"{path}.name")


def _media(name: str, value: Mapping[str, Any], path: str, media: tuple[str, ...]) -> Iterator[Problem]:
    mime = value.get("mimeType")
    if not isinstance(mime, str) or "/" not in mime:
        yield Problem("mime_type", "give a mime type such as image/png", path=f"{path}.mimeType")
    elif mime not in media and mime.partition("/")[0] not in media:
        allowed = ", ".join(media) or "text only"
        yield Problem(
            "media",
            f"{mime} is not known to be taken here ({allowed})",
            path=f"{path}.mimeType",
            severity=WARNING,
        )
    if name == "inlineData":
        if not isinstance(value.get("data"), str):
            yield Problem("missing", "give the data in base64", path=f"{path}.data")
        return
    uri = value.get("fileUri")
    if not isinstance(uri, str) or not uri.startswith(("gs://", "http://", "https://")):
        yield Problem("uri", f"give gs://… or https://…, not {_show(uri)}", path=f"{path}.fileUri")


def _is_broken(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    names = {str: "text", int: "a number", float: "a number", list: "a list"}
    return names.get(type(value), "an object" if isinstance(value, Mapping) else type(value).__name__)


def _show(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:79]}…"


_SNAKE = re.compile(r"_([a-z])")


def camel(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with its own keys in camelCase, as proto JSON accepts both spellings.

    :param value: the object.
    """
    return {
        _SNAKE.sub(lambda m: m.group(1).upper(), key) if isinstance(key, str) and "_" in key else key: item
        for key, item in value.items()
    }


def is_error(problem: Problem) -> bool:
    """Whether a problem breaks the format.

    :param problem: the problem.
    """
    return problem.severity == ERROR
