"""Many triggers on one event loop share one poll, and none of them pays for another's trouble."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_tuning_provider.api.errors import ApiError, ErrorKind
from airflow_tuning_provider.api.waiting import Wait
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.exceptions import AirflowNotFoundException
from airflow_tuning_provider.hooks.tuning_job import TuningJobAsyncHook, TuningJobHook
from airflow_tuning_provider.triggers import tuning_job as triggers
from airflow_tuning_provider.triggers import watching
from airflow_tuning_provider.triggers.tuning_job import TuningJobTrigger

BODY = {
    "baseModel": "gemini-3.5-flash",
    "supervisedTuningSpec": {
        "trainingDatasetUri": "gs://bucket/train.jsonl",
        "hyperParameters": {"epochCount": 1_000_000},
    },
}


@pytest.fixture
def jobs(server: Emulator) -> list[str]:
    with TuningJobHook() as hook:
        return [hook.create_tuning_job(BODY)["name"] for _ in range(250)]


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    gc.collect()
    for registry in watching._REGISTRIES.values():
        assert not registry._hooks
        assert not registry._watches


def trigger(name: str, **kwargs: Any) -> TuningJobTrigger:
    return TuningJobTrigger(
        **{"gcp_conn_id": "google_cloud_default", "tuning_job_name": name, "poll_interval": 0.5, **kwargs}
    )


async def payload(waiting: TuningJobTrigger) -> dict[str, Any]:
    async for event in waiting.run():
        return event.payload  # type: ignore[no-any-return]
    raise AssertionError("no event")


def polls(server: Emulator, since: int) -> tuple[int, int]:
    """Return how many gets and how many list pages the server has seen."""
    seen = [r for r in server.requests(since) if r["method"] == "GET"]
    lists = sum(r["path"].endswith("/tuningJobs") for r in seen)
    return len(seen) - lists, lists


async def test_many_jobs_are_looked_at_by_a_walk_with_one_session(server: Emulator, jobs: list[str]) -> None:
    since = server.last_request()
    tasks = [asyncio.create_task(payload(trigger(name))) for name in jobs]
    await asyncio.sleep(2.2)
    gets, pages = polls(server, since)
    # One interval takes three pages for 250 jobs, where gets of their own would take 250 requests. The first
    # triggers may be looked at before the others are there.
    assert pages >= 3
    assert gets + pages < 100
    for name in jobs:
        server.set_state(name, "JOB_STATE_SUCCEEDED")
    ended = await asyncio.gather(*tasks)
    assert [event["tuning_job_name"] for event in ended] == jobs
    assert {event["status"] for event in ended} == {"ended"}


async def test_each_waiter_gets_the_end_of_its_own_job(server: Emulator, jobs: list[str]) -> None:
    states = ["JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED"]
    tasks = [asyncio.create_task(payload(trigger(name))) for name in jobs[:40]]
    await asyncio.sleep(0.3)
    for index, name in enumerate(jobs[:40]):
        server.set_state(name, states[index % 4])
    ended = await asyncio.gather(*tasks)
    assert [event["state"] for event in ended] == [states[index % 4] for index in range(40)]


async def test_late_joiner_and_two_waiters_for_one_job(server: Emulator, jobs: list[str]) -> None:
    first = asyncio.create_task(payload(trigger(jobs[0])))
    await asyncio.sleep(0.7)
    second = asyncio.create_task(payload(trigger(jobs[0])))
    late = asyncio.create_task(payload(trigger(jobs[1])))
    server.set_state(jobs[1], "JOB_STATE_SUCCEEDED")
    assert (await late)["state"] == "JOB_STATE_SUCCEEDED"
    server.set_state(jobs[0], "JOB_STATE_SUCCEEDED")
    assert (await first)["state"] == (await second)["state"] == "JOB_STATE_SUCCEEDED"


async def test_one_job_is_looked_at_once_an_interval(server: Emulator, jobs: list[str]) -> None:
    since = server.last_request()
    task = asyncio.create_task(payload(trigger(jobs[0])))
    await asyncio.sleep(2.2)
    gets, pages = polls(server, since)
    assert pages == 0
    assert gets <= 6
    server.set_state(jobs[0], "JOB_STATE_SUCCEEDED")
    await task


async def test_job_that_vanished_fails_alone(server: Emulator, jobs: list[str]) -> None:
    gone = f"{jobs[0].rpartition('/')[0]}/4711"
    tasks = [asyncio.create_task(payload(trigger(name))) for name in [gone, *jobs[:30]]]
    assert (await tasks[0])["http_status"] == 404
    for name in jobs[:30]:
        server.set_state(name, "JOB_STATE_SUCCEEDED")
    assert {event["status"] for event in await asyncio.gather(*tasks[1:])} == {"ended"}


async def test_who_may_not_list_gets(server: Emulator, jobs: list[str]) -> None:
    server.fault(method="GET", path_regex="/tuningJobs$", times=-1, status=403)
    tasks = [asyncio.create_task(payload(trigger(name))) for name in jobs[:30]]
    await asyncio.sleep(0.5)
    for name in jobs[:30]:
        server.set_state(name, "JOB_STATE_SUCCEEDED")
    assert {event["status"] for event in await asyncio.gather(*tasks)} == {"ended"}
    assert sum(r["path"].endswith("/tuningJobs") for r in server.requests() if r["status"] == 403) == 1


async def test_fault_in_the_poll_fails_nobody(
    server: Emulator, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = watching.Watch._walk
    broken = iter([True, True, False])

    async def walk(self: watching.Watch, due: set[str]) -> set[str]:
        if next(broken, False):
            raise RuntimeError("a bug")
        return await real(self, due)

    monkeypatch.setattr(watching.Watch, "_walk", walk)
    server.fault(method="GET", path_regex="/tuningJobs$", times=2, status=503)
    tasks = [asyncio.create_task(payload(trigger(name))) for name in jobs[:30]]
    for name in jobs[:30]:
        server.set_state(name, "JOB_STATE_SUCCEEDED")
    assert {event["status"] for event in await asyncio.gather(*tasks)} == {"ended"}


async def test_the_others_are_looked_at_after_some_have_ended(server: Emulator, jobs: list[str]) -> None:
    """A walk sees the end of jobs whose own turn would come later."""
    intervals = [0.3, 2] * 50
    tasks = [
        asyncio.create_task(payload(trigger(name, poll_interval=interval)))
        for name, interval in zip(jobs, intervals, strict=False)
    ]
    for tenth in range(0, 100, 10):
        await asyncio.sleep(0.3)
        for name in jobs[tenth : tenth + 10]:
            server.set_state(name, "JOB_STATE_SUCCEEDED")
    ended = await asyncio.wait_for(asyncio.gather(*tasks), 20)
    assert {event["status"] for event in ended} == {"ended"}


async def test_fault_in_the_timetable_stops_nobody(
    server: Emulator, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = watching._Timetable.take
    broken = iter([False, True, False])

    def take(self: Any, until: float) -> list[watching.Waiter]:
        due = real(self, until)
        if next(broken, False):
            raise RuntimeError("a bug")
        return due

    monkeypatch.setattr(watching._Timetable, "take", take)
    tasks = [asyncio.create_task(payload(trigger(name))) for name in jobs[:30]]
    await asyncio.sleep(1)
    for name in jobs[:30]:
        server.set_state(name, "JOB_STATE_SUCCEEDED")
    ended = await asyncio.wait_for(asyncio.gather(*tasks), 20)
    assert {event["status"] for event in ended} == {"ended"}


async def test_deadline_of_one_does_not_end_the_others(server: Emulator, jobs: list[str]) -> None:
    hurried = asyncio.create_task(payload(trigger(jobs[0], end_time=time.time() + 0.5)))
    patient = [asyncio.create_task(payload(trigger(name))) for name in jobs[1:20]]
    assert (await hurried)["status"] == "timeout"
    for name in jobs[1:20]:
        server.set_state(name, "JOB_STATE_SUCCEEDED")
    assert {event["status"] for event in await asyncio.gather(*patient)} == {"ended"}


async def test_cancelled_waiter_leaves_with_airflows_message(server: Emulator, jobs: list[str]) -> None:
    tasks = [asyncio.create_task(payload(trigger(name))) for name in jobs[:20]]
    await asyncio.sleep(0.5)
    tasks[0].cancel("user-action")
    with pytest.raises(asyncio.CancelledError, match="user-action"):
        await tasks[0]
    for name in jobs[1:20]:
        server.set_state(name, "JOB_STATE_SUCCEEDED")
    assert {event["status"] for event in await asyncio.gather(*tasks[1:])} == {"ended"}


async def test_key_that_was_replaced_in_the_connection_is_picked_up(
    server: Emulator, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = asyncio.create_task(payload(trigger(jobs[0])))
    await asyncio.sleep(0.5)
    extra = {"project": "test-project", "location": "us-central1", "api_endpoint": server.url}
    monkeypatch.setenv(
        "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT",
        json.dumps({"conn_type": "vertex_ai_tuning", "password": "another-token", "extra": extra}),
    )
    server.fault(method="GET", path_regex="tuningJobs/", times=2, status=401)
    await asyncio.sleep(1)
    server.set_state(jobs[0], "JOB_STATE_SUCCEEDED")
    assert (await task)["status"] == "ended"


async def test_looks_side_by_side_all_get_the_replaced_key(
    server: Emulator, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    renewals = []
    refused = ApiError(ErrorKind.UNAUTHENTICATED, "the key was deleted", http_status=401)

    def with_the_old_key(call: Any) -> Any:
        async def answer(hook: TuningJobAsyncHook, *args: Any, **kwargs: Any) -> Any:
            old = replaced and not renewals
            await asyncio.sleep(0.2)
            return refused if old else await call(hook, *args, **kwargs)

        return answer

    async def reopen(_: TuningJobAsyncHook) -> None:
        renewals.append(time.monotonic())

    replaced = False
    for name in ("look", "look_at_page"):
        monkeypatch.setattr(TuningJobAsyncHook, name, with_the_old_key(getattr(TuningJobAsyncHook, name)))
    monkeypatch.setattr(TuningJobAsyncHook, "reopen", reopen)
    tasks = [asyncio.create_task(payload(trigger(name))) for name in jobs[:8]]
    await asyncio.sleep(1)
    replaced = True
    await asyncio.sleep(2)
    assert len(renewals) == 1
    since = server.last_request()
    await asyncio.sleep(1.5)
    assert polls(server, since)[1] > 0, "the list is walked again"
    for name in jobs[:8]:
        server.set_state(name, "JOB_STATE_SUCCEEDED")
    assert {event["status"] for event in await asyncio.gather(*tasks)} == {"ended"}


async def test_long_pause_that_a_list_asks_for_does_not_stop_the_poll(
    server: Emulator, jobs: list[str]
) -> None:
    first = [asyncio.create_task(payload(trigger(name))) for name in jobs[:100]]
    await asyncio.sleep(1)
    server.fault(
        method="GET", path_regex="/tuningJobs$", times=1, status=503, headers={"Retry-After": "3600"}
    )
    await asyncio.sleep(1)
    server.set_state(jobs[200], "JOB_STATE_SUCCEEDED")
    assert (await asyncio.wait_for(payload(trigger(jobs[200])), 10))["status"] == "ended"
    for task in first:
        task.cancel()
    await asyncio.gather(*first, return_exceptions=True)


async def test_connection_that_is_missing_for_a_moment_is_looked_up_again(
    server: Emulator, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_CONNECTION_PAUSE", 0.2)
    connection = os.environ["AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT"]
    monkeypatch.delenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT")
    server.set_state(jobs[0], "JOB_STATE_SUCCEEDED")
    task = asyncio.create_task(payload(trigger(jobs[0])))
    await asyncio.sleep(1)
    assert not task.done()
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", connection)
    assert (await task)["status"] == "ended"


async def test_connection_that_does_not_exist_fails_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_CONNECTION_PAUSE", 0.1)
    monkeypatch.setattr(watching, "_CONNECTION_SECONDS", 0.5)
    with pytest.raises(AirflowNotFoundException, match="no_such_connection"):
        await payload(trigger("7", gcp_conn_id="no_such_connection"))


async def test_bad_connection_hurts_only_its_own_waiters(
    server: Emulator, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", json.dumps({"conn_type": "x", "extra": {"location": "/"}}))
    good = asyncio.create_task(payload(trigger(jobs[0])))
    bad = await payload(trigger(jobs[1], gcp_conn_id="broken"))
    assert bad["status"] == "error"
    server.set_state(jobs[0], "JOB_STATE_SUCCEEDED")
    assert (await good)["status"] == "ended"


@pytest.fixture
def _every_task_was_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand for Airflow's answer; tests/proofs/kill asks a real one."""

    async def was_killed(_: TuningJobTrigger) -> bool:
        return True

    monkeypatch.setattr(TuningJobTrigger, "_was_killed", was_killed)


