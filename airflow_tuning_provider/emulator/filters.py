"""The list filter: the grammar that Vertex AI's sibling job services document, parsed as AIP-160 has it.

``a b`` and ``a AND b`` mean both; OR binds tighter than AND; NOT and ``-`` negate.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from airflow_tuning_provider.emulator.clock import parse_rfc3339
from airflow_tuning_provider.emulator.errors import ApiError, invalid_argument

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
        |(?P<op><=|>=|!=|=|<|>|:)
        |(?P<paren>[()])
        |(?P<minus>-(?=[A-Za-z(]))
        |(?P<word>[^\s()=<>!:"']+))""",
    re.VERBOSE,
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ORDERED = ("=", "!=", "<", "<=", ">", ">=")
_DISPLAY_NAMES = ("display_name", "displayName", "tuned_model_display_name", "tunedModelDisplayName")
_TIMES = {
    "create_time": "created",
    "createTime": "created",
    "update_time": "updated",
    "updateTime": "updated",
}
_MAX_DEPTH = 50
_KEYWORDS = ("AND", "OR", "NOT")


@dataclass(frozen=True)
class Subject:
    """What a filter looks at in a job."""

    state: str
    display_name: str
    created: float
    updated: float
    labels: dict[str, str]


Predicate = Callable[[Subject], bool]


@dataclass(frozen=True)
class Filter:
    """A parsed filter, with a label that all matches must carry (for the index), if there is one."""

    matches: Predicate
    label: tuple[str, str] | None = None


def parse_filter(text: str) -> Filter:
    """Parse a filter; an empty one matches everything. Raise Google's 400 for a malformed one."""
    tokens = _tokens(text)
    if not tokens:
        return Filter(lambda _: True)
    parser = _Parser(text, tokens)
    try:
        predicate = parser.expression()
    except RecursionError as e:
        raise parser.error("too deeply nested") from e
    if parser.peek() is not None:
        raise parser.error(f"unexpected {parser.peek_text()!r}")
    return Filter(predicate, parser.required_label())


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens = []
    position = 0
    end = len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise _malformed(text, f"unexpected {text[position:].strip()[:20]!r}")
        tokens.append((match.lastgroup, match[match.lastgroup]))
        position = match.end()
    return tokens


def _malformed(text: str, why: str) -> ApiError:
    return invalid_argument(f'Invalid filter: "{text}": {why}.')


