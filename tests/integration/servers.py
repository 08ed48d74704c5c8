"""Real servers that misbehave as no framework would let them."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

JOB = {"name": "projects/1/locations/us-central1/tuningJobs/5", "state": "JOB_STATE_RUNNING"}


class Connection:
    """One connection of a client."""

    def __init__(self, sock: socket.socket, stopping: threading.Event) -> None:
        self.sock = sock
        self._stopping = stopping

    def receive(self) -> bytes | None:
        """Return one whole request, ``None`` at the end of the connection."""
        data = b""
        while b"\r\n\r\n" not in data:
            if not (part := self.sock.recv(65536)):
                return None
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        lengths = [
            line.split(b":")[1] for line in head.lower().splitlines() if line.startswith(b"content-length")
        ]
        length = int(lengths[0]) if lengths else 0
        while len(body) < length:
            body += self.sock.recv(65536)
        return head + b"\r\n\r\n" + body

    def answer(self, status: int, body: Any = b"", **headers: str) -> None:
        """Send a whole answer."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + content)

    def drip(self, data: bytes, every: float) -> None:
        """Send a byte now and then, until the client has enough."""
        for byte in data:
            self.sock.sendall(bytes([byte]))
            if self._stopping.wait(every):
                return

    def hang(self) -> None:
        """Say nothing until the test is over."""
        self._stopping.wait(30)


Handler = Callable[[Connection, bytes], None]


class Server:
    """Hands every request to ``handler``, which is run in a thread, and remembers it.

    :param tls: speak TLS with this context.
    :param greet: called with each new connection instead of receiving requests.
    """

    def __init__(
        self,
        handler: Handler | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        greet: Callable[[Connection], None] | None = None,
        port: int = 0,
    ) -> None:
        self._handler = handler
        self._tls = tls
        self._greet = greet
        self._listener = socket.create_server(("127.0.0.1", port))
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self.requests: list[bytes] = []
        self.connections = 0

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Server:
        self._start(self._accept)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._sockets.append(sock)
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, ssl.SSLError), sock:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
                self._sockets.append(sock)
            connection = Connection(sock, self._stopping)
            if self._greet is not None:
                self._greet(connection)
                return
            assert self._handler is not None
            with sock:
                while (request := connection.receive()) is not None:
                    self.requests.append(request)
                    self._handler(connection, request)


def answering(*answers: Any) -> Handler:
    """Return a handler that gives one answer after the other, and the last one for ever.

    An answer is a body for HTTP 200, or a tuple of status, body and, optionally, headers.
    """
    given = iter(answers)
    last = answers[-1]

    def handle(connection: Connection, _: bytes) -> None:
        answer = next(given, last)
        status, body, headers = (*answer, {})[:3] if isinstance(answer, tuple) else (200, answer, {})
        connection.answer(status, body, **headers)

    return handle


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def private_key() -> str:
    """Return a new RSA key in PEM format."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def vouched_for(authority: trustme.CA, host: str = "127.0.0.1") -> ssl.SSLContext:
    """Return the context of a server whose certificate for ``host`` comes from an authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    return context


class Stopwatch:
    """Measures the seconds that a block takes."""

    def __enter__(self) -> Stopwatch:
        self._start = time.monotonic()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.seconds = time.monotonic() - self._start
