"""Finds equal lines in bounded memory: digests in partitions on disk, and every suspicion verified byte by byte.

finder = Duplicates()
for lines in the_data: finder.add(lines)
if finder.suspects(): for lines in the_data: finder.confirm(lines)
finder.repeats(i)
"""

from __future__ import annotations

import tempfile
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import IO

PARTITIONS = 64
_HELD = 16_384


class Pairs:
    """Pairs of a digest and a number, grouped by digest, however many there are.

    They are kept in anonymous files, which leave nothing behind.
    """

    def __init__(self) -> None:
        self._held = [array("q") for _ in range(PARTITIONS)]
        self._files: list[IO[bytes] | None] = [None] * PARTITIONS

    def extend(self, digests: Sequence[int], first: int) -> None:
        """Add digests with consecutive numbers.

        :param digests: 64-bit integers.
        :param first: the first one's number.
        """
        held = self._held
        mask = PARTITIONS - 1
        number = first
        for digest in digests:
            some = held[digest & mask]
            some.append(digest)
            some.append(number)
            number += 1
        for i, some in enumerate(held):
            if len(some) >= _HELD:
                self._spill(i)

    def _spill(self, i: int) -> None:
        file = self._files[i]
        if file is None:
            file = self._files[i] = tempfile.TemporaryFile()  # noqa: SIM115
        self._held[i].tofile(file)
        self._held[i] = array("q")

    def groups(self) -> Iterator[list[int]]:
        """Yield the numbers of each digest that came more than once, in order."""
        for i in range(PARTITIONS):
            pairs = array("q")
            if (file := self._files[i]) is not None:
                file.seek(0)
                pairs.frombytes(file.read())
            pairs.extend(self._held[i])
            digests = pairs[::2]
            if len(set(digests)) == len(digests):
                continue
            found: dict[int, list[int]] = {}
            seen: set[int] = set()
            twice = {digest for digest in digests if digest in seen or seen.add(digest)}  # type: ignore[func-returns-value]
            for at, digest in enumerate(digests):
                if digest in twice:
                    found.setdefault(digest, []).append(pairs[2 * at + 1])
            yield from found.values()

    def close(self) -> None:
        """Give the disk space back."""
        for file in self._files:
            if file is not None:
                file.close()


class Bits:
    """One bit for each number."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self.count = 0

    def set(self, number: int) -> None:
        """Set the bit of a number.

        :param number: 0 or more.
        """
        at = number >> 3
        if at >= len(self._bytes):
            self._bytes.extend(bytes(at + 1 - len(self._bytes)))
        if not self[number]:
            self.count += 1
            self._bytes[at] |= 1 << (number & 7)

    def __getitem__(self, number: int) -> bool:
        at = number >> 3
        return at < len(self._bytes) and bool(self._bytes[at] >> (number & 7) & 1)


class Duplicates:
    """Finds lines that are byte for byte the same. Lines are numbered from 0.

    :param digest: makes 64 bits of a line; they only raise suspicion.
    """

    def __init__(self, digest: Callable[[bytes], int] = hash) -> None:
        self._digest = digest
        self._digests = [array("q") for _ in range(PARTITIONS)]
        self._spilt: list[IO[bytes] | None] = [None] * PARTITIONS
        self._added = 0
        self._twice: list[array[int]] = []
        self._files: list[IO[bytes] | None] = [None] * PARTITIONS
        self._confirmed = 0
        self._found: Bits | None = None
        self.examples: list[tuple[int, int]] = []
        """Up to 1,000 lines that repeat another, each with the one that it repeats."""

    def add(self, lines: Sequence[bytes]) -> None:
        """Take lines in their order. Blank ones are numbered, but repeat nothing."""
        self._added += len(lines)
        if b"" in lines:
            lines = list(filter(None, lines))
        mask = PARTITIONS - 1
        append = [some.append for some in self._digests]
        for digest in map(self._digest, lines):
            append[digest & mask](digest)
        for i, some in enumerate(self._digests):
            if len(some) >= _HELD:
                file = self._spilt[i]
                if file is None:
                    file = self._spilt[i] = tempfile.TemporaryFile()  # noqa: SIM115
                some.tofile(file)
                del some[:]

    def suspects(self) -> bool:
        """Whether there may be duplicates, so that all lines have to be confirmed."""
        for i, some in enumerate(self._digests):
            digests = array("q")
            if (file := self._spilt[i]) is not None:
                file.seek(0)
                digests.frombytes(file.read())
                file.close()
            digests.extend(some)
            seen = set(digests)
            twice = array("q")
            if len(seen) < len(digests):
                for digest in digests:
                    if digest in seen:
                        seen.remove(digest)
                    else:
                        twice.append(digest)
                twice = array("q", sorted(set(twice)))
            self._twice.append(twice)
            self._digests[i] = array("q")
        return any(self._twice)

    def _is_suspect(self, line: bytes) -> bool:
        digest = self._digest(line)
        twice = self._twice[digest & (PARTITIONS - 1)]
        at = bisect_left(twice, digest)
        return at < len(twice) and twice[at] == digest

    def confirm(self, lines: Sequence[bytes]) -> None:
        """Take all the same lines once more, in the same order."""
        for line in lines:
            if line.strip() and self._is_suspect(line):
                i = self._digest(line) & (PARTITIONS - 1)
                file = self._files[i]
                if file is None:
                    file = self._files[i] = tempfile.TemporaryFile()  # noqa: SIM115
                file.write(b"%d %d\n" % (self._confirmed, len(line)))
                file.write(line)
            self._confirmed += 1

    def repeats(self, number: int) -> bool:
        """Whether a line is the same as one before it.

        :param number: its number, from 0.
        """
        if self._found is None:
            self._found = self._compare()
        return self._found[number]

    @property
    def count(self) -> int:
        """How many lines repeat one before them."""
        self.repeats(0)
        assert self._found is not None
        return self._found.count

    def _compare(self) -> Bits:
        found = Bits()
        if any(self._twice) and self._confirmed != self._added:
            raise RuntimeError("not the same lines were confirmed as were added")
        for file in self._files:
            if file is None:
                continue
            file.seek(0)
            first: dict[bytes, int] = {}
            while header := file.readline():
                number, size = map(int, header.split())
                line = file.read(size)
                if (before := first.setdefault(line, number)) != number:
                    found.set(number)
                    if len(self.examples) < 1000:
                        self.examples.append((number, before))
            file.close()
        self.examples.sort()
        return found
