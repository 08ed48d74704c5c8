"""The course of a wait: the story it tells, the faults it tolerates, the moment it ends."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_tuning_provider.api.errors import ApiError, ErrorKind
from airflow_tuning_provider.api.states import JobState, as_headline, outcome
from airflow_tuning_provider.api.waiting import HEARTBEAT, SIGHT_SECONDS, End, Step, Wait, view_job

NAME = "projects/p/locations/us-central1/tuningJobs/1"
OPERATION = "projects/p/locations/us-central1/operations/1"
START = 1_730_000_000.0
DOWN = ApiError(ErrorKind.UNAVAILABLE, "try later", 503, "UNAVAILABLE")
PERMANENT = [kind for kind in ErrorKind if not kind.transient]
TRANSIENT = [kind for kind in ErrorKind if kind.transient]


def job(state: str, **more: Any) -> dict[str, Any]:
    return {"name": NAME, "state": f"JOB_STATE_{state}", **more}


class Watch:
    """A wait with its own clocks, which keeps what the task log would hold."""

    def __init__(self, name: str = NAME, *, poll_interval: float = 60.0, **arguments: Any) -> None:
        self.wait = Wait(name, poll_interval, **arguments)
        self.now = START
        self.tick = 50.0
        self.log: list[str] = []
        self.levels: list[int] = []

    def see(self, seen: Any, *, after: float = 0.0, random: float = 0.5) -> Step:
        self.now += after
        self.tick += after
        step = self.wait.advance(seen, now=self.now, tick=self.tick, random=random)
        assert (step.delay is None) is (step.end is not None), "a wait goes on or ends"
        self.levels += [level for level, _ in step.news]
        self.log += [text for _, text in step.news]
        return step


class TestStory:
    def test_a_wait_from_start_to_end(self) -> None:
        watch = Watch()
        watch.see(job("PENDING"))
        watch.see(job("PENDING"), after=20)
        watch.see(job("RUNNING"), after=3)
        step = watch.see(job("SUCCEEDED"), after=1800)
        assert step.end is End.ENDED
        assert watch.log == [
            f"Pending · {NAME}",
            f"Running after 23 s pending · {NAME}",
            f"Succeeded after 30 min running · {NAME}",
        ]
        assert set(watch.levels) == {logging.INFO}

    @pytest.mark.parametrize("state", [state for state in JobState if outcome(state.value).ended])
    def test_every_end_is_an_end(self, state: JobState) -> None:
        watch = Watch()
        assert watch.see({"state": state.value}).end is End.ENDED
        assert watch.log == [f"{as_headline(view_job({'state': state.value}).words)} · {NAME}"]

    @pytest.mark.parametrize("state", [state for state in JobState if not outcome(state.value).ended])
    def test_everything_else_is_waited_for(self, state: JobState) -> None:
        watch = Watch()
        assert watch.see({"state": state.value}).delay is not None
        assert watch.log == [f"{as_headline(view_job({'state': state.value}).words)} · {NAME}"]

    def test_an_unknown_state_is_waited_for_with_one_warning(self) -> None:
        watch = Watch()
        watch.see(job("RUNNING"))
        for _ in range(20):
            assert watch.see(job("DREAMING"), after=60).delay is not None
        watch.see(job("RUNNING"), after=60)
        assert watch.levels.count(logging.WARNING) == 1
        assert watch.log[1] == (
            "In state JOB_STATE_DREAMING, which this provider does not know, after 1 min running; waiting on "
            f"· {NAME}"
        )

    def test_a_heartbeat_while_nothing_changes(self) -> None:
        watch = Watch()
        watch.see(job("RUNNING"))
        for _ in range(20):
            watch.see(job("RUNNING"), after=60)
        assert watch.log[1:] == [f"Still running after {minutes} min · {NAME}" for minutes in (5, 10, 15, 20)]
        assert set(watch.levels) == {logging.INFO}

    @pytest.mark.parametrize(
        ("more", "progress"),
        [
            ({}, ""),
            ({"tuningJobState": "TUNING_JOB_STATE_WAITING_FOR_CAPACITY"}, ", waiting for capacity"),
            ({"tuningJobState": "TUNING_JOB_STATE_NEW"}, ""),
            ({"tuningJobMetadata": {"completedEpochCount": "1"}}, ", 1 epoch done"),
            ({"tuningJobMetadata": {"completedEpochCount": "2"}}, ", 2 epochs done"),
            ({"tuningJobMetadata": {"completedEpochCount": "2", "completedStepCount": "31"}}, ", step 31"),
            (
                {
                    "tuningJobState": "TUNING_JOB_STATE_TUNING",
                    "tuningJobMetadata": {"completedStepCount": "31"},
                    "tuningDataStats": {"supervisedTuningDataStats": {"tuningStepCount": "240"}},
                },
                ", tuning, step 31 of 240",
            ),
            ({"tuningJobMetadata": {"completedStepCount": "many"}}, ""),
            ({"tuningJobMetadata": [1], "tuningJobState": ["x"]}, ""),
        ],
    )
    def test_progress_where_the_api_tells(self, more: dict[str, Any], progress: str) -> None:
        watch = Watch()
        watch.see(job("RUNNING", **more))
        assert watch.log == [f"Running{progress} · {NAME}"]

    def test_durations_are_the_api_s_where_it_tells_them(self) -> None:
        """So they agree with the result's, whenever the wait began and however seldom it looked."""
        watch = Watch()
        times = {"createTime": "2024-10-27T03:30:00Z", "startTime": "2024-10-27T03:32:20Z"}
        watch.see(job("PENDING", createTime=times["createTime"]))
        watch.see(job("RUNNING", **times), after=60)
        watch.see(job("SUCCEEDED", **times, endTime="2024-10-27T04:02:20Z"), after=60)
        assert watch.log == [
            f"Pending · {NAME}",
            f"Running after 2 min 20 s pending · {NAME}",
            f"Succeeded after 30 min running · {NAME}",
        ]

    def test_one_that_is_joined_late_has_run_for_as_long_as_it_has(self) -> None:
        watch = Watch()
        started = {"startTime": "2024-10-27T01:33:20Z"}  # two hours before the watch's clock
        watch.see(job("RUNNING", **started))
        watch.see(job("RUNNING", **started), after=HEARTBEAT)
        assert watch.log[1] == f"Still running after 2 h 5 min · {NAME}"

    def test_operations(self) -> None:
        watch = Watch(OPERATION)
        assert watch.see({"name": "o"}).delay is not None
        assert watch.see({"name": "o", "done": "true"}, after=5).delay is not None
        assert watch.see({"name": "o", "done": True, "error": {"code": 3}}, after=55).end is End.ENDED
        assert watch.log == [
            f"Under way · {OPERATION}",
            f"Done after 1 min under way · {OPERATION}",
        ]


