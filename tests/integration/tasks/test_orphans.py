"""CancelOrphanedTuningJobsOperator against the emulator: only what provably nobody waits for is cancelled."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.exceptions import TuningInvalidInputError
from airflow_tuning_provider.operators.orphans import CancelOrphanedTuningJobsOperator
from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
from tests.integration.tasks.conftest import BODY, Lost, TaskInstance, as_task, cancels

States = dict[str, dict[str, dict[str, str | None]]]


class Looking(TaskInstance):
    """The cleaning task's own instance, which can ask Airflow for the states of others."""

    states: States = {}  # noqa: RUF012
    mapped: dict[tuple[str, int], str | None] = {}  # noqa: RUF012
    """States of mapped task instances that another task's state hides in the answer for a whole DAG."""

    def get_task_states(
        self,
        dag_id: str,
        map_index: int | None = None,
        task_ids: list[str] | None = None,
        run_ids: list[str] | None = None,
    ) -> dict[str, dict[str, str | None]]:
        found = self.states.get(dag_id, {})
        if map_index is None:
            return found
        [task_id], [run_id] = task_ids or [], run_ids or []
        name = task_id if map_index == -1 else f"{task_id}_{map_index}"
        state = self.mapped.get((task_id, map_index), found.get(run_id, {}).get(name))
        return {run_id: {name: state}} if name in found.get(run_id, {}) else {}


def create(monkeypatch: pytest.MonkeyPatch, ti: TaskInstance, **kwargs: Any) -> str:
    """Create a job as a task that is lost right after: it waits, and nobody comes back."""
    from airflow_tuning_provider.operators import tuning_job

    def lose(*_: Any, **__: Any) -> None:
        raise Lost

    with monkeypatch.context() as patch, pytest.raises(Lost):
        patch.setattr(tuning_job.CreateTuningJobOperator, "_defer", lose)
        ti.run(CreateTuningJobOperator(task_id=ti.task_id, epoch_count=1_000_000, **BODY, **kwargs))
    return str(ti.xcoms["tuning_job_name"])


def clean(
    states: States, mapped: dict[tuple[str, int], str | None] | None = None, **kwargs: Any
) -> dict[str, Any]:
    operator = CancelOrphanedTuningJobsOperator(
        **{"task_id": "clean", "dag_ids": ["retrain"], "min_age": 0, **kwargs}
    )
    ti = Looking(task_id="clean")
    ti.states, ti.mapped = states, mapped or {}
    result: dict[str, Any] = as_task(operator, lambda: operator.execute(ti.context))
    return result


RUN = TaskInstance.run_id


@pytest.fixture(autouse=True)
def _deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__VERTEX_AI_TUNING__DEPLOYMENT", "production")


def test_without_a_name_of_the_deployment_nothing_is_cancelled(
    server: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two Airflows with the same DAG and no name: a live job of the one is an orphan to the other."""
    monkeypatch.delenv("AIRFLOW__VERTEX_AI_TUNING__DEPLOYMENT")
    name = create(monkeypatch, TaskInstance())
    states: States = {"retrain": {RUN: {"tune": "failed"}}}
    with pytest.raises(TuningInvalidInputError, match="deployment"):
        clean(states, dry_run=False)
    assert cancels(server) == []
    assert clean(states)["orphans"] == [name]


def test_task_whose_name_looks_like_a_mapped_one_is_not_taken_for_it(
    server: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(monkeypatch, TaskInstance(map_index=1))
    states: States = {"retrain": {RUN: {"tune_1": "success"}}}
    assert clean(states, mapped={("tune", 1): "deferred"}, dry_run=False)["cancelled"] == []
    assert cancels(server) == []
    assert len(clean(states, mapped={("tune", 1): "failed"}, dry_run=False)["cancelled"]) == 1


@pytest.mark.parametrize("state", ["failed", "success", "skipped", "removed", "upstream_failed"])
def test_orphan_is_found_and_cancelled(server: Emulator, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    name = create(monkeypatch, TaskInstance())
    states: States = {"retrain": {RUN: {"tune": state}}}
    assert clean(states) == {"orphans": [name], "cancelled": [], "left_alone": {}}
    assert cancels(server) == []
    assert clean(states, dry_run="false")["cancelled"] == [name]
    assert server.jobs()[0]["state"] in ("JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED")


@pytest.mark.parametrize(
    "state", [None, "running", "deferred", "queued", "scheduled", "up_for_retry", "restarting"]
)
def test_job_that_is_waited_for_is_left_alone(
    server: Emulator, monkeypatch: pytest.MonkeyPatch, state: str | None
) -> None:
    name = create(monkeypatch, TaskInstance())
    result = clean({"retrain": {RUN: {"tune": state}}}, dry_run=False)
    assert result["orphans"] == []
    assert "waits for it" in result["left_alone"][name]
    assert cancels(server) == []


def test_unknown_task_instance_is_reported_and_left_to_a_person(
    server: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = create(monkeypatch, TaskInstance())
    assert "was deleted" in clean({}, dry_run=False)["left_alone"][name]
    assert cancels(server) == []


@pytest.mark.parametrize("kept", [{"wait_for_completion": False}, {"cancel_on_kill": False}], ids=str)
def test_job_that_is_meant_to_outlive_its_task_is_left_alone(server: Emulator, kept: dict[str, Any]) -> None:
    operator = CreateTuningJobOperator(task_id="tune", epoch_count=1_000_000, deferrable=True, **BODY, **kept)
    ti = TaskInstance()
    ti.before_trigger = lambda _: server.set_state(server.jobs()[0]["name"], "JOB_STATE_SUCCEEDED")
    name = ti.run(operator)["tuning_job_name"]
    server.set_state(name, "JOB_STATE_RUNNING")
    assert "outlive" in clean({"retrain": {RUN: {"tune": "success"}}}, dry_run=False)["left_alone"][name]


def test_mapped_tasks_and_names_that_look_mapped(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    mapped = create(monkeypatch, TaskInstance(map_index=3))
    named = create(monkeypatch, TaskInstance(task_id="tune_4"))
    states: States = {"retrain": {RUN: {"tune_3": "failed", "tune_4": "running"}}}
    result = clean(states, dry_run=False)
    assert result["cancelled"] == [mapped]
    assert list(result["left_alone"]) == [named]


def test_job_of_a_forced_rerun_is_known_too(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    name = create(monkeypatch, TaskInstance(try_number=4, max_tries=3), force_new=True)
    assert clean({"retrain": {RUN: {"tune": "failed"}}})["orphans"] == [name]


def test_other_deployment_is_out_of_sight(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("AIRFLOW__VERTEX_AI_TUNING__DEPLOYMENT", "staging")
        create(monkeypatch, TaskInstance())
    assert clean({"retrain": {RUN: {"tune": "failed"}}}) == {"orphans": [], "cancelled": [], "left_alone": {}}


def test_filters_and_age(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    name = create(monkeypatch, TaskInstance())
    states: States = {"retrain": {RUN: {"tune": "failed"}}}
    assert "younger" in clean(states, min_age=3600)["left_alone"][name]
    for nothing in ({"filter_task_id": "x"}, {"filter_run_id": "x"}, {"filter_state": "x"}, {"dag_ids": "x"}):
        assert clean(states, **nothing)["orphans"] == []
    found = clean(states, filter_task_id="tune", filter_run_id=RUN, dag_ids="retrain, other")
    assert found["orphans"] == [name]


def test_no_dag_ids_are_refused(server: Emulator) -> None:
    with pytest.raises(TuningInvalidInputError, match="dag_ids"):
        clean({}, dag_ids=" , ")
    assert server.requests() == []
