"""From raw rows to the files of a tuning job, as a stream: convert, check, deduplicate, split.

Everything is spooled into anonymous temporary files, which vanish with the process, and nothing is published here.
"""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import IO, Any, BinaryIO

from airflow_tuning_provider.datasets.checking import camel, check, parse
from airflow_tuning_provider.datasets.converting import ConversionError, Converter
from airflow_tuning_provider.datasets.duplicates import Bits, Duplicates, Pairs
from airflow_tuning_provider.datasets.measuring import (
    Classes,
    Meter,
    Tokens,
    answer,
    missing,
    question,
    sizes,
)
from airflow_tuning_provider.datasets.problems import ERROR, WARNING, BrokenDataError, Problem, Report
from airflow_tuning_provider.datasets.reading import MAX_LINE_BYTES, blocks, rows
from airflow_tuning_provider.datasets.rules import Rules
from airflow_tuning_provider.datasets.splitting import HELD_OUT, SPLITS, TRAIN, VALIDATION, Splitter
from airflow_tuning_provider.datasets.validating import UserCheck, most_validation

LAYOUT = b"1"
"""The version of what is written: it is part of the content's hash."""

_TAGS = {b"t": TRAIN, b"v": VALIDATION, b"h": HELD_OUT}
_TAG_OF = {name: tag for tag, name in _TAGS.items()}
_CODES = {name: code for code, name in enumerate(SPLITS)}
_BATCH = 1 << 20
_CUT_OFF = ("gzip", "utf16", "header", "quote")


@dataclass
class PreparedFile:
    """One set, written to a temporary file.

    :param examples: how many there are.
    :param file: the file, at its beginning.
    :param bytes: its size.
    :param md5: its checksum, as storage services tell it; hexadecimal.
    :param sha256: its hash; hexadecimal.
    """

    examples: int
    file: IO[bytes]
    bytes: int
    md5: str
    sha256: str


@dataclass
class Prepared:
    """What came of the rows.

    :param files: the sets that are not empty.
    :param content_hash: the same for the same content, whatever file it comes from; hexadecimal.
    :param tokens: billable tokens of one pass over the training set.
    :param classes: how often each class is in each set, ``None`` where the answers are no labels.
    :param missing_classes: the training set's classes that each other set lacks.
    :param dropped: how many rows were left out, by reason.
    """

    files: dict[str, PreparedFile]
    content_hash: str
    tokens: Tokens
    classes: dict[str, dict[str, int]] | None
    missing_classes: dict[str, list[str]] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)


