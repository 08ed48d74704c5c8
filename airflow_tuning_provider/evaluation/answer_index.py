"""The answers by side and key, on the local disk: a set of any size in the same memory."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class AnswerIndex:
    """The answers of this evaluation, and what has already happened to a question.

    :param path: a file that need not outlive this process.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute(
            "CREATE TABLE answers (side INTEGER, key TEXT, entry TEXT, PRIMARY KEY (side, key)) WITHOUT ROWID"
        )
        self._db.execute(
            "CREATE TABLE marks (what TEXT, side INTEGER, key TEXT, PRIMARY KEY (what, side, key)) WITHOUT ROWID"
        )

    def add(self, side: int, key: str, entry: Json) -> None:
        """Take an answer; the first one stays, whichever process got it."""
        text = json.dumps(entry)
        self._db.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", (side, key, text))

    def get(self, side: int, key: str) -> Json | None:
        """Return an answer, ``None`` if there is none."""
        found = self._db.execute(
            "SELECT entry FROM answers WHERE side = ? AND key = ?", (side, key)
        ).fetchone()
        return None if found is None else json.loads(found[0])

    def is_first(self, what: str, side: int, key: str) -> bool:
        """Whether this is the first time that something happens to a question."""
        added = self._db.execute("INSERT OR IGNORE INTO marks VALUES (?, ?, ?)", (what, side, key))
        return added.rowcount == 1

    def close(self) -> None:
        """Close the file."""
        self._db.close()
