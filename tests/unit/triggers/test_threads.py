"""Threads beside an event loop: how many there are, who waits for them, and who does not."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable

import pytest

from airflow_tuning_provider.triggers.threads import Threads


def running(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_threads_are_started_when_they_are_needed_and_reused() -> None:
    threads = Threads(4, "few")
    assert running("few") == 0
    for _ in range(10):
        assert await threads.submit(lambda: 7) == 7
    assert running("few") == 1
    gate = threading.Event()
    waiting = [threads.submit(gate.wait) for _ in range(20)]
    await until(lambda: running("few") == 4)
    gate.set()
    assert await asyncio.gather(*waiting) == [True] * 20
    assert running("few") == 4
    threads.stop()
    await until(lambda: running("few") == 0)


async def test_work_that_is_under_way_when_its_threads_are_stopped_is_done() -> None:
    threads = Threads(2, "stopped")
    gate = threading.Event()
    waiting = [threads.submit(lambda: gate.wait(5)) for _ in range(4)]
    threads.stop()
    gate.set()
    assert await asyncio.gather(*waiting) == [True] * 4
    await until(lambda: running("stopped") == 0)


@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(3)])
async def test_what_a_function_raises_comes_to_its_caller(error: BaseException) -> None:
    threads = Threads(1, "raising")

    def fail() -> None:
        raise error

    future = threads.submit(fail)
    await asyncio.wait({future})
    assert future.exception() is error
    assert await threads.submit(lambda: "still there") == "still there"
    threads.stop()


async def test_what_no_future_can_hold_is_told_too() -> None:
    threads = Threads(1, "iterating")
    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(threads.submit(lambda: next(iter(()))), 5)
    threads.stop()


async def test_a_caller_that_is_cancelled_keeps_its_message_and_the_work_goes_on() -> None:
    threads = Threads(1, "cancelled")
    gate, done = threading.Event(), threading.Event()

    async def call() -> None:
        await threads.submit(lambda: (gate.wait(5), done.set()))

    task = asyncio.create_task(call())
    await asyncio.sleep(0.05)
    task.cancel("user-action")
    with pytest.raises(asyncio.CancelledError, match="user-action"):
        await task
    assert not done.is_set()
    gate.set()
    await until(done.is_set)
    assert await threads.submit(lambda: 1) == 1
    threads.stop()


def test_a_loop_that_has_ended_is_not_missed() -> None:
    threads = Threads(1, "orphan")
    gate, done = threading.Event(), threading.Event()

    async def begin() -> None:
        threads.submit(lambda: (gate.wait(5), done.set()))

    asyncio.run(begin())
    gate.set()
    assert done.wait(5)
    threads.stop()


def test_the_process_ends_though_a_thread_hangs() -> None:
    program = """
        import asyncio, time
        from airflow_tuning_provider.triggers.threads import Threads

        async def main():
            threads = Threads(3, "hanging")
            for _ in range(5):
                threads.submit(lambda: time.sleep(60))
            await asyncio.sleep(0.2)

        asyncio.run(main())
    """
    began = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], timeout=50, capture_output=True)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert time.monotonic() - began < 30
