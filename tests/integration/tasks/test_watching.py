"""Many triggers on one event loop share one poll, and none of them pays for another's trouble."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import json
import logging
import math
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from airflow_tuning_provider.api import polling, waiting
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.exceptions import TuningNotFoundError
from airflow_tuning_provider.hooks import _base
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
from airflow_tuning_provider.triggers import sharing, watching
from airflow_tuning_provider.triggers import tuning_job as triggers
from airflow_tuning_provider.triggers.tuning_job import TuningJobTrigger
from tests.integration.hooks.test_credentials import TokenServer, service_account
from tests.integration.servers import Connection, Server, answering

BODY = {
    "baseModel": "gemini-3.5-flash",
    "supervisedTuningSpec": {
        "trainingDatasetUri": "gs://bucket/train.jsonl",
        "hyperParameters": {"epochCount": 1_000_000},
    },
}


@pytest.fixture
def jobs(server: Emulator) -> list[str]:
    created(250)
    return [job["name"] for job in server.jobs()]


def created(count: int) -> list[str]:
    with TuningJobHook() as hook, ThreadPoolExecutor(4) as pool:
        hook.open()
        return [job["name"] for job in pool.map(hook.create_tuning_job, [BODY] * count)]


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    gc.collect()
    assert not any(sharing._SHARED.values())
    assert not any(watching._WATCHES.values())


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


async def seen_by_a_walk(server: Emulator, jobs: list[str], names: list[str]) -> None:
    """Check that triggers with these names for the jobs share a walk, and see all of them end."""
    since = server.last_request()
    tasks = [asyncio.create_task(payload(trigger(name))) for name in names]
    await asyncio.sleep(2.2)
    gets, pages = polls(server, since)
    # One interval takes three pages for 250 jobs, where gets of their own would take 250 requests. The first
    # triggers may be looked at before the others are there.
    assert pages >= 3
    assert gets + pages < 100
    for name in jobs:
        server.set_state(name, "JOB_STATE_SUCCEEDED")
    ended = await asyncio.gather(*tasks)
    assert [event["name"] for event in ended] == names
    assert {event["status"] for event in ended} == {"ended"}


async def test_many_jobs_are_looked_at_by_a_walk_with_one_session(server: Emulator, jobs: list[str]) -> None:
    await seen_by_a_walk(server, jobs, jobs)


async def test_each_waiter_gets_the_end_of_its_own_job(server: Emulator, jobs: list[str]) -> None:
    states = ["JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED"]
    tasks = [asyncio.create_task(payload(trigger(name))) for name in jobs[:40]]
    await asyncio.sleep(0.3)
    for index, name in enumerate(jobs[:40]):
        server.set_state(name, states[index % 4])
    ended = await asyncio.gather(*tasks)
    assert [(event["name"], event["status"]) for event in ended] == [(name, "ended") for name in jobs[:40]]


async def test_late_joiner_and_two_waiters_for_one_job(server: Emulator, jobs: list[str]) -> None:
    first = asyncio.create_task(payload(trigger(jobs[0])))
    await asyncio.sleep(0.7)
    second = asyncio.create_task(payload(trigger(jobs[0])))
    late = asyncio.create_task(payload(trigger(jobs[1])))
    server.set_state(jobs[1], "JOB_STATE_SUCCEEDED")
    assert (await late)["status"] == "ended"
    server.set_state(jobs[0], "JOB_STATE_SUCCEEDED")
    assert (await first)["status"] == (await second)["status"] == "ended"


async def test_one_job_is_looked_at_once_an_interval(server: Emulator, jobs: list[str]) -> None:
    since = server.last_request()
    task = asyncio.create_task(payload(trigger(jobs[0])))
    await asyncio.sleep(2.2)
    gets, pages = polls(server, since)
    assert pages == 0
    assert gets <= 6
    server.set_state(jobs[0], "JOB_STATE_SUCCEEDED")
    await task


async def test_job_that_vanished_is_given_up_alone(
    server: Emulator, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SIGHT_SECONDS", 1.0)
    gone = f"{jobs[0].rpartition('/')[0]}/4711"
    tasks = [asyncio.create_task(payload(trigger(name))) for name in [gone, *jobs[:30]]]
    given_up = await tasks[0]
    assert given_up["error"] == "TuningUnavailableError", "a retry may find it"
    assert "404" in given_up["message"]
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
    assert sum(r["path"].endswith("/tuningJobs") for r in server.requests() if r["status"] == 403) == 2


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
    real = watching.Timetable.take
    broken = iter([False, True, False])

    def take(self: Any, until: float) -> list[watching.Waiter]:
        due = real(self, until)
        if next(broken, False):
            raise RuntimeError("a bug")
        return due

    monkeypatch.setattr(watching.Timetable, "take", take)
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


@pytest.fixture
def strict() -> Iterator[Emulator]:
    """An API that takes one token only."""
    with Emulator(speed=4000, datasets="skip", token="new-token") as emulator:
        yield emulator


def connect(monkeypatch: pytest.MonkeyPatch, url: str, token: str | None = "a-token", **extra: Any) -> None:
    scope = {"project": "test-project", "location": "us-central1", "api_endpoint": url}
    value = {"conn_type": "vertex_ai_tuning", "password": token, "extra": {**scope, **extra}}
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(value))


async def test_connection_is_as_fresh_as_its_newest_user(
    server: Emulator, strict: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody mends it while another task waits: the next one is not refused, and the first one sees again."""
    connect(monkeypatch, strict.url, "new-token")
    names = created(2)
    connect(monkeypatch, strict.url, "old-token")
    first = asyncio.create_task(payload(trigger(names[0])))
    await asyncio.sleep(0.5)
    connect(monkeypatch, strict.url, "new-token")
    second = asyncio.create_task(payload(trigger(names[1])))
    await asyncio.sleep(0.5)
    since = strict.last_request()
    await asyncio.sleep(1.2)
    assert {r["status"] for r in strict.requests(since)} == {200}
    for name in names:
        strict.set_state(name, "JOB_STATE_SUCCEEDED")
    assert {event["status"] for event in await asyncio.gather(first, second)} == {"ended"}


