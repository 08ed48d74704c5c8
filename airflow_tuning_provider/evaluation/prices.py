"""What answers cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.prices import ANSWERS, TUNED_FACTOR


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens.

    :param input: of a question.
    :param output: of an answer.
    """

    input: float
    output: float

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """Return what so many tokens cost, in US dollars."""
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


def price_of(model: str | None, *, tuned: bool, prices: Mapping[str, Any] | None = None) -> Price | None:
    """Return what a model's answers cost, ``None`` if that is not known.

    :param model: the base model, or a tuned model's.
    :param tuned: whether a tuned endpoint answers.
    :param prices: what replaces the table: names to ``{"input": dollars, "output": dollars}``, or to pairs. A name may
        be a model's, or an endpoint's; what is given is used as it is.
    :raises InvalidInputError: for prices of another form.
    """
    name = (model or "").rpartition("/")[2]
    for key in (model, name):
        if key and key in (prices or {}):
            return _given(key, (prices or {})[key])
    if name not in ANSWERS:
        return None
    factor = TUNED_FACTOR if tuned and name.startswith("gemini-3") else 1.0
    one, other = ANSWERS[name]
    return Price(one * factor, other * factor)


def check_prices(prices: object) -> Mapping[str, Any] | None:
    """Return ``prices`` if :func:`price_of` can use them.

    :raises InvalidInputError: if not.
    """
    if prices is None:
        return None
    if not isinstance(prices, Mapping):
        raise InvalidInputError("prices", prices, "map model names to {'input': dollars, 'output': dollars}")
    for key, value in prices.items():
        _given(str(key), value)
    return prices


def _given(key: str, value: Any) -> Price:
    pair = (value.get("input"), value.get("output")) if isinstance(value, Mapping) else value
    if isinstance(pair, (list, tuple)) and len(pair) == 2:
        numbers = [v for v in pair if isinstance(v, (int, float)) and not isinstance(v, bool)]
        if len(numbers) == 2 and all(0 <= v < math.inf for v in numbers):
            return Price(float(pair[0]), float(pair[1]))
    raise InvalidInputError(
        f"prices[{key!r}]", value, "give {'input': dollars, 'output': dollars} a million tokens"
    )
