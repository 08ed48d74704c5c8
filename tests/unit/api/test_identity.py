"""Whose job a job is, and what a new attempt does with the jobs it finds."""

from __future__ import annotations

import re
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_tuning_provider.api.identity import (
    FINGERPRINT_LABEL,
    KEY_LABEL,
    MAX_TRIES_LABEL,
    Plan,
    TaskIdentity,
    fingerprint,
    key_filter,
    label_value,
    own_jobs,
    plan,
    seniority,
)
from airflow_tuning_provider.api.labels import check_labels
from airflow_tuning_provider.api.states import JobState, Outcome, outcome

ME = TaskIdentity("retrain", "scheduled__2024-11-03T00:00:00+00:00", "tune")
BODY = {"baseModel": "g", "supervisedTuningSpec": {"trainingDatasetUri": "gs://bucket/a.jsonl"}}
OTHER_BODY = {**BODY, "baseModel": "h"}


MENDABLE = {"code": 13, "message": "internal"}
FOR_GOOD = {"code": 3, "message": "bad data"}


def job(
    state: JobState | str,
    *,
    body: dict[str, Any] = BODY,
    identity: TaskIdentity = ME,
    max_tries: int = 0,
    created: str = "2024-11-03T21:00:00Z",
    name: str = "job",
    **more: Any,
) -> dict[str, Any]:
    return {
        "name": name,
        "state": getattr(state, "value", state),
        "createTime": created,
        "labels": {**identity.labels(body, max_tries=max_tries), "team": "support"},
        **more,
    }


def told(jobs: Any, *, max_tries: int = 0, **more: Any) -> tuple[str | None, list[str], str | None]:
    """Return the names of what is kept, cancelled, and waited for."""
    decision = plan(jobs, BODY, max_tries=max_tries, **more)
    name = lambda found: None if found is None else found["name"]  # noqa: E731
    return name(decision.keep), [found["name"] for found in decision.cancel], name(decision.await_end)


KEEP, CREATE = ("job", [], None), (None, [], None)
ROOM = (None, [], "job")
STALE = (None, ["job"], "job")
UNDER_WAY = (
    JobState.UNSPECIFIED,
    JobState.QUEUED,
    JobState.PENDING,
    JobState.RUNNING,
    JobState.PAUSED,
    JobState.UPDATING,
    "JOB_STATE_DREAMING",
)
SUCCEEDED = (JobState.SUCCEEDED, JobState.PARTIALLY_SUCCEEDED)
# state: what a retry does, what a clear does, what either does where something else is trained now
TABLE: dict[JobState | str, tuple[Any, Any, Any]] = {
    **dict.fromkeys(UNDER_WAY, (KEEP, KEEP, STALE)),
    **dict.fromkeys(SUCCEEDED, (KEEP, KEEP, CREATE)),
    JobState.CANCELLING: (ROOM, ROOM, ROOM),
    JobState.FAILED: (CREATE, CREATE, CREATE),
    JobState.EXPIRED: (CREATE, CREATE, CREATE),
    JobState.CANCELLED: (KEEP, CREATE, CREATE),
}


