"""Checks a whole data set as a stream: each line, its duplicates, its limits, what it shares with another set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from airflow_tuning_provider.datasets.checking import PREFERENCE, camel, check, parse
from airflow_tuning_provider.datasets.duplicates import Duplicates
from airflow_tuning_provider.datasets.lanes import Lanes
from airflow_tuning_provider.datasets.measuring import Meter, Tokens, question, sizes
from airflow_tuning_provider.datasets.problems import ERROR, WARNING, Problem, Report
from airflow_tuning_provider.datasets.reading import MAX_LINE_BYTES, Block, blocks
from airflow_tuning_provider.datasets.rules import Rules

Open = Callable[[], AbstractContextManager[BinaryIO]]
UserCheck = Callable[[dict[str, Any]], "str | None"]

SAMPLE_EXAMPLES = 5_000
"""Up to so many examples are all measured for the token estimate; of more, one block of lines in 64."""
MOST_QUESTIONS = 100_000
"""So many questions of a validation set are looked for in the training set: twenty times what Google takes."""

_SAMPLED = 64


@dataclass
class Seen:
    """What a data set that was read holds.

    :param examples: how many right examples it has.
    :param duplicates: how many lines repeat one before them.
    :param tokens: billable tokens of one pass.
    :param questions: what its examples ask, if that was asked for.
    :param size: its bytes once unpacked.
    """

    examples: int = 0
    duplicates: int = 0
    tokens: Tokens = field(default_factory=lambda: Tokens(estimate=0, low=0, high=0))
    questions: set[str] = field(default_factory=set)
    size: int = 0


class Validator:
    """Checks data sets that exist, by the rules of a model family.

    :param rules: the limits.
    :param report: takes the problems.
    :param kind: ``supervised`` or ``preference``; ``None``: whichever a line looks like.
    :param max_line_bytes: the longest line that is read.
    :param user_check: called with each right example; returns what is wrong with it, if anything. All lines take the
        slow way then.
    """

    def __init__(
        self,
        rules: Rules,
        report: Report,
        *,
        kind: str | None = None,
        max_line_bytes: int = MAX_LINE_BYTES,
        user_check: UserCheck | None = None,
    ) -> None:
        self.rules = rules
        self.report = report
        self.kind = kind
        self.max_line_bytes = max_line_bytes
        self.user_check = user_check

    def validate(
        self, open_file: Open, name: str, *, keep_questions: bool = False, others: set[str] | None = None
    ) -> Seen:
        """Check one file.

        :param open_file: opens it, each time anew: it is read a second time if lines may be equal.
        :param name: its URI, for the problems.
        :param keep_questions: return what its examples ask.
        :param others: what the examples of another set ask, and those of this one must not.
        """
        return _Pass(self, open_file, name, keep_questions, others).run()

    def validate_both(
        self, training: Open, name: str, validation: Open, validation_name: str
    ) -> tuple[Seen, Seen]:
        """Check a training and a validation set, and that no question is in both.

        :param training: opens the training set.
        :param name: its URI.
        :param validation: opens the validation set.
        :param validation_name: its URI.
        """
        small = self.validate(validation, validation_name, keep_questions=True)
        large = self.validate(training, name, others=small.questions)
        for problem in size_problems(self.rules, validation=small.examples, training=large.examples):
            self.report.add(replace(problem, file=validation_name))
        return large, small


def size_problems(rules: Rules, *, validation: int, training: int) -> Iterator[Problem]:
    """Yield what is wrong with the size of a validation set.

    :param rules: the limits.
    :param validation: its examples.
    :param training: those of the training set.
    """
    limit = most_validation(rules, training)
    if validation > limit:
        text = (
            f"{validation:,} validation examples for {training:,} training examples: {limit:,} are taken "
            f"(at most {rules.max_validation_examples:,}, and {rules.max_validation_share:.0%} of the training set "
            f"from {rules.validation_share_from:,} on)"
        )
        yield Problem("validation_size", text, severity=WARNING)


def most_validation(rules: Rules, training: int) -> int:
    """Return how many validation examples the service takes.

    :param rules: the limits.
    :param training: the examples of the training set.
    """
    share = max(int(training * rules.max_validation_share), rules.validation_share_from)
    return min(rules.max_validation_examples, share)


class _Pass:
    """One file on its way through a validator."""

    def __init__(
        self, validator: Validator, open_file: Open, name: str, keep: bool, others: set[str] | None
    ) -> None:
        self._validator, self._open, self._name = validator, open_file, name
        self._rules, self._kind, self._user_check = validator.rules, validator.kind, validator.user_check
        self._keep, self._others = keep, others
        self._lanes = Lanes()
        self._meter = Meter(validator.rules)
        self._duplicates = Duplicates()
        self._seen = Seen()

    def run(self) -> Seen:
        seen, errors = self._seen, self._validator.report.errors
        # What is beside text in a preference, and what the user wants to see, is looked at line by line.
        slow = self._user_check is not None or self._kind == PREFERENCE
        for at, (number, lines, data) in enumerate(self._blocks(self._tell)):
            seen.size += len(data) + 1
            self._duplicates.add(lines)
            measured = seen.examples < SAMPLE_EXAMPLES or at % _SAMPLED == 0
            keep = measured or self._keep or self._others is not None
            found = None if slow else self._lanes.block(lines, data, keep=keep)
            # A line that may be longer than an example can be is measured by itself.
            if found is None or max(map(len, lines)) > self._rules.max_tokens_per_example:
                for i, line in enumerate(lines, number):
                    self._line(i, line, measured, slow)
                continue
            seen.examples += len(lines)
            for i, example in enumerate(found, number):
                self._quick(i, example, measured)
        if self._duplicates.suspects():
            self._tell_duplicates()
        self._tell_of_the_whole(errors)
        seen.tokens = self._meter.tokens(seen.examples)
        return seen

    def _blocks(self, tell: Callable[[Problem], object]) -> Iterator[Block]:
        with self._open() as stream:
            yield from blocks(stream, tell, repairs=ERROR, max_line_bytes=self._validator.max_line_bytes)

    def _tell(self, problem: Problem) -> None:
        self._validator.report.add(replace(problem, file=self._name))

    # -- one line ------------------------------------------------------------------------------------

    def _line(self, number: int, line: bytes, measured: bool, slow: bool) -> None:
        if not line.strip():
            return
        if not slow and len(line) <= self._rules.max_tokens_per_example:
            example = self._lanes.line(line)
            if example is not None:
                self._seen.examples += 1
                self._quick(number, example, measured)
                return
        self._slow(number, line)

    def _quick(self, number: int, example: Any, measured: bool) -> None:
        """Take an example that has taken a lane: each of its turns is one text."""
        contents = example.contents
        if measured:
            texts = [content.parts[0].text for content in contents]
            if (system := getattr(example, "systemInstruction", None)) is not None:
                texts.append(system.parts[0].text)
            self._meter.add((sum(len(text) if text.isascii() else len(text.encode()) for text in texts), 0))
        if self._keep or self._others is not None:
            if len(contents) == 2:
                self._asked(number, contents[0].parts[0].text)
            else:
                turns = [{"role": turn.role, "parts": [{"text": turn.parts[0].text}]} for turn in contents]
                self._asked(number, question({"contents": turns}))

    def _slow(self, number: int, line: bytes) -> None:
        example, problem = parse(line)
        if problem is not None:
            self._tell(replace(problem, line=number))
            return
        right = quick = True
        for problem in check(example, self._rules, kind=self._kind):
            self._tell(replace(problem, line=number))
            quick = False
            right = right and problem.severity == WARNING
        if not right:
            return
        if quick:
            self._lanes.learn(example)
        example = camel(example)
        self._seen.examples += 1
        if self._meter.add(sizes(example)) > self._rules.max_tokens_per_example:
            limit = f"{self._rules.max_tokens_per_example:,}"
            text = f"the example has about more than {limit} tokens: the service cuts it off there"
            self._tell(Problem("too_many_tokens", text, severity=WARNING, line=number))
        if self._user_check is not None and (complaint := self._user_check(example)):
            self._tell(Problem("user_check", str(complaint), line=number))
        if self._keep or self._others is not None:
            self._asked(number, question(example))

    def _asked(self, number: int, text: str) -> None:
        if self._keep and len(self._seen.questions) < MOST_QUESTIONS:
            self._seen.questions.add(text)
        if self._others is not None and text in self._others:
            self._tell(Problem("overlap", "the validation set asks the same question", line=number))

    # -- all lines -----------------------------------------------------------------------------------

    def _tell_duplicates(self) -> None:
        for _, lines, _ in self._blocks(lambda _: None):
            self._duplicates.confirm(lines)
        self._seen.duplicates = self._duplicates.count
        for number, before in self._duplicates.examples:
            text = f"the line is the same as line {before + 1}"
            self._tell(Problem("duplicate", text, severity=WARNING, line=number + 1))
        if more := self._duplicates.count - len(self._duplicates.examples):
            self._tell(Problem("duplicate", f"{more:,} more lines repeat another", severity=WARNING))

    def _tell_of_the_whole(self, errors: int) -> None:
        seen, rules = self._seen, self._rules
        if seen.examples == 0 and self._validator.report.errors == errors:
            self._tell(Problem("empty", "the file has no examples"))
        limit = rules.max_media_examples if self._meter.media else rules.max_examples
        if seen.examples > limit:
            text = f"{seen.examples:,} examples: {limit:,} are taken"
            self._tell(Problem("examples", text, severity=WARNING))
        if seen.size > rules.max_file_bytes:
            text = f"the file has {seen.size:,} bytes: {rules.max_file_bytes:,} are taken"
            self._tell(Problem("file_size", text, severity=WARNING))
