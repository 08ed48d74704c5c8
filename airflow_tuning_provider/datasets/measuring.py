"""Counts what an example holds: its question, its answer, its tokens."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

from airflow_tuning_provider.datasets.rules import Rules

MAX_CLASSES = 100
MAX_LABEL_CHARACTERS = 100


class Tokens(TypedDict):
    """Billable tokens of one pass over a data set: an estimate and the interval around it."""

    estimate: int
    low: int
    high: int


def question(example: Mapping[str, Any]) -> str:
    """Return what an example asks: all turns but the last answer, without the system instruction.

    :param example: a valid example in camelCase.
    """
    contents = example["contents"]
    asked = contents if "completions" in example else contents[:-1]
    if len(asked) == 1 and len(parts := asked[0]["parts"]) == 1 and len(parts[0]) == 1 and "text" in parts[0]:
        return str(parts[0]["text"])
    turns = [[content.get("role", "user"), content["parts"]] for content in asked]
    return "\0" + json.dumps(turns, sort_keys=True, ensure_ascii=False)


def answer(example: Mapping[str, Any]) -> str | None:
    """Return the text that the model has to learn, ``None`` where it is not one text.

    :param example: a valid example in camelCase.
    """
    parts = example["contents"][-1]["parts"]
    text = parts[0].get("text") if len(parts) == 1 and "completions" not in example else None
    return text if isinstance(text, str) else None


def sizes(example: Mapping[str, Any]) -> tuple[int, int]:
    """Return the bytes of text, and the media parts, that an example is billed for.

    For preferences the prompt counts twice: it is read with each of two completions.

    :param example: a valid example in camelCase.
    """
    prompt = [*example["contents"], *([system] if (system := example.get("systemInstruction")) else [])]
    tools = example.get("tools")
    text, media = _add(prompt)
    if tools:
        text += len(json.dumps(tools))
    if "completions" in example:
        more, more_media = _add([item["completion"] for item in example["completions"]])
        return 2 * text + more, 2 * media + more_media
    return text, media


def _add(contents: list[Mapping[str, Any]]) -> tuple[int, int]:
    text = media = 0
    for content in contents:
        for part in content["parts"]:
            if isinstance(given := part.get("text"), str):
                text += len(given) if given.isascii() else len(given.encode("utf-8", "replace"))
            elif any(name in part for name in ("fileData", "inlineData", "file_data", "inline_data")):
                media += 1
            else:
                text += len(json.dumps(part))
    return text, media


class Meter:
    """Adds up the sizes of examples, or of a sample of them.

    :param rules: the limits of the model family.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self.examples = 0
        self.media = 0
        self._measured = 0
        self._sums = [0.0, 0.0, 0.0]
        self._squares = 0.0

    def add(self, size: tuple[int, int]) -> float:
        """Take one example; return its usual number of tokens, before the service truncates it.

        :param size: see :func:`sizes`.
        """
        text, media = size
        self.media += bool(media)
        self._measured += 1
        limit = self._rules.max_tokens_per_example
        bounds = zip(self._rules.bytes_per_token[::-1], self._rules.tokens_per_media_part, strict=True)
        low, usual, high = (text / per_token + media * each for per_token, each in bounds)
        for i, value in enumerate((low, usual, high)):
            self._sums[i] += min(value, limit)
        self._squares += min(usual, limit) ** 2
        return usual

    def tokens(self, examples: int | None = None) -> Tokens:
        """Return the tokens of one pass. The interval covers how texts differ in tokens, and the sampling.

        :param examples: how many examples there are, if only some of them were measured.
        """
        if not self._measured:
            return {"estimate": 0, "low": 0, "high": 0}
        count = self._measured if examples is None else examples
        low, usual, high = (value / self._measured for value in self._sums)
        spread = 0.0
        if count > self._measured > 1:
            variance = max(self._squares / self._measured - usual**2, 0.0)
            spread = 1.96 * math.sqrt(variance / self._measured) / max(usual, 1e-9)
        return {
            "estimate": round(usual * count),
            "low": round(low * max(1 - spread, 0.0) * count),
            "high": math.ceil(high * (1 + spread) * count),
        }


class Classes:
    """Counts answers as long as they look like labels: few, short, and repeated."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}
        self._labels = True

    def add(self, split: str, label: str | None) -> None:
        """Take one answer.

        :param split: the set that it is in.
        :param label: the answer, ``None`` where it is not one text.
        """
        if not self._labels:
            return
        counts = self._counts.setdefault(split, Counter())
        if label is None or len(label) > MAX_LABEL_CHARACTERS:
            self._labels = False
            return
        counts[label] += 1
        self._labels = len(counts) <= MAX_CLASSES

    def balance(self) -> dict[str, dict[str, int]] | None:
        """Return how often each class is in each set, ``None`` where the answers are no labels."""
        total: Counter[str] = Counter()
        for counts in self._counts.values():
            total.update(counts)
        if not self._labels or not total or len(total) * 2 > total.total():
            return None
        return {
            split: {label: counts[label] for label in sorted(total)} for split, counts in self._counts.items()
        }


def missing(balance: Mapping[str, Mapping[str, int]] | None, split: str) -> Iterator[str]:
    """Yield the classes of the training set that another set lacks.

    :param balance: see :meth:`Classes.balance`.
    :param split: the other set.
    """
    if balance and "train" in balance and split in balance:
        yield from (label for label, count in balance["train"].items() if count and not balance[split][label])
