"""Reads the lines of a data set as a stream, whatever their encoding, and says where they cannot be read.

Repairs, each told once: a byte order mark is left out, UTF-16 becomes UTF-8, gzip is unpacked, CRLF ends a line as LF
does. Blank lines are passed over.
"""

from __future__ import annotations

import codecs
import csv
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from airflow_tuning_provider.datasets.problems import ERROR, Problem

CHUNK = 1 << 17
MAX_LINE_BYTES = 32 * 1024 * 1024
"""The longest line that is read: examples have at most 131,072 tokens, but may hold inline media."""

Tell = Callable[[Problem], object]
Block = tuple[int, list[bytes], bytes]
"""The number of the first line, the lines without their ends, and all of them as they stand in the file."""


class _Place:
    """Where the reading is: the line that the next block begins with."""

    line = 1


def blocks(
    stream: BinaryIO, tell: Tell, *, repairs: str = "warning", max_line_bytes: int = MAX_LINE_BYTES
) -> Iterator[Block]:
    """Yield blocks of lines.

    A line that cannot be read is told of, and comes as an empty one.

    :param stream: what to read from.
    :param tell: called with each problem.
    :param repairs: the severity of what had to be repaired: an ``error`` where somebody else reads the file as it is.
    :param max_line_bytes: the longest line that is read.
    """
    at, skipping = _Place(), False
    # The line that the next block begins with, as far as it has been read; joined once, as it may be long.
    begun: list[bytes] = []
    size = 0
    for chunk in _utf8(stream, tell, repairs, at):
        head, end, tail = chunk.rpartition(b"\n")
        if end:
            if skipping:
                head = head[head.find(b"\n") :] if b"\n" in head else b""
            head = b"".join([*begun, head]) if begun else head
            begun, size, skipping = [], 0, False
            lines = head.split(b"\n")
            if b"\r" in head:
                lines = [line[:-1] if line.endswith(b"\r") else line for line in lines]
            yield at.line, lines, head
            at.line += len(lines)
        if skipping:
            continue
        begun.append(tail)
        size += len(tail)
        if size > max_line_bytes:
            text = f"the line is longer than {max_line_bytes:,} bytes: no example is. Is a line end missing?"
            tell(Problem("too_long", text, line=at.line))
            begun, skipping = [], True
    if last := b"".join(begun):
        yield at.line, [last.removesuffix(b"\r")], last


def _utf8(stream: BinaryIO, tell: Tell, repairs: str, at: _Place) -> Iterator[bytes]:
    chunks = _unpacked(stream, tell, repairs, at)
    first = next(chunks, b"")
    while len(first) < 4 and (more := next(chunks, b"")):
        first += more
    if first.startswith(codecs.BOM_UTF8):
        tell(Problem("bom", "the file begins with a byte order mark", severity=repairs, line=1))
        first = first[len(codecs.BOM_UTF8) :]
    elif encoding := _utf16(first):
        tell(Problem("utf16", "the file is UTF-16; write it as UTF-8", severity=repairs, line=1))
        yield from _transcoded(first, chunks, encoding, tell, at)
        return
    yield first
    yield from chunks


def _utf16(start: bytes) -> str | None:
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if start[1:2] == b"\0" and start[:1] != b"\0":
        return "utf-16-le"
    return "utf-16-be" if start[:1] == b"\0" and start[1:2] not in (b"\0", b"") else None


def _transcoded(
    first: bytes, chunks: Iterator[bytes], encoding: str, tell: Tell, at: _Place
) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        yield decoder.decode(first).encode("utf-8")
        for chunk in chunks:
            yield decoder.decode(chunk).encode("utf-8")
        yield decoder.decode(b"", final=True).encode("utf-8")
    except UnicodeError as error:
        tell(Problem("utf16", f"the UTF-16 of the file is broken: {error}", line=at.line))