class TestDelays:
    @pytest.mark.parametrize(("age", "least", "most"), [(0, 0, 5), (300, 5, 60), (10**6, 54, 60)])
    def test_an_older_job_is_looked_at_less_often(self, age: int, least: float, most: float) -> None:
        watch = Watch()
        watch.now = 1730667600.0 + age
        delay = watch.see(job("RUNNING", createTime="2024-11-03T21:00:00Z")).delay
        assert delay is not None
        assert least <= delay <= most

    @pytest.mark.parametrize("created", [None, "", "soon", 7, "2999-01-01T00:00:00Z"])
    def test_an_odd_creation_time_means_young(self, created: Any) -> None:
        delay = Watch().see(job("RUNNING", createTime=created), random=0.0).delay
        assert delay == 5.0

    def test_what_has_no_creation_time_is_as_old_as_the_wait(self) -> None:
        watch = Watch(OPERATION)
        young = watch.see({"name": "o"}).delay
        old = watch.see({"name": "o"}, after=10_000).delay
        assert young is not None
        assert old is not None
        assert young <= 5 < 54 <= old

    def test_the_last_look_falls_on_the_deadline(self) -> None:
        watch = Watch(deadline=START + 100)
        assert watch.see(job("RUNNING"), after=97, random=0.0).delay == 3.0
        step = watch.see(job("RUNNING"), after=3)
        assert step.end is End.TIMED_OUT

    def test_a_job_that_ends_on_the_deadline_has_ended(self) -> None:
        assert Watch(deadline=START).see(job("SUCCEEDED"), after=10).end is End.ENDED


