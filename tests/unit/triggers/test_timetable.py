"""Whose turn it is."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from airflow_tuning_provider.triggers.timetable import Timetable


@dataclass(eq=False)
class Waiter:
    due: float | None
    slot: int | None = None


def test_the_last_turn_of_each_waiter_counts_and_no_other() -> None:
    timetable: Timetable[Waiter] = Timetable()
    assert timetable.next_due() is None
    waiters = [Waiter(0.0), Waiter(1000.02), Waiter(1000.04)]
    for waiter in waiters:
        timetable.note(waiter)
    waiters[1].due = 1060.0
    timetable.note(waiters[1])
    timetable.note(waiters[1])
    assert timetable.next_due() == pytest.approx(0.0, abs=0.05)
    assert timetable.take(999.9) == [waiters[0]]
    assert timetable.take(1000.1) == [waiters[2]]
    waiters[0].due = 1030.0
    timetable.note(waiters[0])
    waiters[0].due = None
    timetable.note(waiters[0])
    assert timetable.take(1030.1) == []
    due = timetable.next_due()
    assert due is not None
    assert 1060.0 <= due <= 1060.06
    assert timetable.take(due) == [waiters[1]]
    assert timetable.next_due() is None
