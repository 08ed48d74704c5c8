"""A job's life as a function of time."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_tuning_provider.emulator.lifecycle import (
    CANCELLED,
    CANCELLING,
    FAILED,
    PENDING,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    JobRecord,
    end_time,
    pin,
    view,
)

ORDER = [QUEUED, PENDING, RUNNING, CANCELLING, SUCCEEDED, FAILED, CANCELLED]


def job(**fields: Any) -> JobRecord:
    given = {
        "created": 0.0,
        "admitted": 0.0,
        "dataset_ready": 1.0,
        "speed": 1.0,
        "examples": 500,
        "epochs": 10,
    }
    return JobRecord("1", "2", "us-central1", {}, **{**given, **fields})


def test_the_states_in_their_order() -> None:
    tuning = job()
    assert [view(tuning, t).state for t in (0, 119, 120, 2039, 2040)] == [
        PENDING,
        PENDING,
        RUNNING,
        RUNNING,
        SUCCEEDED,
    ]
    done = view(tuning, 10_000)
    assert (done.started, done.ended, done.updated) == (120, 2040, 2040)


def test_it_stays_pending_while_its_data_are_read() -> None:
    assert view(job(dataset_ready=None), 10_000).state == PENDING
    late = job(dataset_ready=500.0)
    assert (view(late, 499).state, view(late, 500).state) == (PENDING, RUNNING)


def test_bad_data_fail_it_soon() -> None:
    bad = job(dataset_error={"code": 3, "message": "x"})
    assert [view(bad, t).state for t in (19, 20)] == [PENDING, FAILED]
    assert view(bad, 20).started is None


def test_cancelling_takes_a_moment() -> None:
    running = job(cancel_asked=200.0)
    assert [view(running, t).state for t in (199, 200, 214, 215)] == [
        RUNNING,
        CANCELLING,
        CANCELLING,
        CANCELLED,
    ]
    assert view(running, 300).started == 120
    assert view(job(cancel_asked=60.0), 300).started is None


@given(
    st.floats(0.5, 5000),
    st.none() | st.floats(0, 4000),
    st.none() | st.floats(0, 4000),
    st.lists(st.floats(0, 10_000), min_size=2, max_size=20).map(sorted),
)
def test_time_never_runs_backwards(
    speed: float, ready: float | None, cancel: float | None, times: list[float]
) -> None:
    tuning = job(speed=speed, dataset_ready=ready)
    end = end_time(tuning)
    if cancel is not None and (end is None or cancel < end):
        tuning.cancel_asked = cancel
    views = [view(tuning, t) for t in times]
    ranks = [ORDER.index(v.state) for v in views]
    assert ranks == sorted(ranks)
    end = end_time(tuning)
    for time, seen in zip(times, views, strict=True):
        assert seen.terminal == (end is not None and time >= end)
        assert seen.updated <= time
        assert (seen.ended is not None) == seen.terminal


def test_a_pinned_job_waits_for_ever_but_counts_as_ended_when_it_is() -> None:
    tuning = job()
    pin(tuning, "JOB_STATE_FROBNICATING", None, 130.0)
    assert view(tuning, 1e6).state == "JOB_STATE_FROBNICATING"
    assert end_time(tuning) is None
    pin(tuning, FAILED, None, 140.0)
    assert end_time(tuning) == 140
    assert view(tuning, 1e6).started == 120