@pytest.mark.usefixtures("_every_task_was_killed")
async def test_kills_at_once_share_a_session(
    server: Emulator, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    real = TuningJobAsyncHook._settings
    monkeypatch.setattr(TuningJobAsyncHook, "_settings", lambda *args: opened.append(args) or real(*args))
    killed = [trigger(name, cancel_on_kill=True) for name in jobs[:100]]
    await asyncio.gather(*(one.on_kill() for one in killed))
    assert {job["state"] for job in server.jobs()[:100]} <= {"JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED"}
    assert len(opened) == 1


@pytest.mark.usefixtures("_every_task_was_killed")
async def test_kill_that_takes_longer_than_airflow_waits_goes_on(
    server: Emulator, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triggers, "_KILL_SECONDS", 0.5)
    server.fault(method="POST", path_regex=":cancel$", delay_seconds=5)
    began = time.monotonic()
    await trigger(jobs[0], cancel_on_kill=True).on_kill()
    assert time.monotonic() - began < 4
    assert server.jobs()[0]["state"] not in ("JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED")
    await asyncio.gather(*triggers._KILLS)
    assert server.jobs()[0]["state"] in ("JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED")
    assert not triggers._KILLS


def test_the_timetable_keeps_the_last_turn_of_each_waiter_only() -> None:
    timetable, waiters = watching._Timetable(), [watching.Waiter(Wait(str(n), 60.0)) for n in range(3)]
    for waiter, due in zip(waiters, (0.0, 1000.02, 1000.04), strict=True):
        waiter.due = due
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
