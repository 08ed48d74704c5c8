"""Lets through quickly what is plainly right: turns of one text each, user and model in turn.

msgspec checks such a line while it decodes it, with a type for each number of turns. It does not notice a key that
stands twice; but then there are more quotes than its type has. What no lane lets through may still be right:
the slow way (:mod:`airflow_tuning_provider.datasets.checking`) says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

_MOST_TURNS = 40


class Part(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A part that is one text."""

    text: Annotated[str, msgspec.Meta(min_length=1)]


class System(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A system instruction."""

    parts: tuple[Part]


class NamedSystem(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A system instruction that names its role."""

    role: Literal["system", "user"]
    parts: tuple[Part]


class User(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A turn of the user's."""

    role: Literal["user"]
    parts: tuple[Part]


class Model(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A turn of the model's."""

    role: Literal["model"]
    parts: tuple[Part]


class Lane:
    """All lines of one shape.

    :param turns: how many turns there are, an even number.
    :param system: the type of the system instruction, ``None`` where there is none.
    """

    def __init__(self, turns: int, system: type | None) -> None:
        contents: Any = tuple.__class_getitem__((User, Model) * (turns // 2))
        fields: list[Any] = [("contents", contents)]
        self.quotes = 2 + 10 * turns
        if system is not None:
            fields.append(("systemInstruction", system))
            self.quotes += 12 if system is NamedSystem else 8
        shape = msgspec.defstruct("Example", fields, forbid_unknown_fields=True, gc=False)
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(shape).decode

    def is_once(self, data: bytes, lines: int = 1) -> bool:
        """Whether no key can stand twice in lines of this shape.

        :param data: the lines.
        :param lines: how many there are.
        """
        wanted = self.quotes * lines
        quotes = data.count(b'"')
        if quotes == wanted:
            return True
        # Those that a text escapes; a text that ends in a backslash makes them uncertain.
        return quotes - data.count(b'\\"') == wanted and b'\\\\"' not in data


class Lanes:
    """The lanes that lines so far have taken. Tried first is the last one that a line took."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[int, type | None], Lane] = {}
        self._by_roles: dict[int, list[Lane]] = {}
        self._last: Lane | None = None

    def block(self, lines: Sequence[bytes], data: bytes, *, keep: bool = True) -> Sequence[Any] | None:
        """Return the examples of lines that all take the same lane as the last one, ``None`` if any does not.

        :param lines: the lines; a blank one takes no lane.
        :param data: all of them as they stand in the file.
        :param keep: whether the examples are wanted; to keep none is faster.
        """
        return None if self._last is None else _through(self._last, lines, data, keep=keep)

    def line(self, line: bytes) -> Any | None:
        """Return the example of a line that takes a lane, else ``None``.

        :param line: the line.
        """
        for lane in self._by_roles.get(line.count(b'"role"'), ()):
            if (found := _through(lane, (line,), line)) is not None:
                self._last = lane
                return found[0]
        return None

    def learn(self, example: Mapping[str, Any]) -> None:
        """Take an example that is right for what the next ones may look like.

        :param example: its JSON.
        """
        turns, system = len(example.get("contents", ())), example.get("systemInstruction")
        shape = None if system is None else NamedSystem if "role" in system else System
        if 0 < turns <= _MOST_TURNS and turns % 2 == 0 and (turns, shape) not in self._lanes:
            lane = self._lanes[turns, shape] = Lane(turns, shape)
            self._by_roles.setdefault(turns + (shape is NamedSystem), []).append(lane)


def _through(lane: Lane, lines: Sequence[bytes], data: bytes, *, keep: bool = True) -> Sequence[Any] | None:
    try:
        found = deque(map(lane.decode, lines), maxlen=None if keep else 0)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if lane.is_once(data, len(lines)) else None
