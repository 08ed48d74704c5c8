"""Jobs, operations and training corpora: in memory for speed, written through to SQLite to survive."""

from __future__ import annotations

import bisect
import contextlib
import json
import sqlite3
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from airflow_tuning_provider.emulator.lifecycle import JobRecord
from airflow_tuning_provider.emulator.pages import Place
from airflow_tuning_provider.emulator.resources import MAX_CHECKPOINTS, endpoint_id

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, sequence INTEGER NOT NULL, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS operations (id TEXT PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS corpora (digest TEXT PRIMARY KEY, pairs BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_CORPORA_IN_MEMORY = 16

Pairs = list[tuple[str, str]]
Scope = tuple[str, str]


class StateFileError(Exception):
    """The state file cannot be used."""


class Store:
    """All the server's resources. Used from the event loop only, so that it needs no locks."""

    def __init__(self, path: Path | None = None) -> None:
        self._db = _open(path)
        self._durable = path is not None
        self._jobs: dict[str, JobRecord] = {}
        # Oldest first.
        self._by_scope: dict[Scope, list[JobRecord]] = {}
        self._by_label: dict[tuple[Scope, str, str], list[JobRecord]] = {}
        self._endpoints: dict[str, tuple[str, int]] = {}
        # The jobs whose endpoints are not yet among them: few are ever asked.
        self._without_endpoints: list[JobRecord] = []
        self._corpora: OrderedDict[str, Pairs] = OrderedDict()
        self.operations: dict[str, dict[str, Any]] = {}
        self._sequence = 0
        self._load()

    def _load(self) -> None:
        for (text,) in self._db.execute("SELECT record FROM jobs ORDER BY sequence"):
            self._index(JobRecord(**json.loads(text)))
        for id_, text in self._db.execute("SELECT id, record FROM operations"):
            self.operations[id_] = json.loads(text)

    def _index(self, job: JobRecord) -> None:
        scope = (job.number, job.location)
        self._sequence = max(self._sequence, job.sequence)
        self._jobs[job.id] = job
        bisect.insort(self._by_scope.setdefault(scope, []), job, key=_place)
        for key, value in job.body.get("labels", {}).items():
            bisect.insort(self._by_label.setdefault((scope, key, value), []), job, key=_place)
        self._without_endpoints.append(job)

    def add(self, job: JobRecord) -> None:
        """Store a new job."""
        job.sequence = self._sequence + 1
        self._index(job)
        self.save(job)

    def add_all(self, jobs: Sequence[JobRecord]) -> None:
        """Store many new jobs at once."""
        self._db.execute("BEGIN")
        for job in jobs:
            self.add(job)
        self._db.execute("COMMIT")

    def save(self, job: JobRecord) -> None:
        """Write a changed job."""
        if not self._durable:
            return
        record = json.dumps(vars(job))
        self._db.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?)", (job.id, job.sequence, record))

    def job(self, id_: str) -> JobRecord | None:
        """Return a job by id."""
        return self._jobs.get(id_)

    def jobs(self) -> Iterator[JobRecord]:
        """Iterate over all jobs, oldest first."""
        return iter(list(self._jobs.values()))

    def newest_first(
        self, scope: Scope, label: tuple[str, str] | None = None, before: Place | None = None
    ) -> Iterator[JobRecord]:
        """Iterate over a location's jobs, newest first.

        :param label: only over those with this label
        :param before: only over those before this place in the list
        """
        jobs = self._by_scope.get(scope, []) if label is None else self._by_label.get((scope, *label), [])
        end = len(jobs) if before is None else bisect.bisect_left(jobs, before, key=_place)
        return (jobs[i] for i in range(end - 1, -1, -1))

    def endpoint(self, id_: str) -> tuple[JobRecord, int] | None:
        """Return the job and the checkpoint that an endpoint serves."""
        while self._without_endpoints:
            job = self._without_endpoints.pop()
            for checkpoint in range(1, MAX_CHECKPOINTS + 1):
                self._endpoints[endpoint_id(job.id, checkpoint)] = (job.id, checkpoint)
        found = self._endpoints.get(id_)
        return (self._jobs[found[0]], found[1]) if found else None

    def versions_of(self, number: str, location: str, model: str) -> list[JobRecord]:
        """Return the jobs that made, or make, versions of a model."""
        return [job for job in self._by_scope.get((number, location), []) if job.model == model]

    def save_operation(self, id_: str, record: dict[str, Any] | None) -> None:
        """Write an operation; None deletes it."""
        if record is None:
            self.operations.pop(id_, None)
            self._db.execute("DELETE FROM operations WHERE id = ?", (id_,))
        else:
            self.operations[id_] = record
            self._db.execute("INSERT OR REPLACE INTO operations VALUES (?, ?)", (id_, json.dumps(record)))

    def save_corpus(self, digest: str, pairs: Pairs) -> None:
        """Keep what a tuned endpoint answers from; the same data is kept once for all its jobs."""
        blob = zlib.compress(json.dumps(pairs).encode())
        self._db.execute("INSERT OR IGNORE INTO corpora VALUES (?, ?)", (digest, blob))

    def corpus(self, digest: str) -> Pairs:
        """Return the (prompt, answer) pairs of a training data set."""
        if digest in self._corpora:
            self._corpora.move_to_end(digest)
            return self._corpora[digest]
        row = self._db.execute("SELECT pairs FROM corpora WHERE digest = ?", (digest,)).fetchone()
        pairs = [(prompt, answer) for prompt, answer in json.loads(zlib.decompress(row[0]))] if row else []
        self._corpora[digest] = pairs
        if len(self._corpora) > _CORPORA_IN_MEMORY:
            self._corpora.popitem(last=False)
        return pairs

    def corpora(self, most: int) -> list[str]:
        """Return the digests of the newest training data sets."""
        rows = self._db.execute("SELECT digest FROM corpora ORDER BY rowid DESC LIMIT ?", (most,))
        return [digest for (digest,) in rows]

    def meta(self, key: str, default: str) -> str:
        """Return a stored value; store the default where there is none."""
        self._db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, default))
        return str(self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()[0])

    def clear(self) -> None:
        """Delete all jobs, operations and corpora."""
        for table in ("jobs", "operations", "corpora"):
            self._db.execute(f"DELETE FROM {table}")  # noqa: S608 - a constant
        self._jobs.clear()
        self._by_scope.clear()
        self._by_label.clear()
        self._endpoints.clear()
        self._without_endpoints.clear()
        self._corpora.clear()
        self.operations.clear()

    def close(self) -> None:
        """Close the database."""
        self._db.close()


def _place(job: JobRecord) -> Place:
    return job.place


def _open(path: Path | None) -> sqlite3.Connection:
    # Autocommit: every statement is durable by itself, also when the process is killed.
    try:
        db = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=2, check_same_thread=False)
    except sqlite3.Error as e:
        raise StateFileError(f"cannot open {path}: {e}") from e
    try:
        # Two servers on one file would each overwrite what the other knows.
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.executescript(_SCHEMA)
        db.execute("INSERT OR REPLACE INTO meta VALUES ('format', '1')")
    except sqlite3.Error as e:
        with contextlib.suppress(sqlite3.Error):
            db.close()
        locked = "locked" in str(e)
        reason = "another emulator is using it" if locked else str(e)
        raise StateFileError(f"cannot use {path}: {reason}") from e
    return db
