"""How often a model is right: a tuned one by its hyperparameters, or as a test has it; an untuned one now and then.

Nothing is trained, so this is made up: just enough for settings to differ and for verdicts to be close. It is the same
for the same question each time.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

from airflow_tuning_provider.emulator.lifecycle import JobRecord
from airflow_tuning_provider.emulator.validation import tuning_spec

UNTUNED = 0.3
"""The share of what tuned models have learnt that an untuned one knows."""

_LEAST = 0.05
# What an adapter of another size than four takes from a model's quality.
_ADAPTERS = {"ONE": 0.08, "TWO": 0.04, "FOUR": 0.0, "EIGHT": 0.0, "SIXTEEN": 0.03, "THIRTY_TWO": 0.06}
_ENOUGH_EPOCHS = 3
_TOO_MANY_EPOCHS = 40


def quality_of(job: JobRecord) -> float:
    """Return the share of right answers of a tuned model: 1 for what Google recommends, less for other settings."""
    if job.quality is not None:
        return job.quality
    hyper: dict[str, Any] = tuning_spec(job.body)[1].get("hyperParameters") or {}
    loss = _ADAPTERS.get(str(hyper.get("adapterSize", "")).removeprefix("ADAPTER_SIZE_"), 0.0)
    loss += 0.12 * max(0, _ENOUGH_EPOCHS - job.epochs)
    if job.epochs > _TOO_MANY_EPOCHS:
        loss += 0.1 * math.log2(job.epochs / _TOO_MANY_EPOCHS)
    multiplier = hyper.get("learningRateMultiplier", 1)
    if isinstance(multiplier, (int, float)) and multiplier > 0:
        loss += 0.07 * abs(math.log2(multiplier))
    return max(_LEAST, 1.0 - loss)


def is_right(who: str, question: str, quality: float) -> bool:
    """Whether a model of this quality answers a question rightly.

    :param who: models of different names are right independently of each other.
    """
    return draw(f"{who}:right", question) < quality


def wrong_answer(question: str, right: str, answers: Sequence[str]) -> str | None:
    """Return another answer that the model knows of, None if there is no other."""
    others = [answer for answer in answers if answer != right]
    return others[int(draw("wrong", question) * len(others))] if others else None


def draw(what: str, question: str) -> float:
    """Return a number from 0 to 1, always the same for the same texts."""
    digest = hashlib.sha256(f"{what}:{question}".encode("utf-8", "replace")).digest()
    return float(int.from_bytes(digest[:8], "big") / 2**64)
