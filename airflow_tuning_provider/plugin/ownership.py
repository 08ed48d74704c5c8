"""Which DAGs a job belongs to, as far as its labels tell: what the page's permissions hang on. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow_tuning_provider.api.identity import (
    DAG_LABEL,
    DEPLOYMENT_LABEL,
    KEY_LABEL,
    label_value,
    labels_of,
)

Owners = Mapping[str, frozenset[str]]
"""DAG ids by the label value that they become. Several may become the same one."""


def by_label(dag_ids: Iterable[str]) -> Owners:
    """Return the ids of this Airflow's DAGs by label value."""
    found: dict[str, set[str]] = {}
    for dag_id in dag_ids:
        found.setdefault(label_value(dag_id), set()).add(dag_id)
    return {label: frozenset(ids) for label, ids in found.items()}


def dags_of(job: Mapping[str, Any], owners: Owners, deployment: str) -> frozenset[str]:
    """Return every DAG of this Airflow that may have created a job; empty if there is none.

    A job without our labels, of another deployment, or of a DAG that is gone belongs to none. Where two DAG ids
    have one label value the job may be either's: who wants to see it has to be allowed to see both.

    :param deployment: this Airflow's name, as in ``[vertex_ai_tuning] deployment``.
    """
    labels = labels_of(job)
    wanted = label_value(deployment) if deployment else None
    label = labels.get(DAG_LABEL)
    if KEY_LABEL not in labels or labels.get(DEPLOYMENT_LABEL) != wanted or not isinstance(label, str):
        return frozenset()
    return owners.get(label, frozenset())
