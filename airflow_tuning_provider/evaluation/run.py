"""One evaluation from the held-out lines to its result: read, ask, compare, report."""

from __future__ import annotations

import hashlib
import heapq
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from airflow_tuning_provider.api.errors import ApiError
from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.prices import AS_OF
from airflow_tuning_provider.evaluation.answer_index import AnswerIndex
from airflow_tuning_provider.evaluation.answers import Answer
from airflow_tuning_provider.evaluation.asking import Asker, AskingError, BudgetError, Question, Tally
from airflow_tuning_provider.evaluation.comparison import MAX_LABELS, Comparison, Result
from airflow_tuning_provider.evaluation.examples import Example, Replay, with_lowest_thinking
from airflow_tuning_provider.evaluation.journal import Journal, publish, publish_file
from airflow_tuning_provider.evaluation.judge import NAME as JUDGE
from airflow_tuning_provider.evaluation.judge import Judge, settled, share
from airflow_tuning_provider.evaluation.metrics import (
    FOR_LABELS,
    FOR_TEXT,
    LabelMetric,
    Metric,
    Parse,
    normalize,
    resolve,
)
from airflow_tuning_provider.evaluation.pace import Pace
from airflow_tuning_provider.evaluation.prices import Price
from airflow_tuning_provider.evaluation.statistics import Paired
from airflow_tuning_provider.evaluation.summary import ROLES, Kept, SideStats

log = logging.getLogger(__name__)

_LONGEST_LABEL = 60

Json = dict[str, Any]


@dataclass(frozen=True)
class Side:
    """One of the two models.

    :param model: full name of what is asked: an endpoint, or a publisher's model.
    :param base_model: the base model, as far as known.
    :param price: what its answers cost, as far as known.
    """

    model: str
    base_model: str | None = None
    price: Price | None = None


@dataclass(frozen=True)
class Settings:
    """What an evaluation is to do.

    :param metrics: what :func:`~airflow_tuning_provider.evaluation.metrics.resolve` takes; ``None`` for accuracy and
        macro-F1 where the references are labels, else normalised match, token F1 and ROUGE-L.
    :param decide_by: the metric that the verdict is of; default: the first.
    :param labels: the classes; ``None`` finds them: where few distinct short references come again and again.
    :param parse: makes an answer's text into what is compared.
    :param confidence: of the intervals.
    :param seed: of the bootstrap and of the sample.
    :param max_examples: ask only a seeded sample of so many lines.
    :param max_calls: how many requests may be sent.
    :param max_cost: US dollars that the answers may cost.
    :param max_failed_share: share of the questions that may stay without an answer for reasons none of the model's.
    :param max_concurrency: how many requests may be under way at a time.
    :param lowest_thinking: ask for the least thinking, unless a line says otherwise.
    :param replay: how lines become requests.
    :param shard: ask and compare only one of several parts of the lines: its number, from 0, and how many there are.
    :param judge: a model that compares the two answers; the metric ``judge`` is its.
    :param judge_price: what its judgements cost, as far as known.
    """

    metrics: Any = None
    decide_by: str | None = None
    labels: Sequence[str] | None = None
    parse: Parse | None = None
    confidence: float = 0.95
    seed: int = 0
    max_examples: int | None = None
    max_calls: int = 20_000
    max_cost: float | None = None
    max_failed_share: float = 0.02
    max_concurrency: int = 16
    lowest_thinking: bool = True
    replay: Replay = field(default_factory=Replay)
    shard: tuple[int, int] | None = None
    judge: Judge | None = None
    judge_price: Price | None = None


@dataclass
class Survey:
    """What the held-out lines are.

    :param examples: how many examples there are, and how many of them are asked.
    :param sha256: digest of the file.
    :param labels: the distinct references, where they look like labels; empty otherwise.
    """

    examples: int = 0
    asked: int = 0
    sha256: str = ""
    labels: list[str] = field(default_factory=list)
    input_tokens: int = 0
    output_tokens: int = 0
    _threshold: int | None = None