class TestPlan:
    def test_the_table_is_complete(self) -> None:
        assert set(TABLE) > set(JobState)

    @pytest.mark.parametrize(("state", "expected"), TABLE.items())
    def test_one_job(self, state: JobState | str, expected: tuple[Any, Any, Any]) -> None:
        retry, clear, other_input = expected
        assert told([job(state)]) == retry
        assert told([job(state)], max_tries=2) == clear
        assert told([job(state, body=OTHER_BODY)]) == other_input
        assert told([job(state, body=OTHER_BODY)], max_tries=2) == other_input

    def test_no_job(self) -> None:
        assert told([]) == CREATE

    @pytest.mark.parametrize(
        "change", [{"error": FOR_GOOD}, {"error": MENDABLE, "tunedModel": {"model": "m"}}]
    )
    def test_a_retry_ends_as_a_job_that_failed_for_good_and_a_clear_pays_anew(self, change: Any) -> None:
        failed = job(JobState.FAILED, **change)
        assert told([failed]) == KEEP
        assert told([failed], max_tries=1) == CREATE

    def test_a_retry_does_better_than_a_job_that_failed_by_chance(self) -> None:
        assert told([job(JobState.FAILED, error=MENDABLE)]) == CREATE

    @pytest.mark.parametrize("state", SUCCEEDED)
    def test_a_clear_with_force_new_pays_again_once(self, state: JobState) -> None:
        first = job(state, name="first")
        assert told([first], max_tries=1, force_new=True) == CREATE
        second = job(state, max_tries=1, created="2024-11-04T21:00:00Z", name="second")
        for found in ([first, second], [second, first]):
            assert told(found, max_tries=1, force_new=True) == ("second", [], None)

    @pytest.mark.parametrize("state", SUCCEEDED)
    def test_force_new_does_not_pay_for_a_retry(self, state: JobState) -> None:
        assert told([job(state)], force_new=True) == KEEP

    def test_what_a_clear_has_joined_is_of_its_time(self) -> None:
        joined = job(JobState.SUCCEEDED)
        assert told([joined], max_tries=1, force_new=True, joined="job") == KEEP

    def test_a_job_without_the_label_is_taken_for_a_retrys(self) -> None:
        found = job(JobState.CANCELLED)
        del found["labels"][MAX_TRIES_LABEL]
        assert told([found], max_tries=3) == KEEP

    def test_of_several_jobs_under_way_the_oldest_goes_on(self) -> None:
        jobs = [
            job(JobState.RUNNING, created=f"2024-11-03T21:00:0{second}Z", name=name)
            for second, name in ((2, "b"), (1, "a"), (1, "c"))
        ]
        for found in permutations(jobs):
            assert told(found) == ("a", ["c", "b"], None)

    def test_the_one_with_the_same_input_goes_on_although_it_is_younger(self) -> None:
        jobs = [
            job(JobState.RUNNING, body=OTHER_BODY, name="old"),
            job(JobState.RUNNING, created="2024-11-04T21:00:00Z", name="new"),
        ]
        assert told(jobs) == ("new", ["old"], None)

    def test_a_success_is_returned_and_the_rest_cancelled(self) -> None:
        jobs = [job(JobState.SUCCEEDED, name="done"), job(JobState.RUNNING, name="too many")]
        assert told(jobs) == ("done", ["too many"], None)

    def test_a_job_under_way_is_joined_although_an_earlier_one_failed_for_good(self) -> None:
        jobs = [job(JobState.FAILED, error=FOR_GOOD, name="a"), job(JobState.RUNNING, name="b")]
        assert told(jobs) == ("b", [], None)

    @pytest.mark.parametrize("last", [JobState.CANCELLED, JobState.FAILED])
    def test_the_last_end_counts(self, last: JobState) -> None:
        first = JobState.FAILED if last is JobState.CANCELLED else JobState.CANCELLED
        jobs = [
            job(first, error=MENDABLE, name="first"),
            job(last, error=MENDABLE, created="2024-11-04T21:00:00Z", name="last"),
        ]
        assert told(jobs) == (("last", [], None) if last is JobState.CANCELLED else CREATE)

    def test_a_job_that_was_paid_for_after_a_success_goes_on(self) -> None:
        done = job(JobState.SUCCEEDED, name="done", endTime="2024-11-03T22:00:00Z")
        new = job(JobState.RUNNING, created="2024-11-03T23:00:00Z", max_tries=1, name="new")
        assert told([done, new], max_tries=1) == ("new", [], None)
        surplus = job(JobState.RUNNING, created="2024-11-03T21:30:00Z", name="surplus")
        assert told([done, surplus]) == ("done", ["surplus"], None)

    def test_a_job_cancelled_as_one_too_many_is_no_verdict(self) -> None:
        first = job(JobState.FAILED, error=MENDABLE, name="first", endTime="2024-11-03T23:00:00Z")
        surplus = job(
            JobState.CANCELLED,
            created="2024-11-03T21:00:01Z",
            name="surplus",
            endTime="2024-11-03T22:00:00Z",
        )
        assert told([first, surplus]) == CREATE

    def test_a_job_cancelled_as_stale_is_no_verdict_on_its_input(self) -> None:
        first = job(JobState.CANCELLED, name="first", endTime="2024-11-03T22:00:00Z")
        second = job(
            JobState.CANCELLED,
            body=OTHER_BODY,
            created="2024-11-03T22:00:01Z",
            name="second",
            endTime="2024-11-03T23:00:00Z",
        )
        assert told([first, second]) == CREATE
        assert told([first]) == ("first", [], None)

    def test_a_job_in_another_location_is_in_the_way(self) -> None:
        assert told([job(JobState.RUNNING)], elsewhere="job") == STALE
        assert told([job(JobState.SUCCEEDED)], elsewhere="job") == CREATE

    @pytest.mark.parametrize(
        ("earlier", "later"),
        [
            ("2024-11-03T21:00:00Z", "2024-11-03T21:00:01Z"),
            ("2024-11-03T21:00:00Z", "2024-11-03T21:00:00.5Z"),  # "Z" sorts after "."
            ("2024-11-03T23:00:00+02:00", "2024-11-03T21:30:00Z"),
            ("2024-11-03T21:00:00Z", ""),
        ],
    )
    def test_seniority_goes_by_time(self, earlier: str, later: str) -> None:
        old, new = job(JobState.RUNNING, created=earlier), job(JobState.RUNNING, created=later)
        assert sorted([new, old], key=seniority) == [old, new]

    @pytest.mark.parametrize(
        "labels", [None, {}, [], "x", {KEY_LABEL: None}, {KEY_LABEL: ""}, {KEY_LABEL: [ME.key]}]
    )
    def test_jobs_of_others_do_not_matter(self, labels: Any) -> None:
        stranger = {"name": "x", "state": "JOB_STATE_RUNNING", "labels": labels}
        other = job(JobState.RUNNING, identity=TaskIdentity("retrain", ME.run_id, "other"))
        assert own_jobs([stranger, other, {}], ME.key) == []

    def test_our_key_with_a_lost_fingerprint_is_other_input(self) -> None:
        found = job(JobState.RUNNING)
        del found["labels"][FINGERPRINT_LABEL]
        assert told([found]) == STALE

    def test_jobs_may_come_from_an_iterator(self) -> None:
        assert told(iter([job(JobState.RUNNING)])) == KEEP

    @pytest.mark.parametrize(
        "change",
        [{"labels": {"a": "b"}}, {"description": "new"}, {"tunedModelDisplayName": "try 2"}],
    )
    def test_names_and_labels_are_not_what_is_trained(self, change: dict[str, Any]) -> None:
        assert plan([job(JobState.RUNNING)], {**BODY, **change}, max_tries=0).keep is not None


