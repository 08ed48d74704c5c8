"""An HTTP proxy in front of the emulator that misbehaves as it is told to."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import aiohttp
from aiohttp import web

from airflow_tuning_provider.api.identity import KEY_LABEL
from tests.proofs.soak.plan import STATUSES, Fault, Misfortune

Json = dict[str, Any]

_TOKEN_PATH = "/_emulator/token"
_HANG = 30.0
_NAMES = {
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    502: "BAD_GATEWAY",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_PAGE = "<!doctype html><title>Sign in</title><p>Welcome to the airport's wireless network.</p>"


class Proxy:
    """Passes requests on to the emulator, or not.

    :param upstream: the emulator's base URL.
    :param misfortune: decides which call misbehaves.
    """

    def __init__(self, upstream: str, misfortune: Misfortune) -> None:
        self._upstream = upstream
        self._misfortune = misfortune
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._stop = asyncio.Event()
        self._owners: dict[str, str] = {}
        self.vanished: set[str] = set()
        self.calls: Counter[str] = Counter()
        self.faults: Counter[Fault] = Counter()
        self.port = 0

    @property
    def url(self) -> str:
        """The base URL to give to clients."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Proxy:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> None:
        self._client = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=200), auto_decompress=False)
        app = web.Application(client_max_size=10**8)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _end(self) -> None:
        self._stop.set()
        await self._runner.cleanup()
        await self._client.close()

    def own(self, job_name: str, owner: str) -> None:
        """Tell whose job it is: a job's id is random, its owner is not."""
        self._owners[job_name.rpartition("/")[2]] = owner

    # -- one request -------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        kind, call = self._describe(request, body)
        self.calls[kind] += 1
        filtered = "filter" in request.query
        fault, source = self._misfortune.draw(call, filtered=filtered, token=kind == "token")
        if fault is not None:
            self.faults[fault] += 1
        if fault in (Fault.STATUS, Fault.STATUS_RETRY_AFTER):
            after = source.choice([0, 1, 2]) if fault is Fault.STATUS_RETRY_AFTER else None
            return _status(
                source.choice(STATUSES), after, as_date=source.random() < 0.3, page=source.random() < 0.3
            )
        if fault is Fault.UNAUTHENTICATED:
            return _envelope(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        if fault is Fault.FILTER_REFUSED:
            return _envelope(400, "INVALID_ARGUMENT", "The filter is not valid.")
        if fault is Fault.NOT_JSON:
            return web.Response(text=_PAGE, content_type="text/html")
        if fault is Fault.RESET_BEFORE:
            return _reset(request)
        if fault is Fault.HANG_BEFORE:
            return await self._hang(request)
        status, answer = await self._forward(request, body, ignore_filter=fault is Fault.FILTER_IGNORED)
        if fault is Fault.RESET_AFTER:
            return _reset(request)
        if fault is Fault.HANG_AFTER:
            return await self._hang(request)
        if fault is Fault.TRUNCATED:
            return await _truncated(request, status, answer)
        if fault is Fault.CUT_JSON:
            answer = answer[: len(answer) // 2]
        return web.Response(status=status, body=answer, content_type="application/json")

    def _describe(self, request: web.Request, body: bytes) -> tuple[str, str]:
        """Return the kind of a call, and what makes it the same in each run: its kind and whose it is."""
        path = request.path
        if path == _TOKEN_PATH:
            return "token", "token"
        last = path.rpartition("/")[2]
        if last == "tuningJobs":
            if request.method == "POST":
                return "create", f"create {json.loads(body)['labels'][KEY_LABEL]}"
            if "filter" in request.query:
                return "list for one task", f"list {request.query['filter']}"
            return "list", f"list all, further pages {bool(request.query.get('pageToken'))}"
        job_id, _, verb = last.partition(":")
        return verb or "get", f"{verb or 'get'} {self._owners.get(job_id, job_id)}"

    async def _forward(self, request: web.Request, body: bytes, *, ignore_filter: bool) -> tuple[int, bytes]:
        path = request.path
        if request.method == "GET" and path.rpartition("/")[2] in self.vanished:
            gone = _envelope(404, "NOT_FOUND", f"TuningJob {path.partition('/v1/')[2]} does not exist.")
            assert isinstance(gone.body, bytes)
            return 404, gone.body
        query = {
            key: value for key, value in request.query.items() if not (ignore_filter and key == "filter")
        }
        headers = {
            key: value for key, value in request.headers.items() if key in ("Authorization", "Content-Type")
        }
        url = f"{self._upstream}{path}"
        async with self._client.request(
            request.method, url, params=query, data=body, headers=headers
        ) as response:
            answer = await response.read()
            if response.status == 200 and path.endswith("/tuningJobs"):
                answer = self._noted(request, answer)
            return response.status, answer

    def _noted(self, request: web.Request, answer: bytes) -> bytes:
        payload: Json = json.loads(answer)
        for job in _jobs(payload):
            key = job.get("labels", {}).get(KEY_LABEL)
            if key:
                self._owners.setdefault(job["name"].rpartition("/")[2], key)
        if request.method == "GET" and "tuningJobs" in payload:
            kept = [
                job for job in payload["tuningJobs"] if job["name"].rpartition("/")[2] not in self.vanished
            ]
            payload["tuningJobs"] = kept
            return json.dumps(payload).encode()
        return answer

    async def _hang(self, request: web.Request) -> web.StreamResponse:
        with_end = time.monotonic() + _HANG
        while time.monotonic() < with_end and not self._stop.is_set() and request.transport is not None:
            await asyncio.sleep(0.1)
        return _reset(request)


def _jobs(payload: Json) -> Iterator[Json]:
    yield from payload.get("tuningJobs", [payload] if "name" in payload else [])


def _envelope(status: int, name: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {"error": {"code": status, "message": message, "status": name}}
    return web.Response(
        status=status, body=json.dumps(body).encode(), content_type="application/json", headers=headers
    )


def _status(status: int, after: int | None, *, as_date: bool, page: bool) -> web.Response:
    headers = {}
    if after is not None:
        headers["Retry-After"] = formatdate(time.time() + after, usegmt=True) if as_date else str(after)
    if page and status != 429:
        text = f"<html><title>{status}</title>The server is busy."
        return web.Response(status=status, text=text, content_type="text/html", headers=headers)
    return _envelope(status, _NAMES[status], "The service is busy.", headers)


def _reset(request: web.Request) -> web.Response:
    if request.transport is not None:
        sock = request.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response()


async def _truncated(request: web.Request, status: int, answer: bytes) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers={"Content-Length": str(len(answer))})
    response.content_type = "application/json"
    await response.prepare(request)
    await response.write(answer[: len(answer) // 2])
    if request.transport is not None:
        request.transport.close()
    return response
