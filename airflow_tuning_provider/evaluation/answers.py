"""What came of a question: the text of an answer, empty where a filter blocked it, and what it took.

Source: GenerateContentResponse in the discovery document.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from airflow_tuning_provider.api.inputs import as_int, as_list, as_mapping, as_text

_FINISHED = frozenset({"STOP", "MAX_TOKENS", "FINISH_REASON_UNSPECIFIED"})


@dataclass(frozen=True)
class Answer:
    """A model's answer to one question.

    :param text: what was said; empty if nothing was, or a filter blocked it.
    :param finish: the API's finish reason, such as ``STOP``.
    :param blocked: why a filter blocked the question or the answer, ``None`` if none did.
    :param input_tokens: billable tokens of the question.
    :param output_tokens: billable tokens of the answer, thoughts included.
    :param seconds: from the request to the whole answer.
    """

    text: str
    finish: str | None = None
    blocked: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0

    @property
    def empty(self) -> bool:
        """Whether nothing was said; that is a wrong answer."""
        return not self.text.strip()

    def as_json(self) -> dict[str, Any]:
        """Return the answer as JSON data, from which :meth:`from_json` makes it again."""
        return {key: value for key, value in asdict(self).items() if value not in (None, "", 0)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Answer:
        """Return the answer that :meth:`as_json` gave."""
        known = {key: data[key] for key in cls.__dataclass_fields__ if key in data}
        return cls(**{"text": "", **known})


def answer_text(response: Mapping[str, Any]) -> str:
    """Return the text of a ``generate_content`` answer: empty where a filter blocked it or nothing was said.

    Thoughts are left out. Calls of functions are given as JSON, one on a line.

    :param response: the API's GenerateContentResponse.
    """
    return content_text(_candidate(response).get("content"))


def read_answer(response: Mapping[str, Any], seconds: float = 0.0) -> Answer | None:
    """Return a response as an answer; ``None`` if it is none of the API's, so that it says nothing of the model.

    :param response: the API's GenerateContentResponse.
    :param seconds: how long it took.
    """
    if not any(name in response for name in ("candidates", "promptFeedback", "usageMetadata")):
        return None
    candidate = _candidate(response)
    finish = as_text(candidate.get("finishReason"))
    blocked = as_text(as_mapping(response.get("promptFeedback")).get("blockReason"))
    text = content_text(candidate.get("content"))
    if blocked is None and finish is not None and finish not in _FINISHED:
        blocked = finish
    usage = as_mapping(response.get("usageMetadata"))

    def count(*names: str) -> int:
        return sum(as_int(usage.get(name)) or 0 for name in names)

    return Answer(
        # What a filter has cut off is no answer, whatever came before.
        "" if blocked else text,
        finish,
        blocked,
        count("promptTokenCount", "toolUsePromptTokenCount"),
        count("candidatesTokenCount", "thoughtsTokenCount"),
        round(seconds, 3),
    )


def content_text(content: object) -> str:
    """Return the text of a Content: its text parts joined, thoughts left out, function calls as JSON."""
    texts = []
    calls = []
    for part in as_list(as_mapping(content).get("parts")):
        if not isinstance(part, Mapping) or part.get("thought") is True:
            continue
        if isinstance(part.get("text"), str):
            texts.append(part["text"])
        call = part.get("functionCall", part.get("function_call"))
        if isinstance(call, Mapping):
            shown = {"name": call.get("name"), "args": call.get("args") or {}}
            calls.append(json.dumps({"functionCall": shown}, sort_keys=True, ensure_ascii=False))
    text = "".join(texts)
    return "\n".join([text, *calls] if text else calls)


def _candidate(response: Mapping[str, Any]) -> Mapping[str, Any]:
    return as_mapping(next(iter(as_list(response.get("candidates"))), None))
