"""How results are written: as Airflow's own commands write them, for people and for other programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, TextIO

Row = Mapping[str, Any]


@contextmanager
def stdout_for_results() -> Iterator[TextIO]:
    """Lend stdout for results alone: whatever else writes to it, as Airflow's logs do, goes to stderr meanwhile."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):  # it is no file
        lent = sys.stdout
        with redirect_stdout(sys.stderr):
            yield lent
        return
    sys.stdout.flush()
    kept = os.dup(number)
    out = os.fdopen(os.dup(number), "w", encoding=sys.stdout.encoding, errors="replace")
    os.dup2(sys.stderr.fileno(), number)
    try:
        yield out
    finally:
        with suppress(OSError):
            out.close()
        sys.stdout.flush()
        os.dup2(kept, number)
        os.close(kept)


def write(out: TextIO, data: Any, rows: Sequence[Row], output: str) -> None:
    """Write a result.

    :param out: where to.
    :param data: the result for other programs: what JSON can hold.
    :param rows: the same for people.
    :param output: ``table``, ``plain``, ``json`` or ``yaml``.
    """
    if output == "json":
        text = json.dumps(data, indent=2, ensure_ascii=False)
    elif output == "yaml":
        import yaml

        text = str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True)).rstrip("\n")
    else:
        text = table(rows, plain=output == "plain")
    out.write(text + "\n")
    out.flush()


def table(rows: Sequence[Row], *, plain: bool) -> str:
    """Return rows as text; nothing is cut.

    :param plain: without lines between the columns.
    """
    if not rows:
        return "No data found"
    head = list(rows[0])
    cells = [head, *([_cell(row.get(name)) for name in head] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    between = "  " if plain else " | "
    lines = [
        between.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    if not plain:
        lines.insert(1, "=+=".join("=" * width for width in widths))
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # Names come from strangers: no line breaks, and nothing that a terminal would obey.
    return "".join(character if character.isprintable() else "�" for character in text)
