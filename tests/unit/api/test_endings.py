"""Which ends are news: each is told once, whatever the order in which a list shows them."""

from __future__ import annotations

from typing import Any

import pendulum
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_tuning_provider.api.endings import LAG, Mark, news

NOW = 1_800_000_000.0
DAY = 86_400.0


def job(number: int, ended: float | None, state: str = "JOB_STATE_SUCCEEDED") -> dict[str, Any]:
    end = {} if ended is None else {"endTime": pendulum.from_timestamp(ended).to_rfc3339_string()}
    return {"name": f"projects/p/locations/l/tuningJobs/{number}", "state": state, **end}


def names(jobs: list[Any]) -> list[str]:
    return [one["name"].rpartition("/")[2] for one in jobs]


def test_the_first_look_tells_what_ended_a_moment_ago_and_no_history() -> None:
    listed = [job(1, NOW - DAY), job(2, NOW - 60), job(3, None, "JOB_STATE_RUNNING")]
    assert names(news(listed, Mark.beginning(NOW), now=NOW, catch_up=DAY).jobs) == ["2"]


def test_an_end_that_a_list_shows_late_is_told() -> None:
    first = news([job(1, NOW)], Mark.beginning(NOW), now=NOW, catch_up=DAY)
    second = news([job(2, NOW - LAG + 1), job(1, NOW)], first.mark, now=NOW + 5, catch_up=DAY)
    assert names(second.jobs) == ["2"]


def test_after_a_pause_the_ends_meanwhile_are_told_in_their_order_but_no_flood_of_old_ones() -> None:
    mark = Mark.beginning(NOW - 7 * DAY)
    listed = [job(1, NOW - 3 * DAY), job(2, NOW - 100), job(3, NOW - 3600)]
    found = news(listed, mark, now=NOW, catch_up=DAY)
    assert names(found.jobs) == ["3", "2"]
    assert found.missed == 1
    again = news(listed, found.mark, now=NOW + 60, catch_up=DAY)
    assert (again.jobs, again.missed) == ([], 0)


def test_an_end_without_a_time_is_told_once() -> None:
    first = news([job(1, None)], Mark.beginning(NOW), now=NOW, catch_up=DAY)
    assert names(first.jobs) == ["1"]
    assert news([job(1, None)], first.mark, now=NOW + 60, catch_up=DAY).jobs == []


def test_an_end_in_the_future_hides_no_others() -> None:
    first = news([job(1, NOW + 30 * DAY)], Mark.beginning(NOW), now=NOW, catch_up=DAY)
    assert names(first.jobs) == ["1"]
    assert names(news([job(2, NOW + 60)], first.mark, now=NOW + 60, catch_up=DAY).jobs) == ["2"]


def test_a_mark_survives_its_store_and_whatever_else_stands_there() -> None:
    mark = news([job(1, NOW)], Mark.beginning(NOW), now=NOW, catch_up=DAY).mark
    assert Mark.from_json(mark.as_json(), now=NOW + 1) == mark
    for other in (None, "x", 3, {}, {"since": True}, {"since": "1"}, []):
        assert Mark.from_json(other, now=NOW) == Mark.beginning(NOW)
    assert Mark.from_json({"since": 5, "told": {"a": "x", "b": 7}}, now=NOW) == Mark(5.0, {"b": 7.0})


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 5000), st.floats(0, LAG - 1)), max_size=30), st.integers(30, 400))
def test_each_end_is_told_exactly_once(ends: list[tuple[float, float]], interval: int) -> None:
    """Jobs end at any time, and a list shows each end late."""
    mark, told, now = Mark.beginning(NOW), [], NOW
    while now < NOW + 5000 + 2 * LAG:
        listed = [
            job(number, NOW + end) for number, (end, late) in enumerate(ends) if NOW + end + late <= now
        ]
        found = news(listed, mark, now=now, catch_up=DAY)
        told += names(found.jobs)
        mark, now = found.mark, now + interval
    assert sorted(told) == sorted(str(number) for number in range(len(ends)))