def test_the_labels_of_a_job() -> None:
    labels = TaskIdentity("Retrain.weekly", "manual__2024-11-03T21:08:07.5+00:00", "tune", 3, "prod").labels(
        BODY, max_tries=2
    )
    assert labels.pop(KEY_LABEL) != labels.pop(FINGERPRINT_LABEL)
    assert labels == {
        "airflow-dag-id": "retrain_weekly",
        "airflow-run-id": "manual__2024-11-03t21_08_07_5_00_00",
        "airflow-task-id": "tune",
        "airflow-map-index": "3",
        "airflow-max-tries": "2",
        "airflow-deployment": "prod",
    }
    assert set(ME.labels(BODY, max_tries=0)) == {
        KEY_LABEL,
        FINGERPRINT_LABEL,
        MAX_TRIES_LABEL,
        "airflow-dag-id",
        "airflow-run-id",
        "airflow-task-id",
    }


def test_the_key_is_stable_across_versions() -> None:
    """A job that an older version created must be found after an upgrade."""
    assert ME.key == "abada0bee6591f5c99c1ab745e2165cd"
    assert fingerprint(BODY) == "2ddb630f572c4012dea16f79500925ab"


def test_the_filter_names_the_key() -> None:
    assert key_filter(ME.key) == f'labels.airflow-job-key="{ME.key}"'


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
_IDENTITIES = st.builds(TaskIdentity, _IDS, _IDS, _IDS, st.integers(-1, 10**6), _IDS)


@given(_IDENTITIES)
def test_the_labels_of_any_task_instance_are_valid(identity: TaskIdentity) -> None:
    labels = identity.labels(BODY, max_tries=1)
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


@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(TABLE)),
            st.booleans(),
            st.integers(0, 2),
            st.sampled_from([MENDABLE, FOR_GOOD]),
        ),
        max_size=6,
    ),
    st.integers(0, 2),
    st.booleans(),
)
def test_at_most_one_job_goes_on_whatever_is_found(
    found: list[tuple[Any, bool, int, Any]], max_tries: int, force_new: bool
) -> None:
    jobs = [
        job(state, body=BODY if same else OTHER_BODY, max_tries=tries, error=error, name=str(n))
        for n, (state, same, tries, error) in enumerate(found)
    ]
    decision = plan(jobs, BODY, max_tries=max_tries, force_new=force_new)
    live = [
        found for found in jobs if found["state"] in [getattr(state, "value", state) for state in UNDER_WAY]
    ]
    going_on = [found for found in live if found not in decision.cancel]
    assert going_on in ([], [decision.keep])
    assert decision.keep is None or decision.await_end is None
    if decision == Plan():  # something is created
        waiting = [found for found in jobs if outcome(str(found["state"])) is Outcome.WAITING]
        assert not waiting
    for shuffled in (jobs[::-1], sorted(jobs, key=lambda found: str(found["state"]))):
        assert plan(shuffled, BODY, max_tries=max_tries, force_new=force_new) == decision
