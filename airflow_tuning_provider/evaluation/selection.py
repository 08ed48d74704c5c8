"""The best of several candidates that were evaluated on the same examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.evaluation.gate import metric_of

Json = dict[str, Any]


@dataclass(frozen=True)
class Selection:
    """The winner, and how all candidates stand.

    :param winner: the evaluation that won.
    :param table: a row for each candidate, best first: ``candidate``, its hyperparameters, ``value``, ``low``,
        ``high``, ``verdict``, ``passed``, ``billable_tokens``, ``selected``.
    :param left_out: what could not be considered, and why.
    :param reason: why the winner won.
    """

    winner: Mapping[str, Any]
    table: list[Json]
    left_out: list[str] = field(default_factory=list)
    reason: str = ""


def select(
    evaluations: Sequence[Mapping[str, Any] | None],
    *,
    metric: str | None = None,
    tie: str = "cheapest",
    greater_is_better: bool = True,
    must_pass: bool = False,
) -> Selection:
    """Choose the best of several evaluations.

    Candidates whose own interval holds the best value count as its equals: their difference may be chance. Of equals
    the cheapest to train wins (billable tokens of a pass times epochs, smaller adapters first), or the best one.

    :param evaluations: the results, as they stand in XCom; ``None`` for one that failed.
    :param metric: what to compare; default: what the first verdict is of.
    :param tie: ``cheapest`` or ``best``.
    :param greater_is_better: whether more is better.
    :param must_pass: leave out those that did not pass their gate.
    :raises InvalidInputError: if none is left, or they have not answered the same examples.
    """
    if tie not in ("cheapest", "best"):
        raise InvalidInputError("tie", tie, "give cheapest or best")
    present: list[Mapping[str, Any]] = []
    left_out: list[str] = []
    for index, evaluation in enumerate(evaluations):
        name = _name(evaluation, index)
        if not isinstance(evaluation, Mapping) or not evaluation.get("metrics"):
            left_out.append(f"{name}: it has no evaluation.")
        elif must_pass and evaluation.get("passed") is False:
            left_out.append(f"{name}: it did not pass its gate.")
        else:
            present.append(evaluation)
    if not present:
        raise InvalidInputError("evaluations", left_out, "there is no candidate left to select from")
    sets = {evaluation.get("dataset", {}).get("sha256") for evaluation in present}
    if len(sets) > 1:
        raise InvalidInputError(
            "evaluations", sorted(map(str, sets)), "evaluate all candidates on the same examples"
        )
    chosen = metric or str(present[0]["decided_by"])
    sign = 1 if greater_is_better else -1

    def value(evaluation: Mapping[str, Any]) -> float:
        return sign * float(metric_of(evaluation, chosen)["candidate"])

    ranked = sorted(present, key=lambda e: (-value(e), _effort(e), _name(e, 0)))
    best = ranked[0]
    end = "candidate_high" if greater_is_better else "candidate_low"
    equals = [e for e in ranked if sign * float(metric_of(e, chosen)[end]) >= value(best)]
    winner = min(equals, key=lambda e: (_effort(e), -value(e), _name(e, 0))) if tie == "cheapest" else best
    reason = f"It has the best {chosen}."
    if len(equals) > 1:
        how = "the cheapest to train" if tie == "cheapest" else "the best"
        reason = (
            f"{len(equals)} candidates are equal in {chosen} within their intervals; it is {how} of them."
        )
    return Selection(winner, [_row(e, chosen, e is winner) for e in ranked], left_out, reason)


def _row(evaluation: Mapping[str, Any], metric: str, selected: bool) -> Json:
    values = metric_of(evaluation, metric)
    manifest = evaluation.get("manifest") or {}
    return {
        "candidate": evaluation.get("candidate"),
        "tuning_job_name": manifest.get("tuning_job_name"),
        **(manifest.get("hyper_parameters") or {}),
        "metric": metric,
        "value": values["candidate"],
        "low": values["candidate_low"],
        "high": values["candidate_high"],
        "verdict": evaluation.get("verdict"),
        "passed": evaluation.get("passed"),
        "billable_tokens": _billable(manifest),
        "selected": selected,
    }


def _billable(manifest: Mapping[str, Any]) -> int | None:
    tokens = manifest.get("billable_token_count")
    epochs = (manifest.get("hyper_parameters") or {}).get("epoch_count")
    return tokens * epochs if isinstance(tokens, int) and isinstance(epochs, int) else None


def _effort(evaluation: Mapping[str, Any]) -> tuple[float, float]:
    manifest = evaluation.get("manifest") or {}
    tokens = _billable(manifest)
    adapter = str((manifest.get("hyper_parameters") or {}).get("adapter_size", ""))
    sizes = {"ONE": 1, "TWO": 2, "FOUR": 4, "EIGHT": 8, "SIXTEEN": 16, "THIRTY_TWO": 32}
    return (
        float("inf") if tokens is None else float(tokens),
        float(sizes.get(adapter.removeprefix("ADAPTER_SIZE_"), 99)),
    )


def _name(evaluation: Mapping[str, Any] | None, index: int) -> str:
    candidate = evaluation.get("candidate") if isinstance(evaluation, Mapping) else None
    return str(candidate or f"candidate {index}")
