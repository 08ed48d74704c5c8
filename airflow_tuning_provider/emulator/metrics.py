"""evaluateInstances for the metrics that are computed: exact match, BLEU and ROUGE. No model judges anything here."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from airflow_tuning_provider.emulator.errors import ApiError, found_errors, invalid_argument

_WORD = re.compile(r"[a-z0-9]+")
_ROUGE = re.compile(r"rouge(?:[1-9]|L|Lsum)")
_LONGEST = 4

Json = dict[str, Any]
Score = Callable[[str, str, Json], float]


def evaluate(body: Json) -> Json:
    """Return the scores for a request with one computed metric; raise Google's 400 for any other."""
    chosen = [name for name in body if name.endswith("Input")]
    if len(chosen) != 1 or chosen[0] not in _METRICS:
        raise ApiError(
            "UNIMPLEMENTED",
            f"This server computes {', '.join(_METRICS)}, one at a time; got {chosen or 'none'}.",
        )
    name = chosen[0]
    given, (score, results, values) = body[name], _METRICS[name]
    missing = [field for field in ("metricSpec", "instances") if field not in given]
    if missing:
        raise found_errors([(f"{name}.{field}", "Required field is not set.") for field in missing])
    spec: Json = given["metricSpec"]
    scores = [score(one.get("prediction", ""), one.get("reference", ""), spec) for one in given["instances"]]
    return {results: {values: [{"score": round(value, 6)} for value in scores]}}


def _exact_match(prediction: str, reference: str, _: Json) -> float:
    return float(prediction == reference)


def _rouge(prediction: str, reference: str, spec: Json) -> float:
    """Return the F1 of words, of their n-grams, or of the longest common subsequence; stems are not used."""
    kind = spec.get("rougeType", "rouge1")
    if not _ROUGE.fullmatch(kind):
        raise invalid_argument(f"Invalid rouge_type: {kind}")
    said, wanted = (_WORD.findall(text.lower()) for text in (prediction, reference))
    if kind.startswith("rougeL"):
        common, sizes = _common_subsequence(said, wanted), (len(said), len(wanted))
    else:
        one, other = (_ngrams(words, int(kind[5:])) for words in (said, wanted))
        common, sizes = (one & other).total(), (one.total(), other.total())
    return 2 * common / sum(sizes) if common else 0.0


def _bleu(prediction: str, reference: str, spec: Json) -> float:
    """Return the BLEU of one sentence: up to four words, brevity penalty, exponential smoothing of what is missing."""
    said, wanted = prediction.split(), reference.split()
    if not said or not wanted:
        return 0.0
    logs, halving = [], 1.0
    for n in range(1, _LONGEST + 1):
        one, other = _ngrams(said, n), _ngrams(wanted, n)
        total, common = one.total(), (one & other).total()
        if not total:
            if spec.get("useEffectiveOrder"):
                break
            return 0.0
        if not common:
            if n == 1:
                return 0.0
            halving *= 2
        logs.append(math.log(common / total if common else 1 / (halving * total)))
    brevity = min(0.0, 1 - len(wanted) / len(said))
    return math.exp(brevity + sum(logs) / len(logs))


def _ngrams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def _common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    row = [0] * (len(other) + 1)
    for word in one:
        diagonal = 0
        for j, candidate in enumerate(other, 1):
            diagonal, row[j] = row[j], diagonal + 1 if word == candidate else max(row[j], row[j - 1])
    return row[-1]


# By input: the metric, and where its results are.
_METRICS: dict[str, tuple[Score, str, str]] = {
    "exactMatchInput": (_exact_match, "exactMatchResults", "exactMatchMetricValues"),
    "bleuInput": (_bleu, "bleuResults", "bleuMetricValues"),
    "rougeInput": (_rouge, "rougeResults", "rougeMetricValues"),
}
