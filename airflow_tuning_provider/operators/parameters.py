"""How a table of body parameters becomes an operator's constructor, documentation and template fields."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from airflow_tuning_provider.api.parameters import mappings, table

_Init = TypeVar("_Init", bound=Callable[..., None])


def accepts(parameters: type) -> Callable[[_Init], _Init]:
    """Return a decorator by which a constructor takes a table's parameters too, and stores them as they are given.

    Airflow reads a constructor's signature to apply ``default_args`` and to check ``partial`` and ``expand``, so
    it names each of them.

    :param parameters: the table, see :class:`airflow_tuning_provider.api.parameters.BodyParameters`.
    """
    names = tuple(table(parameters))

    def decorate(init: _Init) -> _Init:
        signature = inspect.signature(init)
        *own, rest = signature.parameters.values()
        keyword = inspect.Parameter.KEYWORD_ONLY
        added = [inspect.Parameter(name, keyword, default=None) for name in names]

        @wraps(init)
        def wrapper(self: Any, **kwargs: Any) -> None:
            given = {name: kwargs.pop(name, None) for name in names}
            init(self, **kwargs)
            for name, value in given.items():
                setattr(self, name, value)

        wrapper.__signature__ = signature.replace(parameters=[own[0], *added, *own[1:], rest])  # type: ignore[attr-defined]
        return wrapper  # type: ignore[return-value]

    return decorate


def documented(docstring: str | None, parameters: type) -> str:
    """Return a class's docstring with the table's parameters before its own.

    :param docstring: the docstring; it tells at least one parameter.
    :param parameters: the table.
    """
    lines = [f":param {name}: {parameter.help}" for name, parameter in table(parameters).items()]
    before, first, after = inspect.cleandoc(docstring or "").partition(":param ")
    return before + "\n".join([*lines, ""]) + first + after


def renderers(parameters: type) -> dict[str, str]:
    """Return how the UI shows the template fields of a table.

    :param parameters: the table.
    """
    return dict.fromkeys(mappings(parameters), "json")
