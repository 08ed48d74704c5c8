"""All mutants of a source file, and a seeded sample of those of many."""

from __future__ import annotations

import ast
import difflib
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator, operator_names
from parso.python.tree import Keyword

# Left out: what cosmic-ray takes names for; and what hardly ever changes anything, as `is` and `==` for each other.
_LEFT_OUT = re.compile(
    r"Variable|Comparison.*_(Is|IsNot)_(?!Is)|Comparison.*_(?!Is)[A-Za-z]+_Is|UnaryOperator_(Delete|UAdd)_[^N]"
)


class RemoveCall(Operator):
    """Leaves out a call, or an awaited one, whose result nobody uses; but for one that only logs."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        """Yield where the statement stands, if it is one."""
        if node.type == "simple_stmt" and _is_call(node.children[0]):
            yield node.children[0].start_pos, node.children[0].end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Return ``pass`` instead."""
        first = node.children[0].get_first_leaf()
        node.children[0] = Keyword("pass", first.start_pos, first.prefix)
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        """Return none: cosmic-ray's own tests are not run for it."""
        return ()


def _is_call(node: Any) -> bool:
    text = node.get_code(include_prefix=False)
    call = node.children[-1] if node.type == "await_expr" else node
    if call.type not in ("atom_expr", "power") or re.match(r"[\w.]*\blog(ger)?\.", text):
        return False
    last = call.children[-1]
    return bool(last.type == "trailer" and last.children[0].value == "(")


class Mutant(NamedTuple):
    """One changed place in one file."""

    path: str
    line: int
    column: int
    operator: str
    occurrence: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.operator.rpartition('/')[2]}"

    def code(self, source: str) -> str:
        """Return the mutated source."""
        return str(mutate_code(source, _operators()[self.operator], self.occurrence))

    def diff(self, source: str) -> str:
        """Return the change, with a line around it."""
        before, after = (text.splitlines(keepends=True) for text in (source, self.code(source)))
        return "".join(list(difflib.unified_diff(before, after, n=1))[2:])


@cache
def _operators() -> dict[str, Operator]:
    names = [name for name in operator_names() if not _LEFT_OUT.search(name)]
    return {**{name: get_operator(name)() for name in names}, "RemoveCall": RemoveCall()}


def mutants(path: str, source: str) -> Iterator[Mutant]:
    """Yield every mutant of a file but for those that change annotations only."""
    tree = get_ast(source)
    annotations = list(_annotations(source))
    for name, operator in _operators().items():
        occurrence = 0
        for node in ast_nodes(tree):
            for start, end in operator.mutation_positions(node):
                if not any(first <= start and end <= last for first, last in annotations):
                    yield Mutant(path, *start, name, occurrence)
                occurrence += 1


def _annotations(source: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield where annotations stand: they are never evaluated here. Columns are those of ASCII sources."""
    for node in ast.walk(ast.parse(source)):
        for field in ("annotation", "returns"):
            found = getattr(node, field, None)
            if isinstance(found, ast.expr):
                yield (
                    (found.lineno, found.col_offset),
                    (found.end_lineno or found.lineno, found.end_col_offset or 0),
                )


def sample(sources: dict[str, str], *, size: int, seed: int) -> list[Mutant]:
    """Return one mutant for each of so many places, all of them equally likely, in the order of the draw.

    Which files there are does not depend on the order of ``sources``. Mutants that cannot be compiled, or compile
    to the same, are not drawn.
    """
    chance = random.Random(seed)
    places: dict[tuple[str, int, int], list[Mutant]] = {}
    for path, source in sorted(sources.items()):
        for mutant in mutants(path, source):
            places.setdefault(mutant[:3], []).append(mutant)
    order = list(places.values())
    chance.shuffle(order)
    drawn: list[Mutant] = []
    for candidates in order:
        if len(drawn) == size:
            break
        mutant = chance.choice(candidates)
        if _changes(sources[mutant.path], mutant):
            drawn.append(mutant)
    return drawn


def _changes(source: str, mutant: Mutant) -> bool:
    try:
        return ast.dump(ast.parse(mutant.code(source))) != ast.dump(ast.parse(source))
    except SyntaxError:
        return False


def lines_run_with(source: str, line: int, column: int) -> set[int]:
    """Return the lines whose execution tells that a place in a file matters.

    Those of its statement, without the statements inside; where that is executed by an import (a default, a
    decorator, a constant), those of the functions in the same function, class or file.
    """
    statement, parents = _innermost(ast.parse(source), line, column)
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    inside = [parent for parent in parents if isinstance(parent, functions)]
    if statement is not None and inside and not isinstance(statement, functions):
        body: Sequence[ast.stmt] = getattr(statement, "body", [])
        last = body[0].lineno - 1 if body else statement.end_lineno or statement.lineno
        return set(range(statement.lineno, max(last, statement.lineno) + 1))
    scope = statement if isinstance(statement, (*functions, ast.ClassDef)) else parents[-1]
    return set(_lines_of_bodies(scope, functions))


def _innermost(tree: ast.Module, line: int, column: int) -> tuple[ast.stmt | None, list[ast.AST]]:
    found: ast.stmt | None = None
    parents: list[ast.AST] = [tree]
    nodes: list[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        for child in ast.iter_child_nodes(node):
            first = min(
                [getattr(child, "lineno", 0), *(d.lineno for d in getattr(child, "decorator_list", []))]
            )
            if isinstance(child, (ast.stmt, ast.ExceptHandler, ast.match_case)) and (
                (first, 0) <= (line, column) <= (getattr(child, "end_lineno", line), 1 << 20)
            ):
                if isinstance(child, ast.stmt):
                    if found is not None:
                        parents.append(found)
                    found = child
                nodes = [child]
                break
    return found, parents


def _lines_of_bodies(scope: ast.AST, functions: tuple[type, ...]) -> Iterable[int]:
    for node in ast.walk(scope):
        if isinstance(node, functions):
            body: Sequence[ast.stmt] = node.body  # type: ignore[attr-defined]
            yield from range(body[0].lineno, (body[-1].end_lineno or body[-1].lineno) + 1)


def read(root: Path, folders: Iterable[str]) -> dict[str, str]:
    """Return the sources in some folders, of those that exist, by their paths."""
    files = sorted(path for folder in folders for path in (root / folder).rglob("*.py"))
    return {str(path.relative_to(root)): path.read_text() for path in files}
