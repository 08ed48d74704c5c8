"""What an attempt knows, how long it pauses, and what Airflow keeps of it."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import pytest

from airflow_tuning_provider._tasks.attempt import LONGEST_PAUSE, PAUSES, Attempt
from airflow_tuning_provider._tasks.memory import KEY, Memory
from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator

LOG = logging.getLogger(__name__)


class TestAttempt:
    def test_it_travels_as_json(self) -> None:
        attempt = Attempt(1.0, 2.0, "n", 3.0, ["a"], ["b"], True, 4, 5.0)
        assert Attempt.from_json(json.loads(json.dumps(attempt.as_json())), now=9.0) == attempt

    @pytest.mark.parametrize("given", [None, {}, [], "x", {"of a later version": 1}])
    def test_what_is_missing_or_unknown_does_no_harm(self, given: Any) -> None:
        assert Attempt.from_json(given, now=9.0) == Attempt(9.0)

    def test_pauses_grow_up_to_a_bound(self) -> None:
        attempt = Attempt(0.0)
        pauses = [attempt.next_pause() for _ in range(len(PAUSES) + 2)]
        assert pauses == [*PAUSES, LONGEST_PAUSE, LONGEST_PAUSE]
        assert sorted(pauses) == pauses
        assert attempt.pauses == len(pauses)


def task(deadline: float | None, poll_interval: float = 60.0) -> CreateTuningJobOperator:
    operator = CreateTuningJobOperator(task_id="t", poll_interval=poll_interval)
    operator.attempt = Attempt(0.0, deadline, pauses=3)
    return operator


class TestPause:
    """The fourth pause in a row takes eight seconds."""

    def seconds(self, operator: CreateTuningJobOperator, least: float = 0.0) -> float:
        pause = operator.pause(least)
        assert pause.name is None
        assert pause.until is not None
        return round(pause.until - time.time())

    def test_it_is_as_long_as_its_turn_says(self) -> None:
        assert self.seconds(task(None)) == 8

    def test_it_is_no_longer_than_the_poll_interval(self) -> None:
        assert self.seconds(task(None, poll_interval=3.0)) == 3

    def test_it_is_as_long_as_was_asked_for(self) -> None:
        assert self.seconds(task(None, poll_interval=3.0), least=20.0) == 20

    def test_it_ends_at_the_deadline(self) -> None:
        assert self.seconds(task(time.time() + 5.0)) == 5

    def test_a_deadline_that_has_passed_is_no_bound(self) -> None:
        assert self.seconds(task(time.time() - 5.0)) == 8


class BrokenStore:
    def get(self, *_: Any) -> Any:
        raise ConnectionError("away")

    def set(self, *_: Any) -> None:
        raise ConnectionError("away")


class KeptStore:
    def __init__(self, kept: dict[str, Any]) -> None:
        self.kept = kept

    def get(self, key: str) -> Any:
        return self.kept.get(key)

    def set(self, key: str, value: Any) -> None:
        self.kept[key] = value


class TestMemory:
    def test_it_keeps_and_forgets(self) -> None:
        store: dict[str, Any] = {}
        memory = Memory(KeptStore(store), LOG)
        memory.remember(name="n", parent="p", max_tries=2, sent=1.5, sent_by=2, doubt=True, over=True)
        again = Memory(KeptStore(store), LOG)
        assert (again.name, again.parent, again.max_tries) == ("n", "p", 2)
        assert (again.sent, again.sent_by, again.doubt, again.over) == (1.5, 2, True, True)
        again.remember(sent=None, over=None)
        last = Memory(KeptStore(store), LOG)
        assert (last.name, last.sent, last.over, last.doubt) == ("n", None, False, True)
        assert None not in store[KEY].values()

    @pytest.mark.parametrize("store", [None, BrokenStore()], ids=["none", "broken"])
    def test_without_a_store_it_lasts_as_long_as_the_process(self, store: Any) -> None:
        memory = Memory(store, LOG)
        assert (memory.name, memory.sent, memory.over, memory.doubt, memory.blind) == (
            None,
            None,
            False,
            False,
            None,
        )
        memory.remember(name="n")
        assert memory.name == "n"

    @pytest.mark.parametrize(
        "kept", ["x", [], 5, {"name": 5, "sent": "x", "over": 1, "blind": [1], "max_tries": "2"}]
    )
    def test_what_somebody_else_wrote_there_does_no_harm(self, kept: Any) -> None:
        memory = Memory(type("Store", (), {"get": lambda *_: kept})(), LOG)
        assert (memory.name, memory.sent, memory.over, memory.blind, memory.max_tries) == (
            None,
            None,
            False,
            None,
            None,
        )