class TestClocks:
    @pytest.mark.parametrize("jump", [3600.0, -3600.0])
    def test_a_clock_that_is_set_changes_no_interval(self, jump: float) -> None:
        watch = Watch()
        watch.see(job("RUNNING"))
        watch.now += jump
        delay = watch.see(job("RUNNING"), after=100).delay
        assert delay is not None
        assert 40 <= delay <= 60
        assert len(watch.log) == 1, "it is no heartbeat"
        watch.see(DOWN, after=60)
        watch.now += jump
        assert watch.see(DOWN, after=60).end is None
        assert watch.see(job("SUCCEEDED"), after=60).end is End.ENDED
        assert watch.log[-2:] == [
            "The API answers again after 2 failed looks in 2 min.",
            f"Succeeded after 4 min 40 s running · {NAME}",
        ]

    def test_the_deadline_follows_the_clock_on_the_wall(self) -> None:
        watch = Watch(deadline=START + 1000)
        assert watch.see(job("RUNNING")).delay is not None
        watch.now += 3600
        assert watch.see(job("RUNNING"), after=1).end is End.TIMED_OUT


class TestRest:
    """For how long another sight of the same state has nothing to tell: who polls for many counts on it."""

    def test_until_the_next_heartbeat(self) -> None:
        watch = Watch()
        watch.see(job("RUNNING"))
        assert watch.wait.rest(now=watch.now, tick=watch.tick) == (HEARTBEAT, False)
        assert watch.wait.rest(now=watch.now + 100, tick=watch.tick + 100) == (HEARTBEAT - 100, False)
        assert watch.see(job("RUNNING"), after=HEARTBEAT - 1).news == ()
        assert watch.see(job("RUNNING"), after=1).news != ()
        assert watch.wait.rest(now=watch.now, tick=watch.tick) == (HEARTBEAT, False)

    def test_until_the_deadline_where_that_comes_first(self) -> None:
        watch = Watch(deadline=START + 350)
        watch.see(job("RUNNING"))
        assert watch.wait.rest(now=watch.now, tick=watch.tick) == (HEARTBEAT, False)
        watch.see(job("RUNNING"), after=HEARTBEAT)
        assert watch.wait.rest(now=watch.now, tick=watch.tick) == (50, True)
        assert watch.wait.rest(now=watch.now + 100, tick=watch.tick + 100) == (0, True)


class TestErrors:
    @pytest.mark.parametrize("kind", PERMANENT)
    def test_a_refusal_is_borne_for_some_minutes(self, kind: ErrorKind) -> None:
        watch = Watch()
        delays = [watch.see(ApiError(kind, "no")).delay]
        delays += [watch.see(ApiError(kind, "no"), after=49.9).delay for _ in range(6)]
        assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0], "with backoff"
        assert watch.see(ApiError(kind, "no"), after=0.7).end is End.GIVEN_UP
        assert watch.log[0] == f"Could not look: no. Looking again: the job is not affected · {NAME}"

    @pytest.mark.parametrize("kind", PERMANENT)
    def test_only_uninterrupted_refusals_count(self, kind: ErrorKind) -> None:
        watch = Watch(error_budget=3600)
        for sight in (job("RUNNING"), DOWN, job("RUNNING")):
            assert watch.see(ApiError(kind, "no"), after=10).delay is not None
            assert watch.see(ApiError(kind, "no"), after=SIGHT_SECONDS - 1).delay is not None
            assert watch.see(sight, after=1).delay is not None

    @pytest.mark.parametrize("kind", PERMANENT)
    def test_refusals_and_outages_in_turn_are_not_borne_for_ever(self, kind: ErrorKind) -> None:
        watch = Watch(error_budget=600)
        for _ in range(4):
            assert watch.see(ApiError(kind, "no"), after=100).delay is not None
            assert watch.see(DOWN, after=50).delay is not None
        watch.see(ApiError(kind, "no"), after=50)
        assert watch.see(DOWN, after=50).end is End.GIVEN_UP

    def test_a_refusal_at_the_deadline_is_a_timeout(self) -> None:
        assert Watch(deadline=START).see(ApiError(ErrorKind.NOT_FOUND, "no")).end is End.TIMED_OUT

    @pytest.mark.parametrize("kind", TRANSIENT)
    def test_a_transient_error_is_told_and_outlived(self, kind: ErrorKind) -> None:
        watch = Watch()
        watch.see(job("RUNNING"))
        assert watch.see(ApiError(kind, "try later", 503), after=60).delay is not None
        watch.see(ApiError(kind, "try later", 503), after=30)
        watch.see(job("RUNNING"), after=30)
        assert watch.log[1:] == [
            f"Could not look: 503: try later. Looking again: the job is not affected · {NAME}",
            "The API answers again after 2 failed looks in 1 min.",
        ]
        assert watch.levels == [logging.INFO, logging.WARNING, logging.INFO]

    def test_long_trouble_is_told_like_a_heartbeat(self) -> None:
        watch = Watch()
        for _ in range(31):
            watch.see(DOWN, after=60)
        assert len(watch.log) == 7
        assert "Could not look 31 times in a row, for 30 min: " in watch.log[-1]

    def test_the_error_budget(self) -> None:
        watch = Watch(error_budget=120)
        assert watch.see(DOWN).delay is not None
        assert watch.see(DOWN, after=119).delay is not None
        assert watch.see(DOWN, after=1).end is End.GIVEN_UP

    def test_a_recovery_fills_the_budget_again(self) -> None:
        watch = Watch(error_budget=120)
        for _ in range(10):
            assert watch.see(DOWN, after=60).delay is not None
            assert watch.see(DOWN, after=60).delay is not None
            assert watch.see(job("RUNNING"), after=1).delay is not None

    def test_a_recovery_may_bring_the_end(self) -> None:
        watch = Watch()
        watch.see(DOWN)
        assert watch.see(job("FAILED"), after=60).end is End.ENDED
        assert watch.log[-2:] == [
            "The API answers again after 1 failed look in 1 min.",
            f"Failed · {NAME}",
        ]

    def test_the_deadline_holds_in_trouble_too(self) -> None:
        watch = Watch(deadline=START + 10)
        delay = watch.see(ApiError(ErrorKind.QUOTA, "no", retry_after=300)).delay
        assert delay == 10.0
        assert watch.see(DOWN, after=10).end is End.TIMED_OUT

    @pytest.mark.parametrize(("wish", "delay"), [(None, 0.5), (0.0, 0.5), (30.0, 30.0), (10**9, 60.0)])
    def test_the_servers_wish_is_heard_within_the_poll_interval(
        self, wish: float | None, delay: float
    ) -> None:
        assert Watch().see(ApiError(ErrorKind.QUOTA, "no", retry_after=wish)).delay == delay


