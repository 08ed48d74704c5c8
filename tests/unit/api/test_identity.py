"""Whose job a job is, and what a new attempt does with the jobs it finds."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_tuning_provider.api.identity import (
    FINGERPRINT_LABEL,
    KEY_LABEL,
    Action,
    TaskIdentity,
    decide,
    fingerprint,
    label_value,
    own_jobs,
)
from airflow_tuning_provider.api.states import JobState
from airflow_tuning_provider.api.tuning_job import check_labels

ME = TaskIdentity("retrain", "scheduled__2024-11-03T00:00:00+00:00", "tune")
BODY = {"baseModel": "g", "supervisedTuningSpec": {"trainingDatasetUri": "gs://bucket/a.jsonl"}}
OTHER_BODY = {**BODY, "baseModel": "h"}


def job(
    state: JobState | str,
    *,
    body: dict[str, Any] = BODY,
    identity: TaskIdentity = ME,
    created: str = "2024-11-03T21:00:00Z",
    name: str = "job",
) -> dict[str, Any]:
    return {
        "name": name,
        "state": getattr(state, "value", state),
        "createTime": created,
        "labels": {**identity.labels(body), "team": "support"},
    }


SAME_INPUT = {
    JobState.UNSPECIFIED: Action.JOIN,
    JobState.QUEUED: Action.JOIN,
    JobState.PENDING: Action.JOIN,
    JobState.RUNNING: Action.JOIN,
    JobState.PAUSED: Action.JOIN,
    JobState.UPDATING: Action.JOIN,
    "JOB_STATE_DREAMING": Action.JOIN,
    JobState.CANCELLING: Action.AWAIT_END,
    JobState.SUCCEEDED: Action.RETURN,
    JobState.PARTIALLY_SUCCEEDED: Action.RETURN,
    JobState.FAILED: Action.CREATE,
    JobState.CANCELLED: Action.CREATE,
    JobState.EXPIRED: Action.CREATE,
}
OTHER_INPUT = {
    state: {Action.JOIN: Action.CANCEL_STALE, Action.RETURN: Action.CREATE}.get(action, action)
    for state, action in SAME_INPUT.items()
}


class TestDecide:
    def test_the_table_is_complete(self) -> None:
        assert set(SAME_INPUT) > set(JobState)

    @pytest.mark.parametrize(("state", "action"), SAME_INPUT.items())
    def test_one_job_with_the_same_input(self, state: JobState | str, action: Action) -> None:
        found = job(state)
        decision = decide([found], ME, BODY)
        assert decision.action is action
        assert decision.job is (None if action is Action.CREATE else found)

    @pytest.mark.parametrize(("state", "action"), OTHER_INPUT.items())
    def test_one_job_with_other_input(self, state: JobState | str, action: Action) -> None:
        assert decide([job(state, body=OTHER_BODY)], ME, BODY).action is action

    def test_no_job(self) -> None:
        assert decide([], ME, BODY).action is Action.CREATE

    @pytest.mark.parametrize(("one", "two"), list(product(SAME_INPUT, repeat=2)))
    def test_of_two_jobs_the_one_that_matters_decides(self, one: JobState | str, two: JobState | str) -> None:
        order = [Action.JOIN, Action.RETURN, Action.AWAIT_END, Action.CREATE]
        expected = min(SAME_INPUT[one], SAME_INPUT[two], key=order.index)
        assert decide([job(one), job(two)], ME, BODY).action is expected

    @pytest.mark.parametrize("state", SAME_INPUT)
    def test_a_stale_job_is_cancelled_before_anything_else(self, state: JobState | str) -> None:
        stale = job(JobState.RUNNING, body=OTHER_BODY, name="stale")
        decision = decide([job(state), stale], ME, BODY)
        assert (decision.action, decision.job) == (Action.CANCEL_STALE, stale)

    @pytest.mark.parametrize(
        ("earlier", "later"),
        [
            ("2024-11-03T21:00:00Z", "2024-11-03T21:00:01Z"),
            ("2024-11-03T21:00:00Z", "2024-11-03T21:00:00.5Z"),  # "Z" sorts after "."
            ("2024-11-03T23:00:00+02:00", "2024-11-03T21:30:00Z"),
            ("", "2024-11-03T21:00:00Z"),
        ],
    )
    def test_the_newest_wins(self, earlier: str, later: str) -> None:
        jobs = [
            job(JobState.SUCCEEDED, created=earlier, name="old"),
            job(JobState.SUCCEEDED, created=later, name="new"),
        ]
        for found in (jobs, jobs[::-1]):
            decision = decide(found, ME, BODY)
            assert decision.job is not None
            assert decision.job["name"] == "new"

    @pytest.mark.parametrize(
        "labels", [None, {}, [], "x", {KEY_LABEL: None}, {KEY_LABEL: ""}, {KEY_LABEL: [ME.key]}]
    )
    def test_jobs_of_others_do_not_matter(self, labels: Any) -> None:
        stranger = {"name": "x", "state": "JOB_STATE_RUNNING", "labels": labels}
        other = job(JobState.RUNNING, identity=TaskIdentity("retrain", ME.run_id, "other"))
        assert own_jobs([stranger, other, {}], ME) == []
        assert decide([stranger, other, {}], ME, BODY).action is Action.CREATE

    def test_our_key_with_a_lost_fingerprint_is_other_input(self) -> None:
        found = job(JobState.RUNNING)
        del found["labels"][FINGERPRINT_LABEL]
        assert decide([found], ME, BODY).action is Action.CANCEL_STALE

    def test_jobs_may_come_from_an_iterator(self) -> None:
        assert decide(iter([job(JobState.RUNNING)]), ME, BODY).action is Action.JOIN


def test_the_labels_of_a_job() -> None:
    labels = TaskIdentity("Retrain.weekly", "manual__2024-11-03T21:08:07.5+00:00", "tune", 3, "prod").labels(
        BODY
    )
    assert labels.pop(KEY_LABEL) != labels.pop(FINGERPRINT_LABEL)
    assert labels == {
        "airflow-dag-id": "retrain_weekly",
        "airflow-run-id": "manual__2024-11-03t21_08_07_5_00_00",
        "airflow-task-id": "tune",
        "airflow-map-index": "3",
        "airflow-deployment": "prod",
    }
    assert set(ME.labels(BODY)) == {
        KEY_LABEL,
        FINGERPRINT_LABEL,
        "airflow-dag-id",
        "airflow-run-id",
        "airflow-task-id",
    }


def test_the_key_is_stable_across_versions() -> None:
    """A job that an older version created must be found after an upgrade."""
    assert ME.key == "45523ab4ed0ed532cbabb59eb5dc9c8e"
    assert fingerprint(BODY) == "2ddb630f572c4012dea16f79500925ab"


def test_the_filter_names_the_key() -> None:
    assert ME.filter() == f'labels.airflow-job-key="{ME.key}"'


def test_a_cut_label_value_stays_distinct() -> None:
    assert label_value("x" * 63) == "x" * 63
    one, other = label_value("x" * 64), label_value("x" * 65)
    assert one != other
    assert len(one) == len(other) == 63
    assert one.startswith("x" * 54 + "-")


# -- properties -------------------------------------------------------------------------------------

_IDS = (
    st.text(max_size=300)
    | st.text("abcABC019._+:-é/ \n", max_size=300)
    | st.text("\ud800\udfffẞİǅ", max_size=80)
)
_IDENTITIES = st.builds(
    TaskIdentity, _IDS, _IDS, _IDS, st.integers(-1, 10**6), _IDS, st.text("0123456789", max_size=3)
)


@given(_IDENTITIES)
def test_the_labels_of_any_task_instance_are_valid(identity: TaskIdentity) -> None:
    labels = identity.labels(BODY)
    assert check_labels(labels, "labels") == labels
    for key, value in labels.items():
        assert re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", key)
        assert re.fullmatch(r"[a-z0-9_-]{0,63}", value)
    assert re.fullmatch(r"[0-9a-f]{32}", identity.key)


@given(_IDENTITIES, _IDENTITIES)
def test_only_equal_task_instances_have_equal_keys(one: TaskIdentity, other: TaskIdentity) -> None:
    assert (one.key == other.key) is (one == other)


@given(st.lists(st.text('ab.:[]",', max_size=6), min_size=3, max_size=3), st.integers(0, 2))
def test_ids_do_not_run_into_each_other(ids: list[str], cut: int) -> None:
    """``a``, ``bc`` is not ``ab``, ``c``: moving text from one id to the next gives another key."""
    whole = TaskIdentity(*ids)
    moved = list(ids)
    moved[cut], moved[(cut + 1) % 3] = "", moved[cut] + moved[(cut + 1) % 3]
    assert (TaskIdentity(*moved).key == whole.key) is (moved == ids)


@given(st.lists(st.tuples(st.sampled_from(list(SAME_INPUT)), st.booleans()), max_size=6))
def test_a_job_is_created_only_where_none_is_under_way(found: list[tuple[Any, bool]]) -> None:
    jobs = [
        job(state, body=BODY if same else OTHER_BODY, name=str(n)) for n, (state, same) in enumerate(found)
    ]
    decision = decide(jobs, ME, BODY)
    under_way = any(SAME_INPUT[state] in (Action.JOIN, Action.AWAIT_END) for state, _ in found)
    paid_for = any(same and SAME_INPUT[state] is Action.RETURN for state, same in found)
    assert (decision.action is Action.CREATE) is (not under_way and not paid_for)
    assert (decision.job is None) is (decision.action is Action.CREATE)
