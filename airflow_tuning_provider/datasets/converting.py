"""Turns rows of other formats into examples of a tuning data set.

``gemini``: as it is. ``messages``: the format of Gemini 1.0, which Google no longer takes. ``openai``: chat messages as
OpenAI's fine-tuning takes them, with tools and images. ``columns``: a question and an answer, each by a template over
the row's columns. ``preference``: a prompt with a chosen and a rejected answer.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Mapping
from typing import Any

from airflow_tuning_provider.api.inputs import InvalidInputError

Row = Mapping[str, Any]
Example = dict[str, Any]
Convert = Callable[[Row], Example]

FORMATS = ("auto", "gemini", "messages", "openai", "columns", "preference")


class ConversionError(ValueError):
    """A row that cannot be converted.

    :param path: the field at fault.
    :param message: what is wrong with it.
    """

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        self.message = message
        super().__init__(f"{path}: {message}")


def turn(role: str, *parts: Any) -> dict[str, Any]:
    """Return a content; a part that is a string becomes a text.

    :param role: ``user``, ``model`` or ``system``.
    :param parts: its parts.
    """
    return {"role": role, "parts": [{"text": part} if isinstance(part, str) else part for part in parts]}


def guess(row: Row) -> str:
    """Return the format that a row seems to have.

    :param row: the first one.
    """
    if "contents" in row:
        return "gemini"
    messages = row.get("messages")
    if isinstance(messages, list):
        roles = {message.get("role") for message in messages if isinstance(message, Mapping)}
        return "messages" if "model" in roles else "openai"
    if {"prompt", "chosen", "rejected"} <= set(row):
        return "preference"
    return "columns"


class Converter:
    """Converts rows, all of one format.

    :param source_format: one of :data:`FORMATS`; ``auto`` looks at the first row.
    :param question: template of the question over the columns, such as ``{title}: {text}``.
    :param answer: the same for the answer.
    :param system_instruction: what each example tells the model beforehand, where its row does not.
    :raises InvalidInputError: if a template or the format is not valid.
    """

    def __init__(
        self,
        source_format: str = "auto",
        *,
        question: str = "{text}",
        answer: str = "{label}",
        system_instruction: str | None = None,
    ) -> None:
        if source_format not in FORMATS:
            raise InvalidInputError("source_format", source_format, f"give one of {', '.join(FORMATS)}")
        self.source_format = source_format
        self._question = Template(question, "question")
        self._answer = Template(answer, "answer")
        self._system = system_instruction or None

    def __call__(self, row: Row) -> Example:
        """Return the example of a row.

        :param row: a JSON object, or the cells of a CSV row by their column.
        :raises ConversionError: if it cannot be converted.
        """
        if self.source_format == "auto":
            self.source_format = guess(row)
        example: Example = getattr(self, f"_{self.source_format}")(row)
        if self._system and not (example.get("systemInstruction") or example.get("system_instruction")):
            example = {"systemInstruction": turn("system", self._system), **example}
        return example

    def _gemini(self, row: Row) -> Example:
        return dict(row)

    def _columns(self, row: Row) -> Example:
        asked, answered = self._question(row), self._answer(row)
        return {"contents": [turn("user", asked), turn("model", answered)]}

    def _preference(self, row: Row) -> Example:
        if "contents" in row:
            return dict(row)
        contents, system = _prompt(row.get("prompt"))
        completions = [
            {"score": score, "completion": turn("model", _reply(row.get(name), name, len(contents)))}
            for name, score in (("chosen", 1.0), ("rejected", 0.0))
        ]
        return {**system, "contents": contents, "completions": completions}

    def _messages(self, row: Row) -> Example:
        messages = _list(row.get("messages"), "messages")
        system: Example = {}
        contents = []
        for i, message in enumerate(messages):
            path = f"messages[{i}]"
            role, text = message.get("role"), message.get("content")
            if not isinstance(text, str):
                raise ConversionError(f"{path}.content", "give a text")
            if role == "system" and i == 0:
                system = {"systemInstruction": turn("system", text)}
            elif role in ("user", "model"):
                contents.append(turn(str(role), text))
            else:
                raise ConversionError(
                    f"{path}.role", f"the role is user or model, or system first, not {role!r}"
                )
        return {**system, "contents": contents}

    def _openai(self, row: Row) -> Example:
        example = _chat(_list(row.get("messages"), "messages"), "messages")
        tools = row.get("tools") or [
            {"type": "function", "function": function} for function in row.get("functions") or []
        ]
        if tools:
            example["tools"] = [{"functionDeclarations": [_tool(tool, i) for i, tool in enumerate(tools)]}]
        return example


class Template:
    """Text with columns in braces: ``{title}: {text}``; ``{{`` stands for a brace.

    :param text: the template.
    :param field: how errors call it.
    :raises InvalidInputError: if it is none, or names no column.
    """

    def __init__(self, text: str, field: str) -> None:
        try:
            self._pieces = [
                (before, name, spec or conversion)
                for before, name, spec, conversion in string.Formatter().parse(text)
            ]
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidInputError(field, text, f"it is no template: {error}") from None
        names = [name for _, name, _ in self._pieces if name is not None]
        if not names or "" in names or any(more for _, _, more in self._pieces):
            raise InvalidInputError(field, text, "name columns in braces, such as {text}, and nothing else")

    def __call__(self, row: Row) -> str:
        """Return the text for a row.

        :param row: its cells by column.
        :raises ConversionError: if a column is missing or empty.
        """
        return "".join(
            before + (_cell(row, name) if name is not None else "") for before, name, _ in self._pieces
        )


def _cell(row: Row, name: str) -> str:
    value = row.get(name)
    if name not in row:
        raise ConversionError(name, f"there is no such column; there are {', '.join(map(str, row))}")
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if value is None or isinstance(value, str):
        raise ConversionError(name, "the cell is empty")
    return json.dumps(value, ensure_ascii=False)


def _list(value: Any, path: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not value:
        raise ConversionError(path, "give a list of messages")
    for i, item in enumerate(value):
        if not isinstance(item, Mapping):
            raise ConversionError(f"{path}[{i}]", "give an object with role and content")
    return value


def _prompt(prompt: Any) -> tuple[list[Any], Example]:
    if isinstance(prompt, str) and prompt.strip():
        return [turn("user", prompt)], {}
    example = _chat(_list(prompt, "prompt"), "prompt")
    return example.pop("contents"), example


def _reply(value: Any, path: str, turns: int) -> str:
    # Some data sets repeat the prompt in each answer.
    if isinstance(value, list):
        last = _list(value, path)[-1]
        value = last.get("content") if len(value) in (1, turns + 1, turns + 2) else None
    if not isinstance(value, str) or not value.strip():
        raise ConversionError(path, "give the answer as a text, or as a list with one message")
    return value


_ROLES = {"user": "user", "assistant": "model", "tool": "user", "function": "user"}


def _chat(messages: list[Mapping[str, Any]], path: str) -> Example:
    system: list[Any] = []
    contents: list[dict[str, Any]] = []
    names: dict[Any, str] = {}
    for i, message in enumerate(messages):
        here, role = f"{path}[{i}]", message.get("role")
        if role in ("system", "developer"):
            if contents:
                raise ConversionError(f"{here}.role", f"{role} has to stand before the turns")
            system += _parts(message.get("content"), f"{here}.content")
            continue
        if role not in _ROLES:
            raise ConversionError(
                f"{here}.role", f"the role is system, user, assistant or tool, not {role!r}"
            )
        if message.get("weight") == 0:
            raise ConversionError(
                f"{here}.weight", "Gemini learns all answers: a message cannot have weight 0"
            )
        parts = _message(message, here, names)
        # The answers of several tools are one turn, and so are two messages of the user's in a row.
        if contents and contents[-1]["role"] == _ROLES[role]:
            contents[-1]["parts"] += parts
        else:
            contents.append({"role": _ROLES[role], "parts": parts})
    return ({"systemInstruction": turn("system", *system)} if system else {}) | {"contents": contents}


def _message(message: Mapping[str, Any], path: str, names: dict[Any, str]) -> list[Any]:
    if message["role"] in ("tool", "function"):
        name = message.get("name") or names.get(message.get("tool_call_id"))
        if not name:
            raise ConversionError(f"{path}.tool_call_id", "no call before has this id")
        return [{"functionResponse": {"name": name, "response": _response(message.get("content"))}}]
    parts = []
    if message.get("content") not in (None, ""):
        parts += _parts(message["content"], f"{path}.content")
    calls = message.get("tool_calls") or []
    if message.get("function_call"):
        calls = [{"function": message["function_call"]}, *calls]
    for i, call in enumerate(calls):
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise ConversionError(f"{path}.tool_calls[{i}].function", "give name and arguments")
        names[call.get("id")] = function["name"]
        arguments = _json(function.get("arguments") or "{}", f"{path}.tool_calls[{i}].function.arguments")
        parts.append({"functionCall": {"name": function["name"], "args": arguments}})
    if not parts:
        raise ConversionError(f"{path}.content", "the message is empty")
    return parts


def _response(content: Any) -> Any:
    try:
        value = json.loads(content) if isinstance(content, str) else content
    except ValueError:
        value = content
    return value if isinstance(value, Mapping) else {"result": value}


def _json(text: Any, path: str) -> Any:
    try:
        value = json.loads(text) if isinstance(text, str) else text
    except ValueError:
        value = None
    if not isinstance(value, Mapping):
        raise ConversionError(path, "give a JSON object")
    return value


def _parts(content: Any, path: str) -> list[Any]:
    if isinstance(content, str):
        return [{"text": content}]
    if not isinstance(content, list) or not content:
        raise ConversionError(path, "give a text, or a list of parts")
    return [_part(part, f"{path}[{i}]") for i, part in enumerate(content)]


_IMAGES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
}


def _part(part: Any, path: str) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return {"text": part["text"]}
    image = part.get("image_url") if kind == "image_url" else None
    url = image.get("url") if isinstance(image, Mapping) else image
    if not isinstance(url, str):
        raise ConversionError(path, "give a part of type text or image_url")
    if url.startswith("data:"):
        head, _, data = url[5:].partition(",")
        mime, _, encoding = head.partition(";")
        if encoding != "base64":
            raise ConversionError(f"{path}.image_url.url", "give the data in base64")
        return {"inlineData": {"mimeType": mime, "data": data}}
    ending = url.partition("?")[0].rpartition(".")[2].lower()
    return {"fileData": {"mimeType": _IMAGES.get(ending, "image/jpeg"), "fileUri": url}}


def _tool(tool: Any, i: int) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise ConversionError(f"tools[{i}].function", "give name, description and parameters")
    return {key: function[key] for key in ("name", "description", "parameters") if key in function}