def _unpacked(stream: BinaryIO, tell: Tell, repairs: str, at: _Place) -> Iterator[bytes]:
    first = stream.read(CHUNK)
    if not first.startswith(b"\x1f\x8b"):
        while first:
            yield first
            first = stream.read(CHUNK)
        return
    tell(Problem("gzip", "the file is packed by gzip", severity=repairs, line=1))
    unpack, packed = zlib.decompressobj(wbits=31), first
    try:
        while packed:
            while packed and not unpack.eof:
                if data := unpack.decompress(packed, CHUNK):
                    yield data
                packed = unpack.unconsumed_tail
            if unpack.eof:  # another member may follow; padding may too
                packed = (unpack.unused_data or stream.read(CHUNK)).lstrip(b"\0")
                unpack = zlib.decompressobj(wbits=31) if packed else unpack
            else:
                packed = stream.read(CHUNK)
        truncated = None if unpack.eof else "it ends too early"
    except zlib.error as error:
        truncated = str(error)
    if truncated:
        tell(Problem("gzip", f"the gzip file is broken: {truncated}", line=at.line))


def rows(
    stream: BinaryIO,
    tell: Tell,
    *,
    repairs: str = "warning",
    max_line_bytes: int = MAX_LINE_BYTES,
    delimiter: str = ",",
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a CSV file, each with the number of its first line; a row that cannot be read is told of.

    :param stream: what to read from.
    :param tell: called with each problem.
    :param repairs: the severity of what had to be repaired.
    :param max_line_bytes: the longest line, and the longest cell, that is read.
    :param delimiter: what stands between two cells.
    """
    text = _TextLines(blocks(stream, tell, repairs=repairs, max_line_bytes=max_line_bytes), tell)
    limit = csv.field_size_limit(max_line_bytes)
    try:
        reader = csv.reader(text, strict=True, delimiter=delimiter)
        header: list[str] | None = None
        while True:
            start, broken = reader.line_num + 1, text.broken
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                # A quote that is never closed has taken all rows after it.
                code = "quote" if "unexpected end of data" in str(error) else "csv"
                tell(Problem(code, f"the row cannot be read: {error}", line=start))
                continue
            if not cells or text.broken != broken:
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                twice = sorted({cell for cell in header if header.count(cell) > 1})
                if twice or "" in header:
                    what = f"column {twice[0]!r} twice" if twice and twice[0] else "a column without a name"
                    tell(Problem("header", f"the header has {what}", line=start))
                    return
            elif len(cells) != len(header):
                tell(
                    Problem(
                        "ragged",
                        f"the row has {len(cells)} cells, the header {len(header)} "
                        "(cells that hold a comma or a line break need quotes)",
                        line=start,
                    )
                )
            else:
                yield start, dict(zip(header, cells, strict=True))
    finally:
        csv.field_size_limit(limit)


class _TextLines:
    """The lines as text, for the CSV reader."""

    def __init__(self, source: Iterator[Block], tell: Tell) -> None:
        self._lines = ((number + i, line) for number, lines, _ in source for i, line in enumerate(lines))
        self._tell = tell
        self.broken = 0

    def __iter__(self) -> _TextLines:
        return self

    def __next__(self) -> str:
        number, line = next(self._lines)
        problem = None
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            problem = bad_utf8(error)
            text = line.decode("utf-8", "replace")
        if "\0" in text:
            problem = Problem("nul", f"there is a NUL character at {text.index(chr(0)) + 1}")
            text = text.replace("\0", "")
        if problem is not None:
            self.broken += 1
            self._tell(Problem(problem.code, problem.message, severity=ERROR, line=number))
        return text + "\n"


def bad_utf8(error: UnicodeDecodeError) -> Problem:
    """Return the problem for bytes that are no UTF-8.

    :param error: what decoding them raised.
    """
    where = f"byte {error.start + 1} of the line"
    return Problem("utf8", f"{where} (0x{error.object[error.start]:02x}) is no UTF-8: {error.reason}")
