"""When Google retires which base model, and what to go on with: one dated table.

A tuned model goes with its base model. Google's dates may be moved to later days, never to earlier ones; one month
before a retirement, new access to the model is blocked, also for tuning.

Source: "Model versions and lifecycle", docs.cloud.google.com/gemini-enterprise-agent-platform/models/model-versions,
as read on the day below. Whoever knows better gives newer rows, see :func:`table_with`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from airflow_tuning_provider.api.inputs import InvalidInputError

AS_OF = date(2026, 11, 25)
"""When the table was read."""

SOURCE = "https://docs.cloud.google.com/gemini-enterprise-agent-platform/models/model-versions"
"""Where Google says it."""

BLOCKED_BEFORE = timedelta(days=30)
"""How long before its retirement a model can no longer be tuned by those who did not use it before."""

# Model, first day on which it may be gone ("-": not announced), what to rebase on.
_TABLE = """
gemini-3.5-flash           2027-05-19  gemini-3.5-flash
gemini-3.5-flash-lite      2027-07-21  gemini-3.5-flash-lite
gemini-3.1-flash-lite      2027-05-07  gemini-3.5-flash-lite
gemini-2.5-pro             2026-10-20  gemini-3.5-flash
gemini-2.5-flash           2026-10-20  gemini-3.5-flash
gemini-2.5-flash-lite      2026-10-20  gemini-3.1-flash-lite
gemini-2.0-flash           2026-06-01  gemini-3.5-flash
gemini-2.0-flash-001       2026-06-01  gemini-3.5-flash
gemini-2.0-flash-lite      2026-06-01  gemini-3.1-flash-lite
gemini-2.0-flash-lite-001  2026-06-01  gemini-3.1-flash-lite
gemini-1.5-pro-002         2025-09-24  gemini-3.5-flash
gemini-1.5-flash-002       2025-09-24  gemini-3.5-flash
gemini-1.0-pro-002         2025-04-09  gemini-3.5-flash
"""


@dataclass(frozen=True)
class BaseModel:
    """A base model's end.

    :param name: its id, such as ``gemini-3.5-flash``.
    :param retires: the first day on which it may be gone; ``None`` if that is not announced.
    :param rebase_to: what to rebase tuned models on; the model itself where nothing newer can be tuned.
    """

    name: str
    retires: date | None
    rebase_to: str

    def days_left(self, today: date) -> int | None:
        """Return the days until it may be gone, negative afterwards; ``None`` if that is not announced.

        :param today: the day to count from.
        """
        return None if self.retires is None else (self.retires - today).days


def _row(line: str) -> BaseModel:
    name, retires, rebase_to = line.split()
    return BaseModel(name, None if retires == "-" else date.fromisoformat(retires), rebase_to)


BASE_MODELS: Mapping[str, BaseModel] = {row.name: row for row in map(_row, _TABLE.strip().splitlines())}


def table_with(rows: object) -> dict[str, BaseModel]:
    """Return the table with the user's rows before those that come with the provider.

    :param rows: by model id, ``{"retires": "2027-05-19", "rebase_to": "gemini-3.5-flash"}``; a bare date is one
        without ``rebase_to``, and ``None`` a model whose end is not announced.
    :raises InvalidInputError: naming the row, if there is something else in it.
    """
    if rows is not None and not isinstance(rows, Mapping):
        raise InvalidInputError("table", rows, "give a mapping from model ids to their retirement")
    table = dict(BASE_MODELS)
    for name, row in (rows or {}).items():
        field = f"table[{name!r}]"
        given: Any = row if isinstance(row, Mapping) else {"retires": row}
        unknown = sorted(set(given) - {"retires", "rebase_to"})
        if not isinstance(name, str) or unknown:
            raise InvalidInputError(field, row, "give 'retires', a date, and 'rebase_to', a model id")
        known = table.get(name)
        rebase_to = given.get("rebase_to") or (known.rebase_to if known else name)
        if not isinstance(rebase_to, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", rebase_to):
            raise InvalidInputError(f"{field}['rebase_to']", rebase_to, "give a model id")
        table[name] = BaseModel(name, _date(given.get("retires"), f"{field}['retires']"), rebase_to)
    return table


def model_id(base_model: str) -> str:
    """Return the bare id of ``publishers/google/models/ID`` or of a plain id, without ``@VERSION``.

    :param base_model: the model as a tuning job names it.
    """
    return base_model.rpartition("/")[2].partition("@")[0]


def _date(value: object, field: str) -> date | None:
    if value is None or type(value) is date:
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise InvalidInputError(field, value, "give a date such as '2027-05-19'") from None