class _Parser:
    def __init__(self, text: str, tokens: list[tuple[str, str]]) -> None:
        self.text = text
        self.tokens = tokens
        self.position = 0
        self.depth = 0
        # Label equalities that stand as a whole conjunct at the top level.
        self.conjuncts: list[tuple[str, str] | None] = []
        self.last_label: tuple[str, str] | None = None

    def required_label(self) -> tuple[str, str] | None:
        return next((label for label in self.conjuncts if label), None)

    def error(self, why: str) -> ApiError:
        return _malformed(self.text, why)

    def peek(self) -> tuple[str, str] | None:
        return self.tokens[self.position] if self.position < len(self.tokens) else None

    def peek_text(self) -> str:
        token = self.peek()
        return token[1] if token else "the end"

    def take(self, *texts: str) -> bool:
        token = self.peek()
        if token and token[0] != "string" and token[1] in texts:
            self.position += 1
            return True
        return False

    def expression(self) -> Predicate:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self.error("too deeply nested")
        parts = [self.conjunct()]
        while True:
            explicit = self.take("AND")
            token = self.peek()
            if not explicit and (token is None or (token[1] == ")" and token[0] == "paren")):
                break
            parts.append(self.conjunct())
        self.depth -= 1
        return parts[0] if len(parts) == 1 else lambda s: all(p(s) for p in parts)

    def conjunct(self) -> Predicate:
        start = self.position
        self.last_label = None
        parts = [self.term()]
        single = self.position - start == 3
        while self.take("OR"):
            parts.append(self.term())
        if self.depth == 1:
            self.conjuncts.append(self.last_label if len(parts) == 1 and single else None)
        return parts[0] if len(parts) == 1 else lambda s: any(p(s) for p in parts)

    def term(self) -> Predicate:
        if self.take("NOT", "-"):
            inner = self.term()
            return lambda s: not inner(s)
        if self.take("("):
            inner = self.expression()
            if not self.take(")"):
                raise self.error(f"expected ')', got {self.peek_text()!r}")
            return inner
        return self.comparison()

    def comparison(self) -> Predicate:
        field = self.word("a field name")
        token = self.peek()
        if token is None or token[0] != "op":
            raise self.error(f"expected a comparison after {field!r}, got {self.peek_text()!r}")
        self.position += 1
        return self.compare(field, token[1], self.value())

    def word(self, what: str) -> str:
        token = self.peek()
        if token is None or token[0] != "word" or token[1] in _KEYWORDS:
            raise self.error(f"expected {what}, got {self.peek_text()!r}")
        self.position += 1
        return token[1]

    def value(self) -> str:
        token = self.peek()
        if token and token[0] == "string":
            self.position += 1
            return re.sub(r"\\(.)", r"\1", token[1][1:-1])
        if token and token[0] == "minus":
            raise self.error("a negative value must be quoted")
        text = self.word("a value")
        return text + self.rest_of_time(text)

    def rest_of_time(self, text: str) -> str:
        # An unquoted time contains the operator ':'.
        rest = ""
        while re.match(r"\d{4}-\d\d-\d\dT\d\d", text) and (token := self.peek()) and token[1] == ":":
            self.position += 1
            rest += ":" + self.word("a time")
        return rest

    def compare(self, field: str, op: str, value: str) -> Predicate:
        if field == "state":
            return self.compare_state(op, value)
        if field in _DISPLAY_NAMES:
            return self.compare_display_name(op, value)
        if field in _TIMES:
            return self.compare_time(field, op, value)
        if field.startswith("labels."):
            return self.compare_label(field.partition(".")[2], op, value)
        if field == "labels" and op == ":":
            return lambda s: value in s.labels
        raise self.error(f"unknown field {field!r}")

    def allow(self, field: str, op: str, allowed: tuple[str, ...]) -> None:
        if op not in allowed:
            raise self.error(f"operator {op!r} is not supported for {field!r}")

    def compare_state(self, op: str, value: str) -> Predicate:
        self.allow("state", op, ("=", "!="))
        if not re.fullmatch(r"JOB_STATE_[A-Z_]+", value):
            raise self.error(f"{value!r} is not a job state")
        return lambda s: (s.state == value) == (op == "=")

    def compare_display_name(self, op: str, value: str) -> Predicate:
        self.allow("display_name", op, ("=", "!=", ":"))
        if op == ":":
            pattern = _wildcard(value if "*" in value else f"*{value}*")
            return lambda s: pattern.fullmatch(s.display_name) is not None
        pattern = _wildcard(value)
        return lambda s: (pattern.fullmatch(s.display_name) is not None) == (op == "=")

    def compare_time(self, field: str, op: str, value: str) -> Predicate:
        self.allow(field, op, _ORDERED)
        try:
            time = parse_rfc3339(value)
        except (ValueError, OverflowError) as e:
            raise self.error(f"{value!r} is not an RFC 3339 time") from e
        attribute, compare = _TIMES[field], _COMPARE[op]
        # To the microsecond, which is all that a client ever saw.
        return lambda s: compare(round(getattr(s, attribute) * 1e6), round(time * 1e6))

    def compare_label(self, key: str, op: str, value: str) -> Predicate:
        self.allow(f"labels.{key}", op, ("=", "!=", ":"))
        if not key:
            raise self.error("a label name is missing")
        if op == ":":
            return lambda s: key in s.labels and value in ("*", s.labels[key])
        if op == "=":
            self.last_label = (key, value)
            return lambda s: s.labels.get(key) == value
        return lambda s: s.labels.get(key) != value


def _wildcard(text: str) -> re.Pattern[str]:
    # Only * is special.
    return re.compile("".join(".*" if c == "*" else re.escape(c) for c in text), re.DOTALL)
