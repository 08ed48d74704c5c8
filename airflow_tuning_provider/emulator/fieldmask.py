"""The system parameter ``fields``: which fields of a response are wanted.

``a,b`` selects two fields; ``a/b``, ``a.b`` and ``a(b)`` a field of a field, in lists that of each item;
``*`` all. Names in either case.
"""

from __future__ import annotations

import re
from typing import Any

from airflow_tuning_provider.emulator.errors import ApiError, bad_request
from airflow_tuning_provider.emulator.schema import MESSAGES, camel_case

# The wanted fields with those wanted of them; None: all of it.
Tree = dict[str, "Tree | None"]

_TOKEN = re.compile(r"\s*([(),/.]|[^\s(),/.]+)\s*")


def parse_mask(text: str, message: str, version: str) -> Tree | None:
    """Parse a mask for a message; None, and an empty one, is all of it. Raise Google's 400 for a bad one."""
    tokens = _TOKEN.findall(text)
    if not tokens:
        return None
    tree: Tree = {}
    rest = _Parser(text, tokens, version).selection(tree, message, "")
    if rest:
        raise _bad_mask(text, "Unbalanced parentheses.")
    return None if "*" in tree else tree


class _Parser:
    def __init__(self, text: str, tokens: list[str], version: str) -> None:
        self.text = text
        self.tokens = tokens
        self.version = version

    def selection(self, tree: Tree, kind: str, path: str) -> list[str]:
        """Add what is selected up to the closing parenthesis; return the tokens from there on."""
        while True:
            self.item(tree, kind, path)
            if not self.tokens or self.tokens[0] != ",":
                return self.tokens
            self.tokens.pop(0)

    def item(self, tree: Tree, kind: str, path: str) -> None:
        word = self.tokens.pop(0) if self.tokens else ""
        if not word or word in "(),/.":
            raise _bad_mask(self.text, f"A field name is missing before '{word}'.")
        name, inner = self.field(kind, word, f"{path}.{word}" if path else word)
        path = f"{path}.{word}" if path else word
        follows = self.tokens[0] if self.tokens else ""
        if follows not in ("/", ".", "("):
            if follows not in ("", ",", ")"):
                raise _bad_mask(self.text, f"Unexpected '{follows}'.")
            tree[name] = None
            return
        self.tokens.pop(0)
        known = tree.setdefault(name, {})
        # What is wanted as a whole stays so.
        below: Tree = {} if known is None else known
        if follows != "(":
            self.item(below, inner, path)
        elif self.selection(below, inner, path) and self.tokens[0] == ")":
            self.tokens.pop(0)
        else:
            raise _bad_mask(self.text, "Unbalanced parentheses.")
        if "*" in below:
            tree[name] = None

    def field(self, kind: str, word: str, path: str) -> tuple[str, str]:
        """Return a field's name and type; anything goes in what the schema does not list."""
        if word == "*":
            return word, ""
        if kind in ("any", "json", "struct", "map"):
            return word if kind == "map" else camel_case(word), "any"
        field = MESSAGES.get(kind, {}).get(camel_case(word))
        if field is None or not field.known_to(self.version):
            raise _bad_mask(path, f"Cannot find matching fields for path '{path}'.")
        return field.name, field.type.strip("[]{}")


def apply_mask(tree: Tree | None, value: Any) -> Any:
    """Return what is wanted of a value."""
    if tree is None:
        return value
    if isinstance(value, list):
        return [apply_mask(tree, item) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: apply_mask(below, value[name]) for name, below in tree.items() if name in value}


def _bad_mask(field: str, why: str) -> ApiError:
    text = f"Error expanding 'fields' parameter. {why}"
    return bad_request([(field, text)], "Request contains an invalid argument.")