class Evaluation:
    """Evaluates a candidate beside a baseline.

    :param ask: sends a request to a model once: takes its name and the body; safe to call from threads.
    :param sides: the candidate and the baseline.
    :param lines: a local file with the held-out lines, which does not change meanwhile.
    :param answers: directory for the answers, shared by all who ask the same models the same; a local path, or one of
        an object store.
    :param scratch: a local directory for what need not outlive this process.
    """

    def __init__(
        self,
        ask: Callable[[str, Json], Json | ApiError],
        sides: tuple[Side, Side],
        lines: Path,
        answers: Any,
        scratch: Path,
        settings: Settings,
        *,
        stopped: Callable[[], bool] = bool,
    ) -> None:
        if sides[0].model == sides[1].model:
            raise InvalidInputError(
                "baseline", sides[1].model, "it is the candidate itself: name another model"
            )
        self.sides = sides
        self.settings = settings
        self._ask = ask
        self._lines = lines
        self._stopped = stopped
        self._scratch = scratch
        judge = settings.judge
        self._asked = [
            *sides,
            *([Side(judge.model, judge.base_model, settings.judge_price)] if judge else []),
        ]
        self._journals = [Journal(answers / self._directory(side)) for side in self._asked]
        self._index = AnswerIndex(scratch / "answers.sqlite")
        self.spent = [0.0] * len(self._asked)
        self.reused = 0
        self.tally = Tally()
        self.survey = Survey()

    def _directory(self, side: Side) -> str:
        what = [
            side.model,
            side.base_model if self.settings.lowest_thinking else None,
            self.settings.lowest_thinking,
        ]
        digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]
        return f"{side.model.rpartition('/')[2]}-{digest}"

    # -- read ----------------------------------------------------------------------------------------

    def read(self) -> Survey:
        """Read all held-out lines once: check them, count them, find the classes.

        :raises InvalidInputError: naming the line and the field of the first that cannot be used.
        """
        survey = Survey()
        digest = hashlib.sha256()
        references: Counter[str] = Counter()
        spelled: dict[str, Counter[str]] = {}
        smallest: list[int] = []
        many = False
        in_shard = 0
        most = self.settings.max_examples
        for example in self._examples(digest.update):
            survey.examples += 1
            in_shard += self._in_shard(example)
            tokens = example.estimated_tokens
            survey.input_tokens += tokens[0]
            survey.output_tokens += tokens[1]
            if most is not None:
                place = self._place(example)
                if len(smallest) < most:
                    heapq.heappush(smallest, -place)
                elif place < -smallest[0]:
                    heapq.heapreplace(smallest, -place)
            if not many:
                label = normalize(example.reference)
                references[label] += 1
                spelled.setdefault(label, Counter())[example.reference.strip()] += 1
                many = len(references) > MAX_LABELS or len(example.reference.strip()) > _LONGEST_LABEL
        if not survey.examples:
            raise InvalidInputError("held_out_uri", str(self._lines.name), "the file has no examples")
        survey.sha256 = digest.hexdigest()
        survey.asked = min(in_shard, most or in_shard)
        if not survey.asked:
            raise InvalidInputError("shard", self.settings.shard, "no line belongs to it: make fewer of them")
        if most is not None and survey.asked < survey.examples:
            survey._threshold = -smallest[0]
        if not many and len(references) >= 2 and 2 * len(references) <= survey.examples:
            survey.labels = sorted(spelled[label].most_common(1)[0][0] for label in references if label)
        self.survey = survey
        return survey

    def _examples(self, digest: Callable[[bytes], None] | None = None) -> Iterator[Example]:
        def lines(file: Iterable[bytes]) -> Iterator[bytes]:
            for line in file:
                if digest is not None:
                    digest(line)
                yield line

        with self._lines.open("rb") as file:
            yield from self.settings.replay.examples(lines(file))

    def _chosen(self) -> Iterator[Example]:
        threshold = self.survey._threshold
        taken = 0
        for example in self._examples():
            if not self._in_shard(example):
                continue
            if threshold is None or (self._place(example) <= threshold and taken < self.survey.asked):
                taken += 1
                yield example

    def _in_shard(self, example: Example) -> bool:
        """Whether a line is in the part that is asked: by its question, so that equal ones are in one part."""
        shard = self.settings.shard
        return shard is None or int(example.key[:12], 16) % shard[1] == shard[0]

    def _place(self, example: Example) -> int:
        text = f"{self.settings.seed}:{example.number}:{example.key}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")

    def comparison(self) -> Comparison:
        """Return what takes the answers; call it before anything is asked, as it refuses metrics that cannot be.

        :raises InvalidInputError: for a metric that needs classes where there are none, or a package that is missing.
        """
        settings = self.settings
        labels = list(self.survey.labels if settings.labels is None else settings.labels)
        metrics: list[Metric | LabelMetric] = resolve(
            settings.metrics if settings.metrics is not None else FOR_LABELS if labels else FOR_TEXT
        )
        if settings.judge is not None:
            metrics.append(Metric(JUDGE, _not_computed))
        if settings.decide_by and settings.decide_by not in [metric.name for metric in metrics]:
            names = ", ".join(metric.name for metric in metrics)
            raise InvalidInputError("decide_by", settings.decide_by, f"give one of the metrics: {names}")
        return Comparison(metrics, labels, settings.parse, settings.confidence, settings.seed)

    # -- ask -----------------------------------------------------------------------------------------

    def ask(self) -> Tally:
        """Ask both models whatever they have not yet answered.

        :raises InvalidInputError: if that is more than ``max_calls``, or dearer than ``max_cost``.
        :raises AskingError: if it has to stop; what was answered is kept.
        """
        for side, journal in enumerate(self._journals):
            for entry in journal.read():
                self._index.add(side, entry["key"], entry)
        missing = self._missing()
        self._check_budget(missing)
        log.info(
            "Asking %s and %s about %d examples: %d questions, %d were answered before%s.",
            *(side.model for side in self.sides),
            self.survey.asked,
            sum(missing),
            self.reused,
            "" if (cost := self.estimate(missing)) is None else f", about ${cost:.4f}",
        )
        total = sum(missing) + self.reused
        started = time.monotonic()

        def progress(tally: Tally, pace: Pace) -> None:
            left = sum(missing) - tally.answered - len(tally.failed)
            seconds = (time.monotonic() - started) / max(tally.answered, 1) * left
            log.info(
                "%d of %d answers, %d at a time, %d refused for lack of quota, %d asked again; about %.0f s left, "
                "$%.4f so far.",
                self.reused + tally.answered,
                total,
                pace.window,
                tally.quota,
                tally.retried,
                seconds,
                sum(self.spent),
            )

        pace = Pace(self.settings.max_concurrency)
        try:
            for questions in (self._questions(), self._judgements()):
                Asker(
                    lambda question: self._ask(question.model, question.request),
                    self._record,
                    pace,
                    self.settings.max_failed_share * total,
                    self.settings.max_calls - self.reused,
                    self._stopped,
                    progress,
                    tally=self.tally,
                ).run(questions)
        finally:
            for journal in self._journals:
                journal.close()
        progress(self.tally, pace)
        return self.tally

    def estimate(self, questions: Sequence[int]) -> float | None:
        """Return about what so many questions to each side cost, in US dollars; ``None`` if a price is not known."""
        total = 0.0
        survey = self.survey
        for number, (side, count) in enumerate(zip(self._asked, questions, strict=True)):
            if side.price is None:
                return None
            # A judge reads the question and three answers, and says a word.
            judges = number == 2
            read = survey.input_tokens + 3 * survey.output_tokens + 150 * survey.examples
            tokens = (read, 5 * survey.examples) if judges else (survey.input_tokens, survey.output_tokens)
            total += count / survey.examples * side.price.of(*tokens)
        return total

    def _missing(self) -> list[int]:
        missing = [0] * len(self._asked)
        for example in self._chosen():
            key = example.key
            for side in (0, 1):
                if not self._index.is_first("counted", side, key):
                    continue
                entry = self._index.get(side, key)
                if entry is None:
                    missing[side] += 1
                else:
                    self.reused += 1
                    self._spend(side, Answer.from_json(entry))
            # What it has judged before is known once there are answers: this is the most that it can be.
            missing[2:] = [count + 2 for count in missing[2:]]
        return missing

    def _check_budget(self, missing: Sequence[int]) -> None:
        settings = self.settings
        needed = sum(missing) + self.reused
        if needed > settings.max_calls:
            raise InvalidInputError(
                "max_calls",
                settings.max_calls,
                f"{needed} questions are to be asked: allow as many, or ask a sample (max_examples="
                f"{settings.max_calls // (4 if settings.judge else 2)})",
            )
        if settings.max_cost is None:
            return
        estimate = self.estimate(missing)
        if estimate is None:
            unknown = next(side.model for side in self._asked if side.price is None)
            raise InvalidInputError(
                "max_cost", settings.max_cost, f"the price of {unknown} is not known: give it in prices"
            )
        if estimate + sum(self.spent) > settings.max_cost:
            raise InvalidInputError(
                "max_cost",
                settings.max_cost,
                f"the answers would cost about ${estimate + sum(self.spent):.4f}: allow as much, or ask a sample "
                "(max_examples)",
            )

    def _questions(self) -> Iterator[Question]:
        for example in self._chosen():
            key = example.key
            for side, model in enumerate(self.sides):
                if self._index.get(side, key) is not None or not self._index.is_first("asked", side, key):
                    continue
                request = example.request
                if self.settings.lowest_thinking:
                    request = with_lowest_thinking(request, model.base_model)
                yield Question(side, key, example.number, model.model, request)

    def _judgements(self) -> Iterator[Question]:
        judge = self.settings.judge
        for example in self._chosen() if judge else ():
            one, other = self._answer(0, example.key), self._answer(1, example.key)
            if judge is None or one is None or other is None:
                continue
            for request in judge.requests(example, one, other):
                key = _key(request)
                if not self._index.is_first("asked", 2, key):
                    continue
                entry = self._index.get(2, key)
                if entry is not None:
                    self.reused += 1
                    self._spend(2, Answer.from_json(entry))
                    continue
                if self.settings.lowest_thinking:
                    request = with_lowest_thinking(request, judge.base_model)
                yield Question(2, key, example.number, judge.model, request)

    def _judged(self, example: Example, one: Answer, other: Answer) -> float | None:
        """Return the candidate's share of an example's judgements, ``None`` if one is missing."""
        judge = self.settings.judge
        assert judge is not None
        if (known := settled(one, other)) is not None:
            return known
        said = [self._answer(2, _key(request)) for request in judge.requests(example, one, other)]
        return None if said[0] is None or said[1] is None else share(said[0], said[1])

    def _record(self, question: Question, answer: Answer) -> None:
        entry = {"key": question.key, "line": question.number, **answer.as_json()}
        self._journals[question.side].add(entry)
        self._index.add(question.side, question.key, entry)
        self._spend(question.side, answer)
        most = self.settings.max_cost
        if most is not None and sum(self.spent) > most:
            raise BudgetError(f"The answers have cost ${sum(self.spent):.4f}, max_cost={most} is allowed.")

    def _spend(self, side: int, answer: Answer) -> None:
        price = self._asked[side].price
        if price is not None:
            self.spent[side] += price.of(answer.input_tokens, answer.output_tokens)

    # -- compare -------------------------------------------------------------------------------------

    def compare(self, comparison: Comparison, predictions: Any, decide_by: str | None = None) -> Compared:
        """Compare all answers, and write what became of each example.

        An example that one of the two models has not answered, for a reason that is none of the model's, counts for
        neither.

        :param predictions: where the results of single examples go, as JSON lines.
        """
        draft = self._scratch / "predictions.jsonl"
        # Macro-F1 has no single examples: then those of the first metric that has.
        single = [metric for metric in comparison.metrics if isinstance(metric, Metric)]
        shown = next((metric for metric in single if metric.name == decide_by), single[0] if single else None)
        kept = Kept(shown.name, shown.greater_is_better) if shown else Kept("")
        stats = [SideStats(), SideStats()]
        failed = 0
        with draft.open("w", encoding="utf-8", errors="replace") as file:
            for example in self._chosen():
                row: Json = {
                    "line": example.number,
                    "question": example.question,
                    "reference": example.reference,
                }
                answers = [self._answer(side, example.key) for side in (0, 1)]
                one, other = answers
                given: dict[str, tuple[float, float]] = {}
                if one is not None and other is not None and self.settings.judge is not None:
                    judged = self._judged(example, one, other)
                    given = {} if judged is None else {JUDGE: (judged, 1 - judged)}
                unjudged = self.settings.judge is not None and not given
                if one is None or other is None or unjudged:
                    failed += 1
                    row["failed"] = {
                        role: self.tally.failed.get((side, example.key), "no answer")
                        for side, role in enumerate(ROLES)
                        if answers[side] is None
                    } or {JUDGE: "no judgement"}
                else:
                    scores = comparison.add(example.reference, one.text, other.text, given)
                    for stat, answer in zip(stats, (one, other), strict=True):
                        stat.add(answer)
                    row |= {"candidate": one.as_json(), "baseline": other.as_json()}
                    row["scores"] = {name: list(pair) for name, pair in scores.items()}
                    kept.add(row, scores)
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        publish_file(predictions, draft)
        draft.unlink()
        if not comparison.examples:
            raise AskingError("No example has answers of both models: there is nothing to compare.")
        return Compared(comparison.result(decide_by), failed, (stats[0], stats[1]), kept.worst, kept.best)

    def _answer(self, side: int, key: str) -> Answer | None:
        entry = self._index.get(side, key)
        return None if entry is None else Answer.from_json(entry)

    def result(self, compared: Compared) -> Json:
        """Return what goes to XCom: figures only."""
        outcome = compared.result
        known = all(side.price is not None for side in self._asked)
        roles = [*ROLES, JUDGE][: len(self._asked)]
        return {
            "verdict": outcome.verdict,
            "sentence": outcome.sentence(),
            "decided_by": outcome.decided_by,
            "confidence": outcome.confidence,
            "metrics": {
                name: _figures(paired) | {"greater_is_better": outcome.greater[name]}
                for name, paired in outcome.metrics.items()
            },
            "classes": {
                label: {
                    key: _figures(item) if isinstance(item, Paired) else item for key, item in found.items()
                }
                for label, found in outcome.classes.items()
            },
            "candidate": self.sides[0].model,
            "baseline": self.sides[1].model,
            "examples": outcome.examples,
            "examples_needed": outcome.needed,
            "counts": {
                "held_out": self.survey.examples,
                "asked": self.survey.asked,
                "failed": compared.failed,
                "reused_answers": self.reused,
                "calls": self.tally.calls,
                "refused_for_quota": self.tally.quota,
                **{role: stat.counts() for role, stat in zip(ROLES, compared.stats, strict=True)},
            },
            "tokens": {role: stat.tokens() for role, stat in zip(ROLES, compared.stats, strict=True)},
            "seconds": {role: stat.latency() for role, stat in zip(ROLES, compared.stats, strict=True)},
            "cost": {
                "currency": "USD",
                **{
                    role: round(self.spent[side], 6) if self._asked[side].price is not None else None
                    for side, role in enumerate(roles)
                },
                "total": round(sum(self.spent), 6) if known else None,
                "prices_as_of": str(AS_OF),
            },
        }

    def close(self) -> None:
        """Close the index."""
        self._index.close()


@dataclass
class Compared:
    """The comparison, and what the report shows of the answers.

    :param failed: examples that were left out because an answer is missing.
    :param worst: the examples that the candidate has become worst at, for people.
    :param best: those that it has gained most on.
    """

    result: Result
    failed: int
    stats: tuple[SideStats, SideStats]
    worst: list[Json]
    best: list[Json]


def _not_computed(answer: str, reference: str) -> float:
    raise ValueError("the judge's scores are given")


def _key(request: Json) -> str:
    return Example(0, request, "").key


def write_report(path: Any, html: str) -> None:
    """Publish a report.

    :param path: where it goes.
    :param html: the report.
    """
    publish(path, html.encode("utf-8", "replace"))


def _figures(paired: Paired) -> Json:
    figures = asdict(paired) | {"difference": paired.difference}
    return {
        key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in figures.items()
    }