_SEEN = st.one_of(
    st.sampled_from([state.value for state in JobState]).map(lambda state: {"state": state}),
    st.builds(
        lambda state, created: {"state": state, "createTime": created},
        st.text(),
        st.text() | st.none() | st.integers(),
    ),
    st.builds(
        lambda kind, retry_after: ApiError(kind, "no", retry_after=retry_after),
        st.sampled_from(TRANSIENT + PERMANENT),
        st.none() | st.floats(0, 10**9),
    ),
    st.sampled_from(TRANSIENT).map(lambda kind: ApiError(kind, "no")),
)
_LOOKS = st.lists(st.tuples(_SEEN, st.floats(0, 5000), st.floats(0, 1, exclude_max=True)), max_size=30)


@given(
    looks=_LOOKS,
    jump=st.sampled_from([0.0, 0.0, 3600.0, -3600.0]),
    poll_interval=st.floats(0.01, 1000),
    time_left=st.none() | st.floats(-10, 20_000),
    error_budget=st.floats(0, 7200),
)
def test_any_course_ends_once_truly_and_is_never_hurried_or_late(
    looks: list[tuple[Any, float, float]],
    jump: float,
    poll_interval: float,
    time_left: float | None,
    error_budget: float,
) -> None:
    deadline = None if time_left is None else START + time_left
    watch = Watch(poll_interval=poll_interval, deadline=deadline, error_budget=error_budget)
    final = [({"state": "JOB_STATE_FAILED"}, 1.0, 0.5)]
    for seen, late, random in looks + final:
        step = watch.see(seen, random=random)
        ended = isinstance(seen, dict) and outcome(str(seen["state"])).ended
        assert (step.end is End.ENDED) is ended
        if step.end is End.TIMED_OUT:
            assert deadline is not None
            assert watch.now >= deadline
        if step.end is End.GIVEN_UP:
            assert isinstance(seen, ApiError)
        if step.end is not None:
            break
        assert step.delay is not None
        assert 0 <= step.delay <= poll_interval
        if deadline is not None:
            assert watch.now + step.delay <= max(deadline, watch.now) + 1e-3
        watch.now += step.delay + late + jump
        watch.tick += step.delay + late
    else:
        pytest.fail("the wait did not end with its job")


def test_the_log_stays_short_in_a_long_wait() -> None:
    watch = Watch()
    step = watch.see(job("RUNNING"))
    looks = 0
    while watch.now < START + 24 * 3600:
        looks += 1
        step = watch.see(job("RUNNING"), after=step.delay or 0.0)
    assert looks < 24 * 3600 / 5
    assert len(watch.log) <= 24 * 3600 / HEARTBEAT + 1
