"""The limits of a model family: a dated table that can be overridden; and what training costs.

Google moves these, so what goes beyond a limit is a warning. What breaks the format is an error, and stands in
:mod:`airflow_tuning_provider.datasets.checking`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import resources
from typing import Any

from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.prices import TRAINING


@dataclass(frozen=True)
class Rules:
    """The limits of one family, as in ``families.json``.

    :param max_tokens_per_example: what is longer is truncated by the service.
    :param max_file_bytes: the largest file.
    :param max_examples: the most examples in the training set.
    :param max_media_examples: the most of them where any holds media.
    :param max_validation_examples: the most examples in the validation set.
    :param validation_share_from: from this many validation examples on,
    :param max_validation_share: they may be at most this share of the training set's.
    :param recommended_examples: below this many a model learns little.
    :param media: the mime types, or their first halves, that may stand beside text.
    :param preference_media: the same for preference tuning.
    :param bytes_per_token: fewest, usual and most UTF-8 bytes of text for one token.
    :param tokens_per_media_part: fewest, usual and most tokens for one media part.
    """

    max_tokens_per_example: int
    max_file_bytes: int
    max_examples: int
    max_media_examples: int
    max_validation_examples: int
    validation_share_from: int
    max_validation_share: float
    recommended_examples: int
    media: tuple[str, ...]
    preference_media: tuple[str, ...]
    bytes_per_token: tuple[float, ...]
    tokens_per_media_part: tuple[float, ...]


def rules_for(model: str | None = None, overrides: Mapping[str, Any] | None = None) -> Rules:
    """Return the rules for a base model; those of the default family where nothing is known of it.

    :param model: the base model, such as ``gemini-3.5-flash``.
    :param overrides: values to use instead, by the rule's name.
    :raises InvalidInputError: for an override that is no rule, or of another type.
    """
    table = _table("families.json")
    short = str(model or "").rpartition("/")[2]
    name = max((name for name in table["families"] if short.startswith(name)), key=len, default=None)
    known = {field.name for field in fields(Rules)}
    values = table["families"][name or table["default"]]
    made: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
    }
    rules = Rules(**made)
    for key, value in (overrides or {}).items():
        if key not in known:
            raise InvalidInputError(f"rules.{key}", value, f"the rules are {', '.join(sorted(known))}")
        before = getattr(rules, key)
        if isinstance(before, tuple):
            good = isinstance(value, (list, tuple)) and all(
                isinstance(item, type(before[0]) if before else str) for item in value
            )
            good = good and (len(value) == 3 or not key.startswith(("bytes", "tokens")))
            value = tuple(value) if good else value
        else:
            good = isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
        if not good:
            raise InvalidInputError(f"rules.{key}", value, f"give a value like {before!r}")
        rules = replace(rules, **{key: value})
    return rules


def training_price(model: str, prices: Mapping[str, Any] | None = None) -> float | None:
    """Return the US dollars for a million training tokens, ``None`` where it is not known.

    :param model: the base model, such as ``gemini-3.5-flash``, also with ``publishers/…`` before it.
    :param prices: prices to use before those of :mod:`airflow_tuning_provider.api.prices`, by model.
    :raises InvalidInputError: for a price that is not a number above 0.
    """
    short = model.rpartition("/")[2]
    for key, value in (prices or {}).items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
            raise InvalidInputError(f"prices.{key}", value, "give US dollars for a million tokens")
    given = {key.rpartition("/")[2]: float(value) for key, value in (prices or {}).items()}
    return {**TRAINING, **given}.get(short)


@cache
def _table(name: str) -> dict[str, Any]:
    text = resources.files("airflow_tuning_provider.datasets").joinpath(name).read_text(encoding="utf-8")
    return dict(json.loads(text))
