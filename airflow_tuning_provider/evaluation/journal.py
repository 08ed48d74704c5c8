"""Answers kept beside the data, so that a crash loses none of them and nothing is paid for twice.

A directory holds the answers of one model. Each process writes files of its own there, so that nothing is ever
appended to a line that a crash has torn, and several processes may share the directory. On a local disk every answer is
appended as it comes. Object stores cannot append: there, answers are put in parts, each of so many answers or seconds.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

PART_ANSWERS = 50
PART_SECONDS = 10.0
SYNC_SECONDS = 1.0

Entry = dict[str, Any]


class Journal:
    """Writes and reads the answers of one model.

    :param directory: a local :class:`pathlib.Path`, or an object that works like one for an object store, such as
        Airflow's ``ObjectStoragePath``.
    """

    def __init__(self, directory: Any) -> None:
        self._directory = directory
        # By the time, so that files sort in the order of their writers.
        self._writer = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
        self._parts = 0
        self._waiting: list[str] = []
        self._file: IO[bytes] | None = None
        self._saved = time.monotonic()

    def read(self) -> Iterator[Entry]:
        """Yield what was written so far, by whichever process; a line that was torn is left out."""
        if not self._directory.exists():
            return
        for path in sorted(self._directory.iterdir(), key=lambda path: str(path.name)):
            if not str(path.name).endswith(".jsonl"):
                continue
            with path.open("rb") as file:
                for line in file:
                    try:
                        entry = json.loads(line)
                    except ValueError:
                        continue
                    if line.endswith(b"\n") and isinstance(entry, dict) and isinstance(entry.get("key"), str):
                        yield entry

    def add(self, entry: Entry) -> None:
        """Keep an answer. Once this returns, a local file has it whatever becomes of this process."""
        line = json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n"
        if not is_local(self._directory):
            self._waiting.append(line)
            if len(self._waiting) >= PART_ANSWERS or time.monotonic() - self._saved >= PART_SECONDS:
                self.flush()
            return
        if self._file is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            path = self._directory / f"{self._writer}.jsonl"
            self._file = path.open("ab", buffering=0)
        # Half of a surrogate pair is valid in JSON, and not in UTF-8.
        self._file.write(line.encode("utf-8", "replace"))
        if time.monotonic() - self._saved >= SYNC_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Save what is not yet safe: a part in the object store, or the disk's own buffer."""
        self._saved = time.monotonic()
        if self._file is not None:
            os.fsync(self._file.fileno())
        elif self._waiting:
            path = self._directory / f"{self._writer}-{self._parts:06d}.jsonl"
            content = "".join(self._waiting).encode("utf-8", "replace")
            with path.open("wb") as file:
                file.write(content)
            self._parts += 1
            self._waiting.clear()

    def close(self) -> None:
        """Save everything and close the file."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None


def is_local(path: Any) -> bool:
    """Whether a path is a plain one of this machine, to which a file can append.

    Those of object stores are ``pathlib`` paths too where Airflow 3.1 makes them, but they name a protocol.

    :param path: as for :class:`Journal`.
    """
    return isinstance(path, Path) and not hasattr(path, "protocol")


def publish(path: Any, content: bytes) -> None:
    """Write a file whole or not at all; it takes the place of an older one.

    :param path: as for :class:`Journal`.
    """
    if not is_local(path):
        with path.open("wb") as file:  # an object appears when it is complete
            file.write(content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def publish_file(path: Any, source: Path) -> None:
    """Copy a local file to where it belongs, whole or not at all, without reading it into memory.

    :param path: as for :class:`Journal`.
    """
    local = is_local(path)
    if local:  # object stores have no directories
        path.parent.mkdir(parents=True, exist_ok=True)
    target = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}") if local else path
    try:
        with source.open("rb") as file, target.open("wb") as copy:
            while block := file.read(1 << 20):
                copy.write(block)
        if local:
            target.replace(path)
    finally:
        if local:
            target.unlink(missing_ok=True)
