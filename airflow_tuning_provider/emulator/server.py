"""Run the application on uvicorn, with connections that a fault can cut and a quick shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from airflow_tuning_provider.emulator.app import create_app
from airflow_tuning_provider.emulator.recorder import TRANSPORT, App, Receive, Scope, Send
from airflow_tuning_provider.emulator.settings import Settings
from airflow_tuning_provider.emulator.store import Store

_SHUTDOWN_SECONDS = 0.3
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class CuttableProtocol(H11Protocol):
    """Hands the application its connection's transport, which ASGI does not."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        inner: App = self.app

        async def with_transport(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})[TRANSPORT] = {"transport": self.transport}
            await inner(scope, receive, send)

        self.app = with_transport


class _Server(uvicorn.Server):
    """Says when it is ready, and ends without waiting for idle or slow clients."""

    def __init__(self, config: uvicorn.Config, settings: Settings, url: str) -> None:
        super().__init__(config)
        self._settings = settings
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.started or sockets is None:
            return
        print(f"Vertex AI tuning emulator on {self._url} ({_summary(self._settings)})", flush=True)
        # Last: whoever waits for this file may read what has been printed.
        if self._settings.port_file is not None:
            _write_atomically(self._settings.port_file, f"{sockets[0].getsockname()[1]}\n")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # What is cut off now is no error worth a traceback.
        logging.getLogger("uvicorn.error").disabled = True
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(super().shutdown(sockets), _SHUTDOWN_SECONDS)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        for task in list(self.server_state.tasks):
            task.cancel()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # A stop by signal is the normal end: leave with status 0 instead of dying by the signal again.
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """Return a bound socket; raise OSError where that is not possible."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def run(settings: Settings, store: Store, sock: socket.socket) -> None:
    """Serve until a signal comes."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    config = uvicorn.Config(
        create_app(settings, store),
        http=CuttableProtocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    scheme = "https" if config.is_ssl else "http"
    server = _Server(config, settings, f"{scheme}://{host}:{sock.getsockname()[1]}")
    asyncio.run(server.serve([sock]))


def _summary(settings: Settings) -> str:
    parts = [f"speed {settings.speed:g}"]
    parts.append(f"state in {settings.state}" if settings.state else "state in memory")
    parts.append("data sets read" if settings.read_datasets else "data sets not read")
    if settings.concurrent_jobs:
        parts.append(f"{settings.concurrent_jobs} concurrent jobs, {settings.over_quota} beyond")
    return ", ".join(parts)


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)
