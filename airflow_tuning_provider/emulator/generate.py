"""generateContent: a tuned endpoint answers from its training data, any other model in general terms.

This is no language model. It is just enough for an evaluation step to see a real difference between a
tuned and an untuned model.
"""

from __future__ import annotations

import math
import re
from collections import Counter, OrderedDict
from typing import Any

from airflow_tuning_provider.emulator.clock import now, rfc3339
from airflow_tuning_provider.emulator.errors import invalid_argument
from airflow_tuning_provider.emulator.names import new_id
from airflow_tuning_provider.emulator.tokens import CHARACTERS_PER_TOKEN, content_tokens, text_of, text_tokens

_WORD = re.compile(r"\w+")
# Below this similarity nothing in the training data has to do with the question.
_MIN_SIMILARITY = 0.15
_INDEXES_IN_MEMORY = 8
_LEARN_MORE = "Learn more: https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference"

Pairs = list[tuple[str, str]]


class Index:
    """Nearest neighbour over the prompts of a training set: cosine of TF-IDF vectors."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self.answers = list(dict.fromkeys(answer for _, answer in pairs))
        documents = [_words(prompt) for prompt, _ in pairs]
        frequency = Counter(word for document in documents for word in document)
        self._idf = {word: 1 + math.log((1 + len(pairs)) / (1 + n)) for word, n in frequency.items()}
        self._rare = 1 + math.log(1 + len(pairs))
        self._postings: dict[str, list[tuple[int, float]]] = {}
        for i, document in enumerate(documents):
            for word, weight in self._vector(document).items():
                self._postings.setdefault(word, []).append((i, weight))

    def _vector(self, words: Counter[str]) -> dict[str, float]:
        raw = {word: count * self._idf.get(word, self._rare) for word, count in words.items()}
        norm = math.sqrt(sum(weight**2 for weight in raw.values())) or 1.0
        return {word: weight / norm for word, weight in raw.items()}

    def answer(self, prompt: str) -> str | None:
        """Return the answer of the example whose prompt is nearest, or None where none is near."""
        scores: Counter[int] = Counter()
        for word, weight in self._vector(_words(prompt)).items():
            for i, other in self._postings.get(word, ()):
                scores[i] += weight * other  # type: ignore[assignment]
        if not scores:
            return None
        best = max(scores, key=lambda i: (round(scores[i], 9), -i))
        return self.pairs[best][1] if scores[best] >= _MIN_SIMILARITY else None


def _words(text: str) -> Counter[str]:
    return Counter(_WORD.findall(text.lower()))


class Indexes:
    """The last used indexes, by data set."""

    def __init__(self) -> None:
        self._indexes: OrderedDict[str, Index] = OrderedDict()

    def get(self, digest: str, pairs: Pairs) -> Index:
        """Return the index of a data set; build it on first use."""
        if digest not in self._indexes:
            self._indexes[digest] = Index(pairs)
            if len(self._indexes) > _INDEXES_IN_MEMORY:
                self._indexes.popitem(last=False)
        self._indexes.move_to_end(digest)
        return self._indexes[digest]


def check_request(body: dict[str, Any]) -> None:
    """Refuse a request without contents, or with a role that there is not."""
    if not body.get("contents"):
        raise invalid_argument(
            f"Unable to submit request because at least one contents field is required. {_LEARN_MORE}"
        )
    for content in body["contents"]:
        if content.get("role", "user") not in ("user", "model", "function", "tool"):
            raise invalid_argument("Please use a valid role: user, model.")
        if not content.get("parts"):
            raise invalid_argument(
                "Unable to submit request because it must include at least one parts field, which describes "
                f"the prompt input. {_LEARN_MORE}"
            )


def malformed_model(name: str) -> str:
    """Return Google's words for a model's id where an endpoint or a publisher model belongs."""
    return (
        f"The Model name {name} is malformed and it should be in form of "
        "projects/{project}/locations/{location}/publishers/google/models/{model}"
    )


def question(body: dict[str, Any]) -> str:
    """Return the text of the user's last turn."""
    turns = [content for content in body["contents"] if content.get("role", "user") != "model"]
    return text_of(turns[-1]) if turns else ""


def generic_answer(prompt: str) -> str:
    """Return what a model says that was not tuned for the question."""
    count = len(_WORD.findall(prompt))
    return (
        f"Thank you for your message of {count} words. As a general model, here is a general reply: "
        "it depends on the context, and more detail would help."
    )


def response(body: dict[str, Any], answer: str, model_version: str) -> dict[str, Any]:
    """Build a GenerateContentResponse."""
    limit = body.get("generationConfig", {}).get("maxOutputTokens")
    finish = "STOP"
    if limit and text_tokens(answer) > limit:
        answer, finish = answer[: limit * CHARACTERS_PER_TOKEN], "MAX_TOKENS"
    prompt_tokens = sum(map(content_tokens, body["contents"])) + content_tokens(body.get("systemInstruction"))
    answer_tokens = text_tokens(answer)
    return {
        "candidates": [
            {"content": {"role": "model", "parts": [{"text": answer}]}, "finishReason": finish},
        ],
        "usageMetadata": {
            "promptTokenCount": prompt_tokens,
            "candidatesTokenCount": answer_tokens,
            "totalTokenCount": prompt_tokens + answer_tokens,
            "trafficType": "ON_DEMAND",
        },
        "modelVersion": model_version,
        "createTime": rfc3339(now()),
        "responseId": new_id(),
    }
