"""Which DAGs a job belongs to."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_tuning_provider.api.identity import TaskIdentity
from airflow_tuning_provider.plugin.ownership import by_label, dags_of

LONG = "a_dag_whose_id_is_much_longer_than_a_label_may_be_" + "x" * 60


def job(dag_id: str, deployment: str = "") -> dict[str, Any]:
    return {"labels": TaskIdentity(dag_id, "run", "task", -1, deployment).labels({}, max_tries=0)}


@pytest.mark.parametrize("dag_id", ["weekly", "Weekly.Über", "a b", LONG, LONG + "y"])
def test_a_job_is_of_the_dag_that_created_it(dag_id: str) -> None:
    owners = by_label(["another", dag_id, LONG, LONG + "y"])
    assert dags_of(job(dag_id), owners, "") == {dag_id}


def test_ids_with_one_label_own_a_job_together() -> None:
    owners = by_label(["team.weekly", "Team_Weekly", "team_weekly2"])
    assert dags_of(job("team.weekly"), owners, "") == {"team.weekly", "Team_Weekly"}


def test_another_deployment_s_jobs_are_of_no_dag() -> None:
    owners = by_label(["weekly"])
    assert dags_of(job("weekly", "Production"), owners, "Production") == {"weekly"}
    for theirs, ours in (("other", "production"), ("other", ""), ("", "production")):
        assert dags_of(job("weekly", theirs), owners, ours) == frozenset()


@pytest.mark.parametrize(
    "labels",
    [None, [], {}, {"airflow-dag-id": "weekly"}, {"airflow-dag-id": ["weekly"], "airflow-job-key": "k"}],
)
def test_what_has_not_our_labels_is_of_no_dag(labels: Any) -> None:
    assert dags_of({"labels": labels}, by_label(["weekly"]), "") == frozenset()


def test_a_dag_that_is_gone_owns_nothing() -> None:
    assert dags_of(job("gone"), by_label(["weekly"]), "") == frozenset()
