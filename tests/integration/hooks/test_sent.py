"""Whether a create has left this machine: known only where no connection came about; a doubt is "sent".

A real proxy, that tunnels by CONNECT, and a real TLS server behind it.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from airflow_tuning_provider.api.errors import ApiError, ErrorKind
from airflow_tuning_provider.api.retry import RetryPolicy, is_ambiguous
from airflow_tuning_provider.exceptions import TuningError
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
from tests.integration.conftest import BODY, Connect, Hooks
from tests.integration.servers import JOB, Connection, Server, answering, free_port

ONCE = RetryPolicy(max_repeats=0)
TIMEOUT = 1.0


def close(connection: Connection, _: bytes) -> None:
    """Process the request, and close instead of answering."""
    connection.sock.shutdown(socket.SHUT_RDWR)


def cut(connection: Connection, _: bytes) -> None:
    """Process the request, and close in the middle of the answer."""
    connection.sock.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"name": ')
    connection.sock.shutdown(socket.SHUT_RDWR)


def reset(connection: Connection, _: bytes) -> None:
    """Process the request, and reset the connection."""
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    connection.sock.close()


class Proxy(Server):
    """A proxy that tunnels.

    :param refuse: an answer to CONNECT instead of a tunnel.
    """

    def __init__(self, *, refuse: bytes | None = None) -> None:
        super().__init__(greet=self._tunnel)
        self._refuse = refuse

    def _tunnel(self, connection: Connection) -> None:
        request = connection.receive()
        assert request is not None
        self.requests.append(request)
        method, target = request.split()[:2]
        assert method == b"CONNECT"
        if self._refuse is not None:
            connection.sock.sendall(self._refuse)
            return
        host, _, port = target.decode().rpartition(":")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port))) as upstream:
            connection.sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            up = threading.Thread(target=self._pump, args=(connection.sock, upstream), daemon=True)
            up.start()
            self._pump(upstream, connection.sock)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for sock in (source, target):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    return authority


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def through(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that makes a port of this machine the environment's proxy."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")

    def use(port: int) -> None:
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, f"http://user:password@127.0.0.1:{port}")

    return use


def failure(hook: TuningJobHook) -> ApiError:
    """Return what a create fails with."""
    with pytest.raises(TuningError) as caught:
        hook.create_tuning_job(BODY)
    assert caught.value.api_error is not None
    assert "password" not in str(caught.value)
    return caught.value.api_error


@pytest.fixture(params=["directly", "through a proxy"])
def proxy(request: pytest.FixtureRequest, through: Callable[[int], None]) -> Iterator[Proxy | None]:
    if request.param == "directly":
        yield None
        return
    with Proxy() as proxy:
        through(proxy.port)
        yield proxy


class TestSent:
    @pytest.mark.parametrize("lose", [close, cut, reset], ids=lambda handler: handler.__name__)
    def test_answer_that_was_lost(
        self,
        hooks: Hooks,
        connect: Connect,
        tls: ssl.SSLContext,
        proxy: Proxy | None,
        lose: Callable[..., None],
    ) -> None:
        with Server(lose, tls=tls) as server:
            connect(api_endpoint=server.url)
            error = failure(hooks(request_timeout=5.0))
            assert error.sent
            assert is_ambiguous(error)
        assert len(server.requests) == 1
        assert proxy is None or len(proxy.requests) == 1

    def test_answer_that_is_late(
        self, hooks: Hooks, connect: Connect, tls: ssl.SSLContext, proxy: Proxy | None
    ) -> None:
        with Server(lambda connection, _: connection.hang(), tls=tls) as server:
            connect(api_endpoint=server.url)
            error = failure(hooks(request_timeout=TIMEOUT))
            assert error.sent
            assert "request_timeout" in error.message
        assert len(server.requests) == 1

    def test_kept_connection_that_dies_with_the_request(
        self, hooks: Hooks, connect: Connect, tls: ssl.SSLContext, proxy: Proxy | None
    ) -> None:
        def answer_gets_only(connection: Connection, request: bytes) -> None:
            if request.startswith(b"GET"):
                connection.answer(200, JOB)
            else:
                close(connection, request)

        with Server(answer_gets_only, tls=tls) as server:
            connect(api_endpoint=server.url)
            hook = hooks(request_timeout=5.0)
            hook.get_tuning_job("1")
            assert failure(hook).sent
        assert len(server.requests) == 2
        assert server.connections == 1

    def test_kept_connection_that_died_before_is_replaced(
        self, hooks: Hooks, connect: Connect, tls: ssl.SSLContext, proxy: Proxy | None
    ) -> None:
        def answer_and_close(connection: Connection, _: bytes) -> None:
            connection.answer(200, JOB)
            connection.sock.shutdown(socket.SHUT_RDWR)

        with Server(answer_and_close, tls=tls) as server:
            connect(api_endpoint=server.url)
            hook = hooks(request_timeout=5.0)
            hook.get_tuning_job("1")
            time.sleep(0.2)  # until its end has come
            assert hook.create_tuning_job(BODY) == JOB
        assert [request.split()[0] for request in server.requests] == [b"GET", b"POST"]


class TestNotSent:
    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
            b"",
            b"HTTP/1.1 20",
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",  # and closes
        ],
        ids=["407", "403", "502", "nothing", "half a line", "not HTTP", "closes"],
    )
    def test_proxy_that_gives_no_tunnel(
        self, hooks: Hooks, connect: Connect, through: Callable[[int], None], answer: bytes
    ) -> None:
        with Server(answering(JOB)) as server, Proxy(refuse=answer) as proxy:
            through(proxy.port)
            connect(api_endpoint=f"https://127.0.0.1:{server.port}")
            error = failure(hooks(request_timeout=5.0, retry_policy=RetryPolicy(initial=0.01, max_repeats=2)))
        assert not error.sent
        assert error.kind is ErrorKind.UNAVAILABLE
        assert len(proxy.requests) == 3, "it is safe to try again"
        assert server.requests == []

    def test_proxy_that_is_down(self, hooks: Hooks, connect: Connect, through: Callable[[int], None]) -> None:
        through(free_port())
        connect(api_endpoint="https://vertex.invalid")
        assert not failure(hooks(retry_policy=ONCE)).sent

    def test_proxy_that_says_nothing(
        self, hooks: Hooks, connect: Connect, through: Callable[[int], None]
    ) -> None:
        with Server(greet=lambda connection: connection.hang()) as proxy:
            through(proxy.port)
            connect(api_endpoint="https://vertex.invalid")
            error = failure(hooks(retry_policy=ONCE, request_timeout=TIMEOUT))
        assert not error.sent
        assert "request_timeout" in error.message

    @pytest.mark.parametrize("reply", [b"", b"\x15\x03\x01\x00\x02\x02\x28"], ids=["closed", "alert"])
    def test_handshake_that_is_broken_off(
        self, hooks: Hooks, connect: Connect, authority: trustme.CA, proxy: Proxy | None, reply: bytes
    ) -> None:
        def greet(connection: Connection) -> None:
            connection.sock.recv(1000)
            connection.sock.sendall(reply)

        with Server(greet=greet) as server:
            connect(api_endpoint=f"https://127.0.0.1:{server.port}")
            error = failure(hooks(retry_policy=ONCE, request_timeout=5.0))
        assert not error.sent
        assert error.kind is ErrorKind.UNAVAILABLE

    def test_certificate_of_another_host(
        self, hooks: Hooks, connect: Connect, authority: trustme.CA, proxy: Proxy | None
    ) -> None:
        other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("other.example").configure_cert(other)
        with Server(answering(JOB), tls=other) as server:
            connect(api_endpoint=server.url)
            error = failure(hooks(request_timeout=5.0))
        assert not error.sent
        assert error.kind is ErrorKind.BAD_REQUEST
        assert server.requests == []


def test_through_a_proxy_all_is_well(
    hooks: Hooks, connect: Connect, tls: ssl.SSLContext, through: Callable[[int], None]
) -> None:
    with Server(answering(JOB), tls=tls) as server, Proxy() as proxy:
        through(proxy.port)
        connect(api_endpoint=server.url)
        assert hooks().create_tuning_job(BODY) == JOB
    assert b"Proxy-Authorization: Basic" in proxy.requests[0]
    assert b"authorization: bearer" in server.requests[0].lower()
    assert b"proxy-authorization" not in server.requests[0].lower()


class TestQuota:
    def test_429_of_somebody_on_the_way_is_a_doubt(self, hooks: Hooks, connect: Connect) -> None:
        with Server(answering((429, b"<html>slow down</html>"))) as server:
            connect(api_endpoint=server.url)
            error = failure(hooks())
        assert is_ambiguous(error)
        assert len(server.requests) == 1

    def test_429_of_the_api_is_a_refusal(self, hooks: Hooks, connect: Connect) -> None:
        refusal = {"error": {"code": 429, "message": "Quota.", "status": "RESOURCE_EXHAUSTED"}}
        with Server(answering((429, refusal), JOB)) as server:
            connect(api_endpoint=server.url)
            assert hooks().create_tuning_job(BODY) == JOB
        assert len(server.requests) == 2