async def test_connection_that_is_read_again_and_is_the_same_keeps_session_and_token(
    server: Emulator, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, read = [], []
    real_open, real_get = TuningJobHook.open, TuningJobHook.aget_connection
    monkeypatch.setattr(TuningJobHook, "open", lambda self: opened.append(self) or real_open(self))

    async def get(conn_id: str) -> Any:
        read.append(conn_id)
        await asyncio.sleep(0.2)
        return await real_get(conn_id)

    monkeypatch.setattr(TuningJobHook, "aget_connection", staticmethod(get))
    tasks = [asyncio.create_task(payload(trigger(name))) for name in jobs[:20]]
    await asyncio.sleep(0.1)
    tasks += [asyncio.create_task(payload(trigger(name))) for name in jobs[20:40]]
    await asyncio.sleep(1)
    assert len(read) == 2, "one under way, and one for all who came meanwhile"
    for name in jobs[:40]:
        server.set_state(name, "JOB_STATE_SUCCEEDED")
    await asyncio.gather(*tasks)
    assert len({id(hook.credentials) for hook in opened}) == 1


async def test_reading_of_the_connection_is_never_broken_off(
    server: Emulator, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The triggerer of Airflow 3.1 would take the answer for that to its next question, and end."""
    answered: list[str] = []

    async def get(conn_id: str) -> Any:
        await asyncio.sleep(0.3)
        answered.append(conn_id)

    monkeypatch.setattr(TuningJobHook, "aget_connection", staticmethod(get))
    task = asyncio.create_task(payload(trigger(jobs[0])))
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.sleep(0.5)
    assert task.cancelled()
    assert len(answered) == 1


@pytest.mark.parametrize("count", [1, 8, 40])
async def test_no_refusal_is_the_last_word_before_the_connection_is_read_again(
    server: Emulator, strict: Emulator, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """The key is replaced while jobs are waited for; looks side by side all get the new one."""
    connect(monkeypatch, strict.url, "new-token")
    names = created(count)
    strict.stop()
    strict._arguments[strict._arguments.index("new-token")] = "first-token"
    strict.start()
    connect(monkeypatch, strict.url, "first-token")
    names = created(count)
    tasks = [asyncio.create_task(payload(trigger(name, poll_interval=0.4))) for name in names]
    await asyncio.sleep(1)
    assert count == 1 or polls(strict, 0)[1] > 0
    connect(monkeypatch, strict.url, "second-token")
    strict.fault(method="GET", times=2 * count + 10, status=401)
    reads: list[str] = []
    real = TuningJobHook.aget_connection

    async def get(conn_id: str) -> Any:
        reads.append(conn_id)
        strict.clear_faults()
        connect(monkeypatch, strict.url, "first-token")
        return await real(conn_id)

    monkeypatch.setattr(TuningJobHook, "aget_connection", staticmethod(get))
    await asyncio.sleep(1.5)
    assert len(reads) == 1
    for name in names:
        strict.set_state(name, "JOB_STATE_SUCCEEDED")
    assert {event["status"] for event in await asyncio.gather(*tasks)} == {"ended"}


async def test_connection_that_stays_refused_is_read_once_a_minute_at_most(
    server: Emulator, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    real = TuningJobHook.aget_connection

    async def get(conn_id: str) -> Any:
        reads.append(conn_id)
        return await real(conn_id)

    monkeypatch.setattr(TuningJobHook, "aget_connection", staticmethod(get))
    monkeypatch.setattr(_base, "RENEW_AFTER", 1.5)
    server.fault(method="GET", times=-1, status=403)
    task = asyncio.create_task(payload(trigger(jobs[0], poll_interval=0.1)))
    await asyncio.sleep(1.2)
    assert len(reads) == 2, "for the waiter, and for the first refusal"
    await asyncio.sleep(1.2)
    assert len(reads) == 3
    server.clear_faults()
    server.set_state(jobs[0], "JOB_STATE_SUCCEEDED")
    assert (await task)["status"] == "ended"


async def test_key_file_that_rotates_is_read_again(
    server: Emulator, jobs: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The connection reads the same, and what it names is another key; for a moment it is not there at all."""
    monkeypatch.setattr(_base, "RENEW_AFTER", 0.3)
    key = tmp_path / "key.json"
    good = json.dumps(service_account(f"{server.url}/_emulator/token"))
    with Server(answering((400, {"error": "invalid_grant"}))) as refusing:
        key.write_text(json.dumps(service_account(refusing.url)))
        connect(monkeypatch, server.url, None, key_path=str(key))
        task = asyncio.create_task(payload(trigger(jobs[0], poll_interval=0.2)))
        await asyncio.sleep(0.5)
        key.unlink()
        await asyncio.sleep(0.7)
        assert not task.done()
        key.write_text(good)
        server.set_state(jobs[0], "JOB_STATE_SUCCEEDED")
        assert (await asyncio.wait_for(task, 10))["status"] == "ended"


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


@pytest.mark.parametrize("broken", ["missing", "endpoint", "key file"])
async def test_connection_that_is_broken_for_a_moment_is_read_again(
    server: Emulator, jobs: list[str], monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    if broken == "missing":
        monkeypatch.delenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT")
    elif broken == "endpoint":
        connect(monkeypatch, "ftp://nonsense")
    else:
        connect(monkeypatch, server.url, None, key_path="/not/yet/mounted")
    server.set_state(jobs[0], "JOB_STATE_SUCCEEDED")
    task = asyncio.create_task(payload(trigger(jobs[0])))
    await asyncio.sleep(1)
    assert not task.done()
    connect(monkeypatch, server.url)
    assert (await task)["status"] == "ended"


@pytest.mark.parametrize("conn_id", ["no_such_connection", "broken"])
async def test_connection_that_stays_broken_is_given_up_retryably(
    monkeypatch: pytest.MonkeyPatch, conn_id: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", json.dumps({"conn_type": "x", "extra": {"location": "/"}}))
    monkeypatch.setattr(waiting, "SIGHT_SECONDS", 0.5)
    event = await payload(trigger("7", gcp_conn_id=conn_id))
    assert (event["status"], event["error"]) == ("error", "TuningUnavailableError")
    assert ("no_such_connection" if conn_id == "no_such_connection" else "location") in event["message"]


async def test_deadline_holds_while_the_connection_is_missing() -> None:
    began = time.monotonic()
    event = await payload(trigger("7", gcp_conn_id="no_such_connection", end_time=time.time() + 0.5))
    assert event["status"] == "timeout"
    assert time.monotonic() - began < 3


async def test_bad_connection_hurts_only_its_own_waiters(
    server: Emulator, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SIGHT_SECONDS", 0.5)
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", json.dumps({"conn_type": "x", "extra": {"location": "/"}}))
    good = asyncio.create_task(payload(trigger(jobs[0])))
    bad = await payload(trigger(jobs[1], gcp_conn_id="broken"))
    assert bad["status"] == "error"
    server.set_state(jobs[0], "JOB_STATE_SUCCEEDED")
    assert (await good)["status"] == "ended"


@pytest.mark.parametrize(
    "wrong",
    [
        {"tuning_job_name": "a/b"},
        {"poll_interval": math.inf},
        {"api_version": "v7"},
        {"request_timeout": 1e9},
    ],
    ids=str,
)
async def test_what_cannot_be_right_is_told_at_once(jobs: list[str], wrong: dict[str, Any]) -> None:
    began = time.monotonic()
    event = await payload(trigger(**{"name": jobs[0], **wrong}))
    assert (event["status"], event["error"]) == ("error", "TuningInvalidInputError")
    assert time.monotonic() - began < 3


async def test_names_with_the_project_s_id_are_found_in_a_list_that_has_its_number(
    server: Emulator, jobs: list[str]
) -> None:
    assert "test-project" not in jobs[0]
    spelled = [f"projects/test-project/{name.partition('/')[2].partition('/')[2]}" for name in jobs]
    await seen_by_a_walk(server, jobs, spelled)


async def test_walk_ends_where_nobody_waits_for_more(server: Emulator, jobs: list[str]) -> None:
    """The newest jobs stand on the first page, however their names are spelled."""
    newest = [f"projects/test-project/{name.partition('/')[2].partition('/')[2]}" for name in jobs[-50:]]
    tasks = [asyncio.create_task(payload(trigger(name))) for name in newest]
    await asyncio.sleep(1.2)
    since = server.last_request()
    await asyncio.sleep(1.2)
    pages = [r for r in server.requests(since) if r["path"].endswith("/tuningJobs")]
    assert pages
    assert not any("pageToken" in r["query"] for r in pages)
    for name in jobs[-50:]:
        server.set_state(name, "JOB_STATE_SUCCEEDED")
    await asyncio.gather(*tasks)


async def test_deadline_holds_while_a_list_has_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it seems where a project has very many jobs of others."""
    tokens = itertools.count()
    running = {"state": "JOB_STATE_RUNNING", "createTime": "2026-11-22T00:00:00Z"}

    def answer(client: Connection, request: bytes) -> None:
        path = request.split()[1].decode().partition("?")[0].removeprefix("/v1/")
        listed = path.endswith("/tuningJobs")
        client.answer(200, {"nextPageToken": f"t{next(tokens)}"} if listed else {**running, "name": path})

    with Server(answer) as api:
        extra = {"project": "test-project", "location": "us-central1", "api_endpoint": api.url}
        text = json.dumps({"conn_type": "vertex_ai_tuning", "password": "a-token", "extra": extra})
        monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", text)
        names = [f"projects/test-project/locations/us-central1/tuningJobs/{n}" for n in range(1, 5)]
        waits = [payload(trigger(name, end_time=time.time() + 1.5)) for name in names]
        ended = await asyncio.wait_for(asyncio.gather(*waits), 10)
    assert {event["status"] for event in ended} == {"timeout"}


async def test_one_refused_list_is_asked_for_again_after_a_while(
    server: Emulator, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_NO_WALKS_SECONDS", 1.5)
    server.fault(method="GET", path_regex="/tuningJobs$", times=2, status=403)
    tasks = [asyncio.create_task(payload(trigger(name))) for name in jobs[:30]]
    await asyncio.sleep(1.2)
    assert polls(server, 0)[1] <= 2
    await asyncio.sleep(1.5)
    assert polls(server, 0)[1] > 2
    for name in jobs[:30]:
        server.set_state(name, "JOB_STATE_SUCCEEDED")
    assert {event["status"] for event in await asyncio.gather(*tasks)} == {"ended"}


async def test_list_that_takes_no_mask_is_walked_without(server: Emulator, jobs: list[str]) -> None:
    server.fault(method="GET", path_regex="/tuningJobs$", times=1, status=400)
    tasks = [asyncio.create_task(payload(trigger(name))) for name in jobs[:30]]
    await asyncio.sleep(1)
    asked = [r for r in server.requests() if r["path"].endswith("/tuningJobs") and r["method"] == "GET"]
    assert ["fields" in r["query"] for r in asked[:2]] == [True, False]
    for name in jobs[:30]:
        server.set_state(name, "JOB_STATE_SUCCEEDED")
    assert {event["status"] for event in await asyncio.gather(*tasks)} == {"ended"}


async def test_beta_api_is_asked_for_the_progress_too(
    server: Emulator, jobs: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    identity = watching.Identity("google_cloud_default", (), "v1beta1", 60.0)
    server.overlay(jobs[3], {"tuningJobState": "TUNING_JOB_STATE_TUNING"})
    waits = [
        asyncio.create_task(
            watching.until_ended(
                identity, name, poll_interval=0.3, deadline=None, log=logging.getLogger("waiter")
            )
        )
        for name in jobs[:20]
    ]
    await asyncio.sleep(1.5)
    pages = [r for r in server.requests() if r["path"].endswith("/tuningJobs") and "fields" in r["query"]]
    assert {r["status"] for r in pages} == {200}
    assert all("tuningJobMetadata" in r["query"]["fields"] for r in pages)
    assert any(text.endswith(jobs[3]) and ", tuning" in text for text in caplog.messages)
    for name in jobs[:20]:
        server.set_state(name, "JOB_STATE_SUCCEEDED")
    assert {job["state"] for job in await asyncio.gather(*waits)} == {"JOB_STATE_SUCCEEDED"}


async def test_size_of_a_page_that_the_server_refuses_is_asked_for_smaller(
    server: Emulator, jobs: list[str]
) -> None:
    refusal = {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "page_size must be 1 to 100"}}
    server.fault(method="GET", path_regex="/tuningJobs$", times=1, status=400, body=refusal)
    tasks = [asyncio.create_task(payload(trigger(name))) for name in jobs]
    await asyncio.sleep(1.5)
    asked = [
        r["query"] for r in server.requests() if r["path"].endswith("/tuningJobs") and "fields" in r["query"]
    ]
    assert [query["pageSize"] for query in asked[:4]] == ["1000", "100", "100", "100"]
    for name in jobs:
        server.set_state(name, "JOB_STATE_SUCCEEDED")
    assert {event["status"] for event in await asyncio.gather(*tasks)} == {"ended"}


def spending(monkeypatch: pytest.MonkeyPatch, budget: float) -> None:
    """Let polls spend so many requests a minute."""
    monkeypatch.setattr(polling, "REQUESTS_A_MINUTE", budget)


@pytest.mark.parametrize(("count", "page_size", "most"), [(1, 1000, 11), (30, 1000, 11), (250, 100, 14)])
async def test_looks_come_as_often_as_the_budget_allows(
    server: Emulator,
    jobs: list[str],
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    page_size: int,
    most: int,
) -> None:
    spending(monkeypatch, 120)  # two a second
    monkeypatch.setattr(watching, "PAGE_SIZE", page_size)
    tasks = [asyncio.create_task(payload(trigger(name, poll_interval=60))) for name in jobs[:count]]
    await asyncio.sleep(5)
    gets, pages = polls(server, 0)
    assert 5 <= gets + pages <= most
    for name in jobs[:count]:
        server.set_state(name, "JOB_STATE_SUCCEEDED")
    began = time.monotonic()
    assert {event["status"] for event in await asyncio.gather(*tasks)} == {"ended"}
    assert time.monotonic() - began < 10, "not a whole poll_interval"


async def test_polls_of_many_projects_share_a_budget(
    server: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    spending(monkeypatch, 60)
    monkeypatch.setattr(polling, "REQUESTS_A_MINUTE_IN_ALL", 120)  # of 600 that ten of them would spend
    names = [
        server.seed({"state": "JOB_STATE_RUNNING"}, project=f"project-{number}")[0] for number in range(10)
    ]
    tasks = [asyncio.create_task(payload(trigger(name, poll_interval=60))) for name in names]
    await asyncio.sleep(1.5)  # the first look of each comes at once
    since = server.last_request()
    await asyncio.sleep(5)
    gets, pages = polls(server, since)
    assert pages == 0
    assert 5 <= gets <= 14
    for name in names:
        server.set_state(name, "JOB_STATE_SUCCEEDED")
    assert {event["status"] for event in await asyncio.gather(*tasks)} == {"ended"}


async def test_jobs_that_come_one_after_the_other_spend_no_more(
    server: Emulator, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spending(monkeypatch, 60)
    tasks = []
    for name in jobs[:60]:
        tasks.append(asyncio.create_task(payload(trigger(name, poll_interval=60))))
        await asyncio.sleep(0.05)
    gets, pages = polls(server, 0)
    assert 2 <= gets + pages <= 6
    for name in jobs[:60]:
        server.set_state(name, "JOB_STATE_SUCCEEDED")
    assert {event["status"] for event in await asyncio.gather(*tasks)} == {"ended"}


async def test_event_loop_deals_with_news_only(
    server: Emulator, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    real = waiting.Wait.advance

    def advance(self: waiting.Wait, *args: Any, **kwargs: Any) -> waiting.Step:
        told.append(self.name)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(waiting.Wait, "advance", advance)
    tasks = [asyncio.create_task(payload(trigger(name))) for name in jobs]
    await asyncio.sleep(2)
    assert sorted(set(told)) == sorted(jobs)
    told.clear()
    since = server.last_request()
    await asyncio.sleep(2)
    assert polls(server, since)[1] >= 2
    assert told == []
    second = asyncio.create_task(payload(trigger(jobs[0])))
    server.set_state(jobs[1], "JOB_STATE_PAUSED")
    await asyncio.sleep(1.5)
    assert sorted(told) == sorted([jobs[0], jobs[0], jobs[1]]), "and those who came later"
    for name in jobs:
        server.set_state(name, "JOB_STATE_SUCCEEDED")
    assert {event["status"] for event in await asyncio.gather(*tasks, second)} == {"ended"}


async def test_heartbeats_are_told_although_nothing_is_news(
    server: Emulator, jobs: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(waiting, "HEARTBEAT", 1.0)
    caplog.set_level(logging.INFO)
    log = logging.getLogger("waiter")
    identity = watching.Identity("google_cloud_default", (), "v1", 60.0)
    waits = [
        asyncio.create_task(watching.until_ended(identity, name, poll_interval=0.3, deadline=None, log=log))
        for name in jobs[:20]
    ]
    await asyncio.sleep(5)
    beats = [text for text in caplog.messages if text.startswith("Still running") and text.endswith(jobs[7])]
    assert 2 <= len(beats) <= 5
    for name in jobs[:20]:
        server.set_state(name, "JOB_STATE_SUCCEEDED")
    await asyncio.gather(*waits)


async def test_deadline_comes_at_once_where_the_clock_is_set_beyond_it(
    server: Emulator, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    tasks = [asyncio.create_task(payload(trigger(name, end_time=real() + 3600))) for name in jobs[:30]]
    await asyncio.sleep(1.5)
    monkeypatch.setattr(time, "time", lambda: real() + 7200)
    ended = await asyncio.wait_for(asyncio.gather(*tasks), 5)
    assert {event["status"] for event in ended} == {"timeout"}


@pytest.mark.parametrize("entry", [{}, None, {"name": "x"}, {"name": 5, "state": []}, {"state": {}}], ids=str)
async def test_list_with_a_malformed_entry_falls_back_to_gets(
    server: Emulator, jobs: list[str], entry: Any
) -> None:
    page = {"tuningJobs": [{"name": name, "state": "JOB_STATE_RUNNING"} for name in jobs[:30]] + [entry]}
    server.fault(method="GET", path_regex="/tuningJobs$", times=-1, status=200, body=page)
    tasks = [asyncio.create_task(payload(trigger(name))) for name in jobs[:30]]
    await asyncio.sleep(0.7)
    for name in jobs[:30]:
        server.set_state(name, "JOB_STATE_SUCCEEDED")
    ended = await asyncio.wait_for(asyncio.gather(*tasks), 10)
    assert {event["status"] for event in ended} == {"ended"}


async def test_listed_job_without_a_state_is_waited_for(server: Emulator, jobs: list[str]) -> None:
    page = {"tuningJobs": [{"name": name} for name in jobs[:30]]}
    fault = {"method": "GET", "path_regex": "/tuningJobs$", "times": -1, "status": 200, "body": page}
    server.fault(**fault)
    tasks = [asyncio.create_task(payload(trigger(name))) for name in jobs[:30]]
    await asyncio.sleep(1.2)
    gets, pages = polls(server, 0)
    assert pages > 0
    assert gets < 30
    server.clear_faults()
    for name in jobs[:30]:
        server.set_state(name, "JOB_STATE_SUCCEEDED")
    assert {event["status"] for event in await asyncio.gather(*tasks)} == {"ended"}


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
async def test_clock_that_is_set_changes_nothing(
    server: Emulator, jobs: list[str], monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    real = time.time
    tasks = [asyncio.create_task(payload(trigger(name, poll_interval=0.4))) for name in jobs[:3]]
    await asyncio.sleep(1)
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    since = server.last_request()
    await asyncio.sleep(2.1)
    gets, pages = polls(server, since)
    assert 3 <= gets / 3 + pages <= 8
    for name in jobs[:3]:
        server.set_state(name, "JOB_STATE_SUCCEEDED")
    ended = await asyncio.wait_for(asyncio.gather(*tasks), 5)
    assert {event["status"] for event in ended} == {"ended"}


async def test_operations_are_waited_for_beside_jobs(server: Emulator, jobs: list[str]) -> None:
    with TuningJobHook() as hook:
        job = hook.create_tuning_job(
            {**BODY, "supervisedTuningSpec": {"trainingDatasetUri": "gs://bucket/a.jsonl"}}
        )
        done = hook.wait_for_tuning_job(job["name"], poll_interval=0.1)
        body = {"tunedModelRef": {"tuningJob": done["name"]}, "tuningJob": {"baseModel": "gemini-3.5-flash"}}
        operations = [hook.rebase_tuned_model(body)["name"] for _ in range(3)]
    tasks = [asyncio.create_task(payload(trigger(name))) for name in jobs[1:30]]
    waits = [
        asyncio.create_task(
            watching.until_ended(
                watching.Identity("google_cloud_default", (), "v1", 60.0),
                name,
                poll_interval=0.3,
                deadline=time.time() + 20,
                log=logging.getLogger(__name__),
            )
        )
        for name in [*operations, operations[0]]
    ]
    done = await asyncio.gather(*waits)
    assert [operation["name"] for operation in done] == [*operations, operations[0]]
    assert all(operation["done"] is True for operation in done)
    for name in jobs[1:30]:
        server.set_state(name, "JOB_STATE_SUCCEEDED")
    assert {event["status"] for event in await asyncio.gather(*tasks)} == {"ended"}


def hang(connection: Connection, _: bytes) -> None:
    connection.hang()


async def test_hanging_token_services_stop_nobody_else(
    server: Emulator, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty callers whose token service hangs, and one whose does not."""
    with Server(hang) as tokens:
        for index in range(40):
            extra = {"project": "p", "location": "us-central1", "api_endpoint": "http://127.0.0.1:1"}
            extra["keyfile_dict"] = service_account(tokens.url)
            value = {"conn_type": "vertex_ai_tuning", "extra": extra}
            monkeypatch.setenv(f"AIRFLOW_CONN_HANGING_{index}", json.dumps(value))
        hanging = [
            asyncio.create_task(payload(trigger(str(job), gcp_conn_id=f"hanging_{index}")))
            for index in range(40)
            for job in range(5)
        ]
        while len(tokens.requests) < 40:
            await asyncio.sleep(0.01)
        began = time.monotonic()
        server.set_state(jobs[0], "JOB_STATE_SUCCEEDED")
        assert (await payload(trigger(jobs[0])))["status"] == "ended"
        await asyncio.to_thread(time.monotonic)  # the loop's own threads are free as well
        assert time.monotonic() - began < 3
        for task in hanging:
            task.cancel("user-action")
        began = time.monotonic()
        for task in hanging:
            with pytest.raises(asyncio.CancelledError, match="user-action"):
                await task
        assert time.monotonic() - began < 2


async def test_name_service_that_hangs_stops_nobody_else(
    server: Emulator, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    real = socket.getaddrinfo

    def look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host == "vertex.invalid":
            let_go.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    extra = {"project": "p", "location": "us-central1", "api_endpoint": "https://vertex.invalid"}
    value = {"conn_type": "vertex_ai_tuning", "password": "t", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_LOST", json.dumps(value))
    lost = [asyncio.create_task(payload(trigger(str(job), gcp_conn_id="lost"))) for job in range(50)]
    await asyncio.sleep(0.5)
    began = time.monotonic()
    server.set_state(jobs[0], "JOB_STATE_SUCCEEDED")
    assert (await payload(trigger(jobs[0])))["status"] == "ended"
    assert time.monotonic() - began < 3
    for task in lost:
        task.cancel()
    await asyncio.wait_for(asyncio.gather(*lost, return_exceptions=True), 2)
    let_go.set()


def test_triggerer_ends_at_once_though_everything_hangs(tmp_path: Path) -> None:
    """A process with an event loop of waiters, as a triggerer is: its token service hangs, then it is to end."""
    with Server(hang) as tokens:
        extra = {"project": "p", "location": "us-central1", "api_endpoint": "http://127.0.0.1:1"}
        extra["keyfile_dict"] = service_account(tokens.url)
        value = json.dumps({"conn_type": "vertex_ai_tuning", "extra": extra})
        program = """
            import asyncio, logging, sys, time
            from airflow_tuning_provider.triggers.watching import Identity, until_ended

            async def main():
                identity = Identity("google_cloud_default", (), "v1", 60.0)
                wait = lambda name: until_ended(
                    identity, name, poll_interval=1.0, deadline=None, log=logging.getLogger()
                )
                tasks = [asyncio.create_task(wait(str(name))) for name in range(30)]
                await asyncio.to_thread(sys.stdin.readline)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

            asyncio.run(main())
        """
        environment = {
            **os.environ,
            "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": value,
            "AIRFLOW_HOME": str(tmp_path),
        }
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program)],
            stdin=subprocess.PIPE,
            text=True,
            env=environment,
        )
        try:
            deadline = time.monotonic() + 60
            while not tokens.requests:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            began = time.monotonic()
            process.communicate("end\n", timeout=30)
            assert process.returncode == 0
            assert time.monotonic() - began < 5
        finally:
            process.kill()
            process.wait()


async def test_loop_is_never_blocked(
    server: Emulator, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No request, no token, no sleep on the loop's own thread."""
    import google.auth.transport.requests
    import requests

    blocking: list[str] = []
    loop_thread = threading.current_thread()

    def noting(name: str, original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is loop_thread:
                blocking.append(name)
            return original(*args, **kwargs)

        return call

    for owner, name in [
        (time, "sleep"),
        (requests.Session, "request"),
        (requests.Session, "close"),
        (google.auth.transport.requests.Request, "__call__"),
        (socket, "getaddrinfo"),
    ]:
        monkeypatch.setattr(owner, name, noting(name, getattr(owner, name)))
    control = await asyncio.to_thread(lambda: server.set_state(jobs[0], "JOB_STATE_SUCCEEDED"))
    assert control
    key = service_account(f"{server.url}/_emulator/token")
    connect(monkeypatch, server.url, None, keyfile_dict=key)
    tasks = [asyncio.create_task(payload(trigger(name))) for name in jobs[:20]]
    await asyncio.sleep(1)
    identity = watching.Identity("google_cloud_default", (), "v1", 60.0)
    async with watching.shared_hook(identity) as ask:
        assert (await ask(lambda hook: hook.get_tuning_job(jobs[1])))["name"] == jobs[1]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert blocking == []


@pytest.fixture
def _every_task_was_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand for Airflow's answer; tests/proofs/kill asks a real one."""

    async def was_ended(_: Any, *, log: Any) -> bool:
        return True

    monkeypatch.setattr(triggers, "was_ended", was_ended)


@pytest.mark.usefixtures("_every_task_was_killed")
async def test_a_thousand_kills_at_once_share_a_token_and_are_in_time(
    server: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = created(1000)
    with TokenServer() as tokens:
        connect(monkeypatch, server.url, None, keyfile_dict=service_account(tokens.url))
        began = time.monotonic()
        await asyncio.gather(*(trigger(name, cancel_on_kill=True).on_kill() for name in names))
        assert time.monotonic() - began < 25
        assert len(tokens.requests) == 1
    assert {job["state"] for job in server.jobs()} <= {"JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED"}


@pytest.mark.usefixtures("_every_task_was_killed")
async def test_kill_does_not_wait_behind_looks(server: Emulator, jobs: list[str]) -> None:
    server.fault(method="GET", path_regex="tuningJobs", times=20, delay_seconds=8)
    tasks = [asyncio.create_task(payload(trigger(name, poll_interval=0.2))) for name in jobs[:30]]
    await asyncio.sleep(1)
    server.clear_faults()
    began = time.monotonic()
    await trigger(jobs[200], cancel_on_kill=True).on_kill()
    assert time.monotonic() - began < 4
    assert server.jobs()[200]["state"] in ("JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.usefixtures("_every_task_was_killed")
async def test_kill_gets_through_with_a_connection_that_was_mended_or_lost(
    server: Emulator, strict: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, strict.url, "new-token")
    names = created(2)
    connect(monkeypatch, strict.url, "old-token")
    waiting_task = asyncio.create_task(payload(trigger(names[0])))
    await asyncio.sleep(0.5)
    connect(monkeypatch, strict.url, "new-token")
    await trigger(names[0], cancel_on_kill=True).on_kill()
    monkeypatch.delenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT")
    await trigger(names[1], cancel_on_kill=True).on_kill()
    assert {job["state"] for job in strict.jobs()} <= {"JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED"}
    waiting_task.cancel()
    await asyncio.gather(waiting_task, return_exceptions=True)


async def test_asked_function_gives_what_it_returns_and_raises_and_is_told_in_the_task_s_context(
    server: Emulator, jobs: list[str]
) -> None:
    identity = watching.Identity("google_cloud_default", (), "v1", 60.0)
    task = contextvars.ContextVar("task", default="nobody's")
    task.set("mine")
    async with watching.shared_hook(identity) as ask:
        assert await ask(lambda _: task.get()) == "mine"
        with pytest.raises(TuningNotFoundError):
            await ask(lambda hook: hook.get_tuning_job("4711"))


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
