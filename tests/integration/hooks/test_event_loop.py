"""The asynchronous hook shares its loop: it never blocks it, and takes a cancellation for what it is."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.exceptions import TuningNotFoundError, TuningUnavailableError
from airflow_tuning_provider.hooks.tuning_job import TuningJobAsyncHook, TuningJobHook
from tests.integration.conftest import BODY, QUICK, Connect
from tests.integration.hooks.test_credentials import TokenServer, service_account
from tests.integration.servers import JOB, Connection, Server, answering

GAP = 1.0  # seconds; generous, as the machine may be busy


class Watchdog:
    """Measures how long the loop was kept from running anything else."""

    def __init__(self) -> None:
        self.largest = 0.0

    async def __aenter__(self) -> Watchdog:
        self._task = asyncio.create_task(self._watch())
        await asyncio.sleep(0.02)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._task.cancel()

    async def _watch(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            self.largest = max(self.largest, time.monotonic() - before)


def hang(connection: Connection, _: bytes) -> None:
    connection.hang()


class TestNothingBlocks:
    def test_two_hundred_calls_to_a_slow_server(self, connect: Connect) -> None:
        def slowly(connection: Connection, _: bytes) -> None:
            time.sleep(0.3)
            connection.answer(200, JOB)

        async def main() -> float:
            async with Watchdog() as watchdog, TuningJobAsyncHook(request_timeout=20.0) as hook:
                jobs = await asyncio.gather(*(hook.get_tuning_job("1") for _ in range(200)))
                assert jobs == [JOB] * 200
            return watchdog.largest

        with Server(slowly) as server:
            connect(api_endpoint=server.url)
            assert asyncio.run(main()) < GAP
        assert len(server.requests) == 200

    def test_tokens_that_are_fetched_all_the_time(self, connect: Connect) -> None:
        async def main() -> float:
            async with Watchdog() as watchdog, TuningJobAsyncHook() as hook:
                for _ in range(5):
                    await asyncio.gather(*(hook.get_tuning_job("1") for _ in range(20)))
            return watchdog.largest

        with TokenServer(expires_in=1) as tokens, Server(answering(JOB)) as api:
            connect(api_endpoint=api.url, password=None, keyfile_dict=service_account(tokens.url))
            assert asyncio.run(main()) < GAP
        assert 5 <= len(tokens.requests) <= 100

    def test_many_hooks_with_token_services_that_hang_take_nobody_s_threads(self, connect: Connect) -> None:
        """Host names are resolved in the loop's default executor, which has few threads."""

        async def main() -> tuple[float, float]:
            hooks = [
                TuningJobAsyncHook("hanging", request_timeout=2.0, retry_policy=QUICK) for _ in range(40)
            ]
            async with Watchdog() as watchdog:
                calls = [asyncio.create_task(hook.get_tuning_job("1")) for hook in hooks]
                while len(tokens.requests) < 40:
                    await asyncio.sleep(0.01)
                before = time.monotonic()
                await asyncio.to_thread(time.monotonic)
                await asyncio.get_running_loop().getaddrinfo("localhost", 80)
                waited = time.monotonic() - before
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
                for hook in hooks:
                    await hook.close()
            return watchdog.largest, waited

        with Server(hang) as tokens:
            connect(
                "hanging",
                api_endpoint="http://127.0.0.1:1",
                password=None,
                keyfile_dict=service_account(tokens.url),
            )
            gap, waited = asyncio.run(main())
        assert gap < GAP
        assert waited < 0.8

    def test_nothing_blocking_runs_on_the_loop_s_thread(
        self, connect: Connect, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import google.auth.transport.requests
        import requests

        blocking: list[str] = []
        loop_thread = threading.current_thread()

        def noting(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                if threading.current_thread() is loop_thread:
                    blocking.append(name)
                return original(*args, **kwargs)

            return call

        for owner, name in [
            (time, "sleep"),
            (requests.Session, "request"),
            (google.auth.transport.requests.Request, "__call__"),
        ]:
            monkeypatch.setattr(owner, name, noting(name, getattr(owner, name)))

        async def main() -> None:
            async with TuningJobAsyncHook(retry_policy=QUICK) as hook:
                name = (await hook.create_tuning_job(BODY))["name"]
                await hook.wait_for_tuning_job(name, poll_interval=0.1)
                assert [job async for job in hook.list_tuning_jobs()]
                assert (await hook.test_connection())[0]
                with pytest.raises(TuningNotFoundError):
                    await hook.get_tuning_job("12345")

        key = service_account(f"{emulator.url}/_emulator/token")
        connect(api_endpoint=emulator.url, password=None, keyfile_dict=key)
        asyncio.run(main())
        assert blocking == []


class TestCancellation:
    """Airflow 3.3 kills a deferred task's job only if the cancellation's message arrives."""

    async def _cancelled(self, work: Awaitable[Any], when: Callable[[], bool]) -> asyncio.CancelledError:
        task = asyncio.ensure_future(work)
        while not when():
            assert not task.done(), task
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        task.cancel("user-action")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        return caught.value

    async def test_during_a_poll(self, connect: Connect) -> None:
        with Server(hang) as server:
            connect(api_endpoint=server.url)
            async with TuningJobAsyncHook() as hook:
                error = await self._cancelled(hook.wait_for_tuning_job("1"), lambda: bool(server.requests))
        assert error.args == ("user-action",)

    async def test_during_the_sleep_between_polls(self, connect: Connect) -> None:
        with Server(answering(JOB)) as server:
            connect(api_endpoint=server.url)
            async with TuningJobAsyncHook() as hook:
                error = await self._cancelled(hook.wait_for_tuning_job("1"), lambda: bool(server.requests))
        assert error.args == ("user-action",)

    async def test_during_the_sleep_before_a_repetition(self, connect: Connect) -> None:
        with Server(answering((503, {}, {"Retry-After": "30"}))) as server:
            connect(api_endpoint=server.url)
            async with TuningJobAsyncHook() as hook:
                error = await self._cancelled(hook.get_tuning_job("1"), lambda: bool(server.requests))
        assert error.args == ("user-action",)

    async def test_during_a_token_refresh(self, connect: Connect) -> None:
        with Server(hang) as tokens:
            connect(
                api_endpoint="http://127.0.0.1:1", password=None, keyfile_dict=service_account(tokens.url)
            )
            async with TuningJobAsyncHook(request_timeout=1.0) as hook:
                error = await self._cancelled(hook.get_tuning_job("1"), lambda: bool(tokens.requests))
        assert error.args == ("user-action",)

    async def test_during_the_body(self, connect: Connect) -> None:
        def half(connection: Connection, _: bytes) -> None:
            connection.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx")
            connection.hang()

        with Server(half) as server:
            connect(api_endpoint=server.url)
            async with TuningJobAsyncHook() as hook:
                error = await self._cancelled(hook.get_tuning_job("1"), lambda: bool(server.requests))
        assert error.args == ("user-action",)

    async def test_during_the_connection_lookup(self, monkeypatch: pytest.MonkeyPatch) -> None:
        started = asyncio.Event()

        async def never(_: str) -> Any:
            started.set()
            await asyncio.sleep(30)

        monkeypatch.setattr(TuningJobAsyncHook, "aget_connection", staticmethod(never))
        hook = TuningJobAsyncHook()
        error = await self._cancelled(hook.get_tuning_job("1"), started.is_set)
        assert error.args == ("user-action",)
        assert hook._opening is not None
        hook._opening.cancel()

    async def test_one_caller_s_cancellation_spares_the_others(
        self, connect: Connect, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connect(api_endpoint=emulator.url)
        lookup = TuningJobAsyncHook.aget_connection

        async def slow(conn_id: str) -> Any:
            await asyncio.sleep(0.2)
            return await lookup(conn_id)

        monkeypatch.setattr(TuningJobAsyncHook, "aget_connection", staticmethod(slow))
        async with TuningJobAsyncHook(retry_policy=QUICK) as hook:
            tasks = [asyncio.create_task(hook.test_connection()) for _ in range(3)]
            await asyncio.sleep(0.1)
            tasks[0].cancel("user-action")
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert [result[0] for result in results[1:]] == [True, True]

    async def test_one_caller_s_cancellation_during_a_refresh_spares_the_others(
        self, connect: Connect
    ) -> None:
        def slowly(connection: Connection, _: bytes) -> None:
            time.sleep(0.3)
            connection.answer(200, {"access_token": "t", "expires_in": 3600})

        with Server(slowly) as tokens, Server(answering(JOB)) as api:
            connect(api_endpoint=api.url, password=None, keyfile_dict=service_account(tokens.url))
            async with TuningJobAsyncHook() as hook:
                tasks = [asyncio.create_task(hook.get_tuning_job("1")) for _ in range(3)]
                while not tokens.requests:
                    await asyncio.sleep(0.01)
                tasks[0].cancel("user-action")
                results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == [JOB, JOB]
        assert len(tokens.requests) == 1


class TestCleanup:
    def test_a_closed_hook_leaves_nothing_behind(self, connect: Connect, emulator: Emulator) -> None:
        key = service_account(f"{emulator.url}/_emulator/token")
        connect(api_endpoint=emulator.url, password=None, keyfile_dict=key)

        async def main() -> None:
            async with TuningJobAsyncHook(retry_policy=QUICK) as hook:
                await hook.create_tuning_job(BODY)
                emulator.fault(truncate_body="length")
                emulator.fault(status=503)
                await asyncio.gather(*(hook.get_tuning_job(emulator.jobs()[0]["name"]) for _ in range(5)))
                await hook.test_connection()

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            asyncio.run(main())
            with TuningJobHook(retry_policy=QUICK) as hook:
                name = hook.create_tuning_job(BODY)["name"]
                emulator.fault(truncate_body="length")
                hook.get_tuning_job(name)
                hook.cancel_now(name)
            assert TuningJobHook().test_connection()[0]  # as the button does, which closes nothing
            del hook
            gc.collect()
        assert [str(w.message) for w in caught if issubclass(w.category, ResourceWarning)] == []
        assert [str(w.message) for w in caught if "never awaited" in str(w.message)] == []

    def test_a_hook_can_move_to_another_event_loop(self, connect: Connect, emulator: Emulator) -> None:
        key = service_account(f"{emulator.url}/_emulator/token")
        connect(api_endpoint=emulator.url, password=None, keyfile_dict=key)
        hook = TuningJobAsyncHook(retry_policy=QUICK)

        async def use(*, close: bool) -> Any:
            job = await hook.create_tuning_job(BODY)
            if close:
                await hook.close()
            return job

        for close in (True, False, True):
            assert asyncio.run(use(close=close))["state"] == "JOB_STATE_PENDING"
        gc.collect()

    def test_a_hook_whose_loop_ended_during_a_refresh_can_be_used_again(self, connect: Connect) -> None:
        with Server(hang) as tokens, Server(answering(JOB)) as api:
            connect(api_endpoint=api.url, password=None, keyfile_dict=service_account(tokens.url))
            hook = TuningJobAsyncHook(request_timeout=0.5, retry_policy=QUICK)

            async def give_up() -> None:
                await asyncio.wait_for(hook.get_tuning_job("1"), 0.2)

            async def again() -> Any:
                tokens._handler = answering({"access_token": "t", "expires_in": 3600})
                try:
                    return await hook.get_tuning_job("1")
                finally:
                    await hook.close()

            with pytest.raises(asyncio.TimeoutError):
                asyncio.run(give_up())
            assert asyncio.run(again()) == JOB

    async def test_a_failed_lookup_is_tried_anew(self, connect: Connect, emulator: Emulator) -> None:
        connect(api_endpoint="ftp://nonsense")
        async with TuningJobAsyncHook(retry_policy=QUICK) as hook:
            for _ in range(2):
                with pytest.raises(ValueError, match="api_endpoint"):
                    await hook.get_tuning_job("1")
            connect(api_endpoint=emulator.url)
            with pytest.raises(TuningNotFoundError):
                await hook.get_tuning_job("12345")

    async def test_an_error_does_not_keep_connections(self, connect: Connect, emulator: Emulator) -> None:
        connect(api_endpoint=emulator.url)
        emulator.fault(status=503, times=-1)
        async with TuningJobAsyncHook(retry_policy=QUICK) as hook:
            for _ in range(3):
                with pytest.raises(TuningUnavailableError):
                    await asyncio.wait_for(
                        hook.wait_until_ended("1", poll_interval=0.01, deadline=None, error_budget=0), 5
                    )
            assert hook._ready is not None
            connector = hook._ready[1].session.connector
            assert connector is not None
            assert not connector._acquired
