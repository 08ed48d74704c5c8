"""The outermost layer: records every API request and carries out faults on the raw connection."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from airflow_tuning_provider.emulator.clock import now, rfc3339
from airflow_tuning_provider.emulator.faults import TOKEN_PATH, Fault, Faults
from airflow_tuning_provider.emulator.protojson import strict_loads

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# The server puts the connection's transport here, so that a fault can cut it.
TRANSPORT = "emulator.transport"
_KEPT_REQUESTS = 100_000
_KEPT_BODY = 64 * 1024
_SECRET_HEADERS = ("authorization", "cookie", "proxy-authorization", "x-goog-api-key")


class RequestLog:
    """The last API requests, by sequence number."""

    def __init__(self) -> None:
        self._entries: deque[dict[str, Any]] = deque(maxlen=_KEPT_REQUESTS)
        self._last = 0

    def add(self, scope: Scope, body: bytes) -> dict[str, Any]:
        """Record a request as it comes in; its status is filled in when it is answered."""
        self._last += 1
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        entry = {
            "seq": self._last,
            "time": rfc3339(now()),
            "method": scope["method"],
            "path": scope["path"],
            "query": {name: values[-1] for name, values in query.items()},
            "status": None,
            "headers": _headers(scope),
            "body": _shown_body(body),
        }
        self._entries.append(entry)
        return entry

    def since(self, sequence: int) -> dict[str, Any]:
        """Return the requests after a sequence number, and the number to ask with next time."""
        # The newest are at the end: walk back only as far as needed.
        newer = itertools.takewhile(lambda e: e["seq"] > sequence, reversed(self._entries))
        return {"requests": list(newer)[::-1], "next": self._last}

    def clear(self) -> None:
        """Forget all requests; numbering goes on, so that an old ``next`` stays valid."""
        self._entries.clear()


def _headers(scope: Scope) -> dict[str, str]:
    return {
        name.decode("latin-1"): "<redacted>"
        if name.decode("latin-1") in _SECRET_HEADERS
        else value.decode("latin-1")
        for name, value in scope["headers"]
    }


def _shown_body(body: bytes) -> Any:
    if not body or len(body) > _KEPT_BODY:
        return None
    try:
        return strict_loads(body)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace")


class Recorder:
    """ASGI middleware around the whole server."""

    def __init__(self, app: App, log: RequestLog, faults: Faults) -> None:
        self.app = app
        self.log = log
        self.faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path: str = scope["path"]
        control = path == "/_emulator" or path.startswith("/_emulator/")
        if control and path != TOKEN_PATH:
            await self.app(scope, receive, send)
            return
        body = await _read_body(receive)
        if body is None:
            return
        entry = {} if control else self.log.add(scope, body)
        exchange = _Exchange(self.app, scope, body, receive, send, entry)
        await exchange.run(self.faults.take(scope["method"], path))


class _Exchange:
    """One request on its way to the application and back."""

    def __init__(
        self, app: App, scope: Scope, body: bytes, receive: Receive, send: Send, entry: dict[str, Any]
    ) -> None:
        self.app = app
        self.scope = scope
        self.body: bytes | None = body
        self.receive_from_client = receive
        self.send_to_client = send
        self.entry = entry

    async def receive(self) -> Message:
        if self.body is None:
            return await self.receive_from_client()
        body, self.body = self.body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.entry["status"] = message["status"]
        await self.send_to_client(message)

    async def run(self, fault: Fault | None) -> None:
        if fault is None:
            await self.app(self.scope, self.receive, self.send)
            return
        self.entry["fault"] = fault.id
        if fault.delay_seconds is not None:
            await asyncio.sleep(fault.delay_seconds)
            await self.app(self.scope, self.receive, self.send)
        elif fault.status is not None:
            start = {
                "type": "http.response.start",
                "status": fault.status,
                "headers": fault.response_headers(),
            }
            await self.send(start)
            await self.send({"type": "http.response.body", "body": fault.response_body()})
        elif fault.drop is not None:
            if fault.drop == "after_processing":
                await self._answer()
            await self._cut(abort=True)
        else:
            await self._truncate(keep_length=fault.truncate_body != "json")

    async def _answer(self) -> tuple[Message, bytes]:
        """Let the application answer, and keep the answer back."""
        start: Message = {}
        parts: list[bytes] = []

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                parts.append(message.get("body", b""))

        await self.app(self.scope, self.receive, collect)
        return start, b"".join(parts)

    async def _truncate(self, *, keep_length: bool) -> None:
        start, body = await self._answer()
        half = body[: len(body) // 2]
        if not keep_length:
            kept = [(k, v) for k, v in start["headers"] if k.lower() != b"content-length"]
            start["headers"] = [*kept, (b"content-length", str(len(half)).encode())]
        await self.send(start)
        await self.send({"type": "http.response.body", "body": half, "more_body": keep_length})
        if keep_length:
            await self._cut(abort=False)

    async def _cut(self, *, abort: bool) -> None:
        """Close the connection: at once, or after what was sent has gone out."""
        transport: asyncio.Transport = self.scope["extensions"][TRANSPORT]["transport"]
        if abort:
            transport.abort()
        else:
            transport.close()
        # Return only when the server knows, or it would try to answer.
        while (await self.receive_from_client())["type"] != "http.disconnect":
            pass


async def _read_body(receive: Receive) -> bytes | None:
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)
