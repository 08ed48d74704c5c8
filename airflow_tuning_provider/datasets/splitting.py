"""Puts each question into one of the sets: always the same one, however many others there are.

A random split would move examples from the held-out set to the training set from one week to the next, and the
evaluation would then test what the model has learnt by heart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from airflow_tuning_provider.api.inputs import InvalidInputError

TRAIN = "train"
VALIDATION = "validation"
HELD_OUT = "held_out"
SPLITS = (TRAIN, VALIDATION, HELD_OUT)
_ORDER = (HELD_OUT, VALIDATION)


class Splitter:
    """Says which set a key belongs to.

    :param shares: the share of each set: ``{"train": 0.8, "validation": 0.1, "held_out": 0.1}``.
    :param seed: another seed makes another split.
    :raises InvalidInputError: if the shares are none.
    """

    def __init__(self, shares: Mapping[str, Any], seed: str = "") -> None:
        given = dict.fromkeys(SPLITS, 0.0)
        for name, share in shares.items():
            number = share_of(share)
            if name not in given or number is None:
                raise InvalidInputError(
                    f"split.{name}", share, f"give shares from 0 to 1 for {', '.join(SPLITS)}"
                )
            given[name] = number
        if abs(sum(given.values()) - 1) > 1e-6 or given[TRAIN] <= 0:
            raise InvalidInputError(
                "split", dict(shares), "the shares add up to 1, and train has one of its own"
            )
        self._seed = seed.encode("utf-8", "surrogatepass")
        self._bounds = []
        bound = 0.0
        for name in _ORDER:
            bound += given[name]
            self._bounds.append((bound, name))

    def __call__(self, key: str) -> str:
        """Return the set of a key.

        :param key: the question, or the name of a group.
        """
        text = key.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(self._seed + b"\0" + text, digest_size=8).digest()
        place = int.from_bytes(digest, "big") / 2**64
        return next((name for bound, name in self._bounds if place < bound), TRAIN)


def share_of(value: Any) -> float | None:
    """Return a share from 0 to 1, which may come from a template as text; ``None`` if it is none.

    :param value: what was given.
    """
    try:
        number = (
            float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else -1.0
        )
    except ValueError:
        return None
    return number if 0 <= number <= 1 else None