class Preparation:
    """Prepares one data set: :meth:`read` each source, then :meth:`finish`.

    :param rules: the limits.
    :param report: takes the problems.
    :param convert: makes an example of a row; raises :class:`ConversionError` for what it cannot.
    :param splitter: says which set a key belongs to.
    :param group_by: the column whose value keeps rows together, as a customer's id does; without one, rows that ask the
        same question stay together.
    :param user_check: called with each example; returns why it is to be left out, if it is.
    :param max_line_bytes: the longest line that is read.
    """

    def __init__(
        self,
        rules: Rules,
        report: Report,
        *,
        convert: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None,
        splitter: Splitter,
        group_by: str | None = None,
        user_check: UserCheck | None = None,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        self._rules = rules
        self._report = report
        self._convert = convert or Converter()
        self._splitter = splitter
        self._group_by = group_by or None
        self._user_check = user_check
        self._max_line_bytes = max_line_bytes
        self._spool: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._kept = 0
        self._duplicates = Duplicates()
        self._questions = Pairs()
        self._splits = bytearray()
        self._dropped: Counter[str] = Counter()
        self.bad_rows = 0
        """How many rows were left out because they are broken."""
        self.cut_off = False
        """Whether rows are missing because a file could not be read to its end: these are not to be done without."""

    # -- reading -------------------------------------------------------------------------------------

    def read(self, stream: BinaryIO, name: str, *, csv: bool = False, delimiter: str = ",") -> None:
        """Take the rows of one source.

        :param stream: what to read from.
        :param name: its URI, for the problems.
        :param csv: whether it is CSV with a header; else JSON lines.
        :param delimiter: what stands between two cells of CSV.
        """
        self._name = name
        found: Iterator[tuple[int, Any]]
        if csv:
            found = rows(stream, self._tell_bad, max_line_bytes=self._max_line_bytes, delimiter=delimiter)
        else:
            found = self._objects(stream)
        while some := list(itertools.islice(found, 1000)):
            self._keep(filter(None, (self._example(number, row) for number, row in some)))

    def _tell(self, problem: Problem) -> None:
        self._report.add(replace(problem, file=self._name))

    def _tell_bad(self, problem: Problem) -> None:
        if problem.severity == ERROR:
            self.bad_rows += 1
            self.cut_off = self.cut_off or problem.code in _CUT_OFF
            self._dropped[problem.code] += 1
        self._tell(problem)

    def _objects(self, stream: BinaryIO) -> Iterator[tuple[int, Any]]:
        for first, lines, _ in blocks(stream, self._tell_bad, max_line_bytes=self._max_line_bytes):
            for number, line in enumerate(lines, first):
                if not line.strip():
                    continue
                row, problem = parse(line)
                if problem is None and not isinstance(row, Mapping):
                    problem = Problem("type", "a row is a JSON object")
                if problem is not None:
                    self._tell_bad(replace(problem, line=number))
                else:
                    yield number, row

    def _example(self, number: int, row: Mapping[str, Any]) -> tuple[str, str, bytes] | None:
        """Return the set, the question and the line of a row, ``None`` if it is broken."""
        problem: Problem | None
        try:
            example = self._convert(row)
        except ConversionError as error:
            self._tell_bad(Problem("conversion", error.message, path=error.path, line=number))
            return None
        except Exception as error:  # noqa: BLE001 - a user's callable may raise anything
            self._tell_bad(Problem("conversion", f"{type(error).__name__}: {error}", line=number))
            return None
        found = [
            problem
            for problem in check(example, self._rules)
            if problem.code != "unknown_field" or problem.path != self._group_by
        ]
        broken = [problem for problem in found if problem.severity == ERROR]
        for problem in found:
            if problem not in broken:
                self._tell(replace(problem, line=number))
        for i, problem in enumerate(broken):
            (self._tell_bad if i == 0 else self._tell)(replace(problem, line=number))
        if broken:
            return None
        example = camel(example)
        if self._group_by is not None and self._group_by in row:
            example.pop(self._group_by, None)
        if self._user_check is not None and (complaint := self._user_check(example)):
            self._dropped["user_check"] += 1
            self._tell(Problem("user_check", f"left out: {complaint}", severity=WARNING, line=number))
            return None
        asked = question(example)
        key = asked
        if self._group_by is not None:
            group = row.get(self._group_by)
            if group is None or group == "":
                text = f"the row has no {self._group_by}, by which rows are kept together"
                self._tell_bad(Problem("group", text, path=self._group_by, line=number))
                return None
            key = group if isinstance(group, str) else repr(group)
        line = _encoded(example)
        limit = self._rules.max_tokens_per_example
        if len(line) > limit and Meter(self._rules).add(sizes(example)) > limit:
            text = f"the example has about more than {limit:,} tokens: the service cuts it off there"
            self._tell(Problem("too_many_tokens", text, severity=WARNING, line=number))
        return self._splitter(key), asked, line

    def _keep(self, examples: Iterator[tuple[str, str, bytes]]) -> None:
        some = list(examples)
        lines = [line for _, _, line in some]
        self._duplicates.add(lines)
        self._splits += bytes(_CODES[split] for split, _, _ in some)
        if self._group_by is not None:
            self._questions.extend([hash(asked) for _, asked, _ in some], self._kept)
        self._kept += len(some)
        self._spool.writelines(line + b"\n" for line in lines)

    # -- what all rows together say ------------------------------------------------------------------

    def finish(self) -> Prepared:
        """Drop what is twice, divide the rest, and write each set to a temporary file.

        :raises BrokenDataError: if no training example is left.
        """
        leaks = self._leaks()
        if self._duplicates.suspects():
            at = 0
            for lines in self._spooled():
                # What is left out as a leak is not what another example repeats.
                self._duplicates.confirm([b"" if leaks[at + i] else line for i, line in enumerate(lines)])
                at += len(lines)
        writers = {split: _Writer() for split in SPLITS}
        meter, classes = Meter(self._rules), Classes()
        duplicates = leaked = 0
        number = 0
        limit = self._validation_limit(leaks)
        for lines in self._spooled():
            for line in lines:
                split = SPLITS[self._splits[number]]
                duplicate, leak = self._duplicates.repeats(number), leaks[number]
                number += 1
                if duplicate:
                    duplicates += 1
                elif leak:
                    leaked += 1
                elif split == VALIDATION and writers[split].examples >= limit:
                    self._dropped["validation_size"] += 1
                else:
                    writers[split].write(line)
                    self._measure(line, split, meter, classes)
        self._tell_dropped(duplicates, leaked, limit)
        return self._result(writers, meter, classes)

    def _spooled(self) -> Iterator[list[bytes]]:
        self._spool.seek(0)
        while lines := self._spool.readlines(_BATCH):
            yield [line[:-1] for line in lines]

    def _leaks(self) -> Bits:
        """Return which examples ask what one of a set that weighs more does: held out, then validation, then train."""
        leaks = Bits()
        for group in self._questions.groups():
            sets = {self._splits[number] for number in group}
            for number in group if len(sets) > 1 else ():
                if self._splits[number] != max(sets):
                    leaks.set(number)
        return leaks

    def _validation_limit(self, leaks: Bits) -> int:
        training = self._splits.count(_CODES[TRAIN]) - leaks.count - self._duplicates.count
        return most_validation(self._rules, max(training, 0))

    def _measure(self, line: bytes, split: str, meter: Meter, classes: Classes) -> None:
        from msgspec import json

        example = json.decode(line)
        classes.add(split, answer(example))
        if split != TRAIN:
            return
        meter.add(sizes(example))

    def _tell_dropped(self, duplicates: int, leaked: int, limit: int) -> None:
        if duplicates:
            self._dropped["duplicate"] = duplicates
            self._tell(
                Problem("duplicate", f"{duplicates:,} examples repeat another: left out", severity=WARNING)
            )
        if leaked:
            self._dropped["overlap"] = leaked
            text = (
                f"{leaked:,} examples ask what an example of another set asks, "
                f"although their {self._group_by} differs: left out of the set that weighs less"
            )
            self._tell(Problem("overlap", text, severity=WARNING))
        if full := self._dropped["validation_size"]:
            text = f"the service takes {limit:,} validation examples here: {full:,} were left out; lower its share"
            self._tell(Problem("validation_size", text, severity=WARNING))
        self._dropped += Counter()

    def _result(self, writers: Mapping[str, _Writer], meter: Meter, classes: Classes) -> Prepared:
        files = {split: writer.close() for split, writer in writers.items() if writer.examples}
        if TRAIN not in files:
            raise BrokenDataError("no training example is left")
        whole = hashlib.sha256(LAYOUT)
        for split, file in files.items():
            whole.update(f"\n{split} {file.sha256}".encode())
        for problem in self._whole_problems(files, meter):
            self._tell(problem)
        balance = classes.balance()
        lacking = {split: lost for split in (VALIDATION, HELD_OUT) if (lost := list(missing(balance, split)))}
        for split, lost in lacking.items():
            text = f"no {split} example has the class {', '.join(map(repr, lost[:10]))}"
            self._tell(Problem("missing_class", text, severity=WARNING))
        return Prepared(
            files=files,
            content_hash=whole.hexdigest(),
            tokens=meter.tokens(),
            classes=balance,
            missing_classes=lacking,
            dropped=dict(sorted(self._dropped.items())),
        )

    def _whole_problems(self, files: Mapping[str, PreparedFile], meter: Meter) -> Iterator[Problem]:
        rules, train = self._rules, files[TRAIN]
        limit = rules.max_media_examples if meter.media else rules.max_examples
        if train.examples > limit:
            text = f"{train.examples:,} training examples: {limit:,} are taken"
            yield Problem("examples", text, severity=WARNING)
        if train.examples < rules.recommended_examples:
            text = f"{train.examples:,} training examples: {rules.recommended_examples:,} or more are recommended"
            yield Problem("few_examples", text, severity=WARNING)
        for split, file in files.items():
            if file.bytes > rules.max_file_bytes:
                text = f"the {split} set has {file.bytes:,} bytes: {rules.max_file_bytes:,} are taken"
                yield Problem("file_size", text, severity=WARNING)


class _Writer:
    """Writes one set to an anonymous file."""

    def __init__(self) -> None:
        self.examples = 0
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._bytes = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()

    def write(self, line: bytes) -> None:
        line += b"\n"
        self._file.write(line)
        self._md5.update(line)
        self._sha256.update(line)
        self._bytes += len(line)
        self.examples += 1

    def close(self) -> PreparedFile:
        self._file.flush()
        self._file.seek(0)
        return PreparedFile(
            self.examples, self._file, self._bytes, self._md5.hexdigest(), self._sha256.hexdigest()
        )


def _encoded(example: dict[str, Any]) -> bytes:
    from msgspec import json

    return json.encode(example, order="deterministic")


def detect_csv(name: str) -> str | None:
    """Return the delimiter of a file that its name says is CSV, ``None`` for any other.

    :param name: its name or URI.
    """
    short = name.lower().removesuffix(".gz")
    return "," if short.endswith(".csv") else "\t" if short.endswith(".tsv") else None
