"""What a tuning job will cost: the tokens of one pass, times the epochs, times the price."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_tuning_provider.api.inputs import as_int, as_mapping, as_text
from airflow_tuning_provider.api.manifest import manifest
from airflow_tuning_provider.api.prices import AS_OF
from airflow_tuning_provider.datasets.rules import training_price


@dataclass(frozen=True)
class Cost:
    """US dollars.

    :param dollars: the estimate, ``None`` where it cannot be known.
    :param why: how it comes about, or what is missing and what to do.
    """

    dollars: float | None
    why: str


def job_cost(
    *, model: str | None, tokens: int | None, epochs: int | None, prices: Mapping[str, Any] | None = None
) -> Cost:
    """Return what tuning costs.

    :param model: the base model.
    :param tokens: billable tokens of one pass over the training data.
    :param epochs: passes over it.
    :param prices: US dollars for a million training tokens, by model, before those of
        :mod:`airflow_tuning_provider.api.prices`.
    """
    if epochs is None:
        return Cost(
            None,
            "epoch_count is not set: the service then chooses it by the data (40 epochs have been seen). "
            "Set epoch_count",
        )
    if tokens is None:
        return Cost(
            None,
            "the tokens of the data are not known. Give dataset_manifest (what PrepareTuningDatasetOperator or "
            "ValidateTuningDatasetOperator returns), or billable_tokens_per_epoch",
        )
    price = training_price(model or "", prices)
    if price is None:
        return Cost(
            None, f"the price of {model or 'a tuned model'} is not known. Give prices={{model: dollars}}"
        )
    dollars = tokens * epochs * price / 1e6
    return Cost(
        dollars,
        f"{tokens:,} tokens × {epochs} epochs × ${price:g} a million (prices as of {AS_OF}) = ${dollars:,.2f}",
    )


def spent(
    jobs: Iterable[Mapping[str, Any]], prices: Mapping[str, Any] | None = None
) -> tuple[float, list[str]]:
    """Return the US dollars of jobs, and the names of those that cannot be counted yet, or at all.

    What a job that failed or was cancelled trained is not told by the API: it counts in full.

    :param jobs: tuning jobs as the API returns them.
    :param prices: see :func:`job_cost`.
    """
    total, unknown = 0.0, []
    for job in jobs:
        seen = manifest(job)
        cost = job_cost(
            model=seen["base_model"],
            tokens=seen["billable_token_count"],
            epochs=as_int(seen["hyper_parameters"].get("epoch_count")),
            prices=prices,
        )
        if cost.dollars is None:
            unknown.append(as_text(job.get("name")) or "a job without a name")
        else:
            total += cost.dollars
    return total, unknown


def tokens_of(dataset: Any) -> int | None:
    """Return the token estimate of a data set's manifest, ``None`` where it has none.

    :param dataset: the manifest.
    """
    return as_int(as_mapping(as_mapping(dataset).get("tokens")).get("estimate"))
