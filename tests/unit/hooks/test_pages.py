"""Pages are read quickly where they are as promised, and as they always were where they are not."""

from __future__ import annotations

import gc
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_tuning_provider.api import responses
from airflow_tuning_provider.api.calls import Calls
from airflow_tuning_provider.api.errors import ApiError
from airflow_tuning_provider.api.responses import Answer
from airflow_tuning_provider.api.sights import Board, Sights
from airflow_tuning_provider.hooks.pages import read_quickly

PARENT = "projects/123/locations/us-central1"
RUNNING = "JOB_STATE_RUNNING"
BOARD = Board(
    {f"tuningJobs/{number}": 1 for number in range(1, 9)},
    {"tuningJobs/1": RUNNING, "tuningJobs/2": RUNNING, "tuningJobs/3": "JOB_STATE_UNSPECIFIED"},
)


def job(number: object, state: Any = RUNNING, **more: Any) -> dict[str, Any]:
    return {"name": f"{PARENT}/tuningJobs/{number}", "state": state, **more}


def slowly(content: bytes, asked: str | None = None) -> Sights | ApiError:
    """Read a page as everybody reads one, then compare."""
    payload = responses.read(Answer(200, {}, content), now=0.0)
    if isinstance(payload, ApiError):
        return payload
    call = Calls("123", "us-central1").sights(
        "123", "us-central1", BOARD, read_quickly, page_size=5, page_token=asked, fields=None
    )
    return call.read(payload)


def test_only_news_become_objects() -> None:
    page = {"tuningJobs": [job(1), job(2, "JOB_STATE_FAILED"), job(4), job(99)], "nextPageToken": "t"}
    found = read_quickly(json.dumps(page).encode(), BOARD, None)
    assert found == Sights(
        "t",
        {"tuningJobs/1", "tuningJobs/2", "tuningJobs/4"},
        [("tuningJobs/2", job(2, "JOB_STATE_FAILED")), ("tuningJobs/4", job(4))],
    )


def test_progress_comes_with_news() -> None:
    more = {"tuningJobState": "TUNING_JOB_STATE_TUNING", "tuningJobMetadata": {"completedStepCount": "3"}}
    found = read_quickly(json.dumps({"tuningJobs": [job(1, **more), job(4, **more)]}).encode(), BOARD, None)
    assert found == Sights(None, {"tuningJobs/1", "tuningJobs/4"}, [("tuningJobs/4", job(4, **more))])


def test_a_page_without_news_leaves_next_to_nothing_for_the_garbage_collector() -> None:
    waiting = {f"tuningJobs/{number}": RUNNING for number in range(1000)}
    content = json.dumps({"tuningJobs": [job(number) for number in range(1000)]}).encode()
    read_quickly(content, Board(waiting, waiting), None)
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        found = read_quickly(content, Board(waiting, waiting), None)
        after = len(gc.get_objects())
    finally:
        gc.enable()
    assert found is not None
    assert (len(found.seen), found.news) == (1000, [])
    assert after - before < 10


@pytest.mark.parametrize(
    "page",
    [
        {"tuningJobs": [job(1), job("x y")]},
        {"tuningJobs": [job(1), {"name": "x"}]},
        {"tuningJobs": [{"name": f"projects/A B/locations/us-central1/tuningJobs/{n}"} for n in (1, 2)]},
        {"tuningJobs": [{}]},
        {"tuningJobs": [None]},
        {"tuningJobs": None},
        {"tuningJobs": {}},
        {"tuningJobs": [job(1, 5)]},
        {"tuningJobs": [job(1, None)]},
        {"nextPageToken": 5},
        {"nextPageToken": "asked"},
        {"error": {"code": 5}},
        {"error": None},
        [],
        "text",
        None,
    ],
    ids=str,
)
def test_what_is_not_as_promised_is_left_to_who_can_tell(page: Any) -> None:
    assert read_quickly(json.dumps(page).encode(), BOARD, "asked") is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[" * 100_000, b'{"a":' + b"[" * 100_000, b"<html>"]
)
def test_what_is_no_json_is_left_to_who_can_tell(content: bytes) -> None:
    assert read_quickly(content, BOARD, None) is None


_STATES = st.sampled_from([RUNNING, "JOB_STATE_SUCCEEDED", "", "JOB_STATE_UNSPECIFIED", None, 5, [], "new"])
_NAMES = (
    st.sampled_from([f"{PARENT}/tuningJobs/{number}" for number in (*range(1, 12), "x", "²")]) | st.text()
)
_ENTRIES = st.fixed_dictionaries({}, optional={"name": _NAMES | st.none(), "state": _STATES}) | st.none()
_PAGES = st.fixed_dictionaries(
    {},
    optional={
        "tuningJobs": st.lists(_ENTRIES, max_size=6),
        "nextPageToken": st.sampled_from(["", "asked", "next", None, 5]),
        "unheardOf": st.integers() | st.text(),
    },
)


@given(page=_PAGES)
def test_both_ways_read_the_same(page: Any) -> None:
    content = json.dumps(page).encode()
    quick = read_quickly(content, BOARD, "asked")
    slow = slowly(content, "asked")
    if quick is not None:
        assert isinstance(slow, Sights)
        assert (quick.token, quick.seen) == (slow.token, slow.seen)
        assert [(r, j["name"], j["state"]) for r, j in quick.news] == [
            (r, j["name"], j["state"]) for r, j in slow.news
        ]
