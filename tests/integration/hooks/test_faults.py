"""What can go wrong between a hook and the API: the error, and how often the server was asked."""

from __future__ import annotations

import functools
import gzip
import resource
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import trustme

from airflow_tuning_provider.api.retry import RetryPolicy
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.exceptions import (
    TuningAuthenticationError,
    TuningBadRequestError,
    TuningError,
    TuningNotFoundError,
    TuningPermissionError,
    TuningQuotaError,
    TuningUnavailableError,
)
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
from tests.integration.conftest import BODY, Connect, Hooks
from tests.integration.servers import (
    JOB,
    Connection,
    Handler,
    Server,
    Stopwatch,
    answering,
    free_port,
    vouched_for,
)

ONCE = RetryPolicy(max_repeats=0)
TIMEOUT = 0.6


def statuses(emulator: Emulator) -> list[int | None]:
    return [request["status"] for request in emulator.requests()]


@functools.cache
def _zeros(size: int) -> bytes:
    return gzip.compress(bytes(size), compresslevel=1)


@pytest.fixture
def trusted_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """Return an authority of our own that the environment tells to trust."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "authority.pem"))
    return authority


@pytest.fixture
def name(hook: TuningJobHook, emulator: Emulator) -> str:
    """A job's name; its creation has left the request log."""
    return str(hook.create_tuning_job(BODY)["name"])


class TestStatuses:
    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
    def test_a_passing_fault_is_not_seen_by_the_caller(
        self, hook: TuningJobHook, emulator: Emulator, name: str, status: int
    ) -> None:
        emulator.fault(method="GET", status=status, times=2)
        assert hook.get_tuning_job(name)["name"] == name
        assert statuses(emulator) == [200, status, status, 200]

    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (400, TuningBadRequestError),
            (403, TuningPermissionError),
            (404, TuningNotFoundError),
            (429, TuningQuotaError),
            (500, TuningUnavailableError),
            (503, TuningUnavailableError),
        ],
    )
    def test_a_lasting_one_becomes_the_error_of_its_kind(
        self,
        hooks: Hooks,
        emulator: Emulator,
        connect: Connect,
        status: int,
        error: type[TuningError],
    ) -> None:
        connect(api_endpoint=emulator.url)
        emulator.fault(status=status, times=-1)
        hook = hooks(retry_policy=RetryPolicy(initial=0.01, max_repeats=2))
        with pytest.raises(error, match=str(status)) as caught:
            hook.get_tuning_job("1")
        assert type(caught.value) is error
        assert caught.value.api_error is not None
        assert caught.value.api_error.http_status == status
        assert len(emulator.requests()) == (3 if status in (429, 500, 503) else 1)

    @pytest.mark.parametrize(
        "wish",
        [
            {"headers": {"Retry-After": "0.4"}},
            {
                "body": {
                    "error": {
                        "code": 429,
                        "message": "Quota.",
                        "status": "RESOURCE_EXHAUSTED",
                        "details": [
                            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.4s"}
                        ],
                    }
                }
            },
        ],
        ids=["Retry-After", "RetryInfo"],
    )
    @pytest.mark.parametrize("status", [429, 503])
    def test_the_server_s_wish_to_wait_is_respected(
        self, hook: TuningJobHook, emulator: Emulator, name: str, status: int, wish: dict[str, Any]
    ) -> None:
        emulator.fault(method="GET", status=status, **wish)
        with Stopwatch() as watch:
            hook.get_tuning_job(name)
        assert 0.4 <= watch.seconds < 2

    def test_a_wish_beyond_the_budget_gives_up_at_once(
        self, hook: TuningJobHook, emulator: Emulator, name: str
    ) -> None:
        emulator.fault(method="GET", status=503, headers={"Retry-After": "3600"})
        with Stopwatch() as watch, pytest.raises(TuningUnavailableError):
            hook.get_tuning_job(name)
        assert watch.seconds < 2
        assert statuses(emulator) == [200, 503]

    def test_the_connection_s_number_of_retries_counts(
        self, hooks: Hooks, emulator: Emulator, connect: Connect
    ) -> None:
        connect(api_endpoint=emulator.url, num_retries=1)
        emulator.fault(status=503, times=-1)
        with pytest.raises(TuningUnavailableError):
            hooks(retry_policy=None).get_tuning_job("1")
        assert statuses(emulator) == [503, 503]

    def test_a_refused_token_is_tried_once_more(
        self, hook: TuningJobHook, emulator: Emulator, name: str
    ) -> None:
        emulator.fault(method="GET", status=401)
        assert hook.get_tuning_job(name)["name"] == name
        assert statuses(emulator) == [200, 401, 200]

    def test_a_token_that_stays_refused_is_an_error(
        self, hook: TuningJobHook, emulator: Emulator, name: str
    ) -> None:
        emulator.fault(method="GET", status=401, times=-1)
        with pytest.raises(TuningAuthenticationError, match="401 UNAUTHENTICATED"):
            hook.get_tuning_job(name)
        assert statuses(emulator) == [200, 401, 401]


class TestBrokenAnswers:
    @pytest.mark.parametrize("when", ["before_processing", "after_processing"])
    def test_a_cut_connection_is_survived(
        self, hook: TuningJobHook, emulator: Emulator, name: str, when: str
    ) -> None:
        emulator.fault(method="GET", drop=when)
        assert hook.get_tuning_job(name)["name"] == name
        assert len(emulator.requests()) == 3

    @pytest.mark.parametrize("how", ["length", "json"])
    def test_a_truncated_body_is_asked_for_again(
        self, hook: TuningJobHook, emulator: Emulator, name: str, how: str
    ) -> None:
        emulator.fault(method="GET", truncate_body=how)
        assert hook.get_tuning_job(name)["name"] == name
        assert len(emulator.requests()) == 3

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ("<html>Please log in</html>", "not JSON.*Please log in"),
            ("[]", "list"),
            ({"state": "JOB_STATE_RUNNING"}, "'name'"),
            ({"name": "x", "state": 5}, "'state'"),
            ({"name": 5, "state": "JOB_STATE_RUNNING"}, "'name'"),
            ("\x00\x01", "not JSON"),
            ("[" * 100_000, "not JSON"),
        ],
    )
    def test_an_answer_of_another_shape_is_never_taken_for_a_job(
        self, hooks: Hooks, emulator: Emulator, connect: Connect, body: Any, words: str
    ) -> None:
        connect(api_endpoint=emulator.url)
        emulator.fault(status=200, body=body)
        with pytest.raises(TuningUnavailableError, match=words):
            hooks(retry_policy=ONCE).get_tuning_job("1")

    def test_a_list_that_never_ends(self, hooks: Hooks, connect: Connect) -> None:
        with Server(answering({"tuningJobs": [JOB], "nextPageToken": "again"})) as server:
            connect(api_endpoint=server.url)
            with pytest.raises(TuningError, match="the same page token twice"):
                list(hooks(retry_policy=ONCE).list_tuning_jobs())

    def test_an_answer_in_a_broken_encoding(self, hooks: Hooks, connect: Connect) -> None:
        with Server(answering((200, b"no gzip", {"Content_Encoding": "gzip"}))) as server:
            connect(api_endpoint=server.url)
            with pytest.raises(TuningUnavailableError, match="the connection failed"):
                hooks(retry_policy=ONCE).get_tuning_job("1")

    @pytest.mark.parametrize(
        "reply", [b"\x00\xff\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 abc\r\n\r\n"]
    )
    def test_something_that_is_not_http(self, hooks: Hooks, connect: Connect, reply: bytes) -> None:
        with Server(greet=lambda connection: connection.sock.sendall(reply)) as server:
            connect(api_endpoint=server.url)
            with pytest.raises(TuningUnavailableError, match="the connection failed"):
                hooks(retry_policy=ONCE, request_timeout=3.0).get_tuning_job("1")

    @pytest.mark.parametrize("packed", [False, True])
    def test_a_gigantic_body_is_refused_without_eating_the_memory(
        self, hooks: Hooks, connect: Connect, packed: bool
    ) -> None:
        size = 1 << 29
        zipped = _zeros(size) if packed else b""

        def flood(connection: Connection, _: bytes) -> None:
            if packed:
                connection.answer(200, zipped, Content_Encoding="gzip")
                return
            connection.sock.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
            for _ in range(size >> 20):
                connection.sock.sendall(bytes(1 << 20))

        with Server(flood) as server:
            connect(api_endpoint=server.url)
            hook = hooks(retry_policy=ONCE, request_timeout=20.0)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            with pytest.raises(TuningUnavailableError, match="larger than"):
                hook.get_tuning_job("1")
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 250_000  # kilobytes


class TestSlowServers:
    def test_a_late_answer_is_given_up_and_asked_for_again(
        self, hooks: Hooks, emulator: Emulator, connect: Connect
    ) -> None:
        connect(api_endpoint=emulator.url)
        hook = hooks(request_timeout=TIMEOUT)
        name = hook.create_tuning_job(BODY)["name"]
        emulator.fault(method="GET", delay_seconds=10)
        with Stopwatch() as watch:
            assert hook.get_tuning_job(name)["name"] == name
        assert TIMEOUT <= watch.seconds < TIMEOUT + 2
        assert len(emulator.requests()) == 3

    @pytest.mark.parametrize(
        "data",
        [
            b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000,
            b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 90,
            b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
        ],
        ids=["one header", "many headers", "interim answers"],
    )
    def test_headers_that_drip(self, hooks: Hooks, connect: Connect, data: bytes) -> None:
        self._refused_in_time(hooks, connect, lambda connection, _: connection.drip(data, every=0.1))

    @pytest.mark.parametrize("chunked", [False, True])
    def test_a_body_that_drips(self, hooks: Hooks, connect: Connect, chunked: bool) -> None:
        def drip(connection: Connection, _: bytes) -> None:
            length = "Transfer-Encoding: chunked" if chunked else "Content-Length: 1000"
            connection.sock.sendall(f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode())
            connection.drip(b"1\r\nx\r\n" * 1000 if chunked else b"x" * 1000, every=0.1)

        self._refused_in_time(hooks, connect, drip)

    def test_silence(self, hooks: Hooks, connect: Connect) -> None:
        self._refused_in_time(hooks, connect, lambda connection, _: connection.hang())

    def test_silence_instead_of_a_tls_handshake(self, hooks: Hooks, connect: Connect) -> None:
        with Server(greet=lambda connection: connection.hang()) as server:
            connect(api_endpoint=server.url.replace("http", "https"))
            with (
                Stopwatch() as watch,
                pytest.raises(TuningUnavailableError, match="request_timeout") as caught,
            ):
                hooks(retry_policy=ONCE, request_timeout=TIMEOUT).get_tuning_job("1")
        assert watch.seconds < TIMEOUT + 2
        assert caught.value.api_error is not None
        assert not caught.value.api_error.sent

    def _refused_in_time(self, hooks: Hooks, connect: Connect, handler: Handler) -> None:
        with Server(handler) as server:
            connect(api_endpoint=server.url)
            hook = hooks(retry_policy=ONCE, request_timeout=TIMEOUT)
            with (
                Stopwatch() as watch,
                pytest.raises(TuningUnavailableError, match="request_timeout") as caught,
            ):
                hook.get_tuning_job("1")
        assert TIMEOUT * 0.8 <= watch.seconds < TIMEOUT + 2
        assert len(server.requests) == 1
        assert caught.value.api_error is not None
        assert caught.value.api_error.sent

    def test_a_slow_but_whole_answer_is_taken(self, hooks: Hooks, connect: Connect) -> None:
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
        with Server(lambda connection, _: connection.drip(answer, every=0.01)) as server:
            connect(api_endpoint=server.url)
            hook = hooks(retry_policy=ONCE, request_timeout=5.0)
            assert list(hook.list_tuning_jobs()) == []
            # The same connection once more: the first answer's deadline is forgotten.
            assert list(hook.list_tuning_jobs()) == []
        assert server.connections == 1


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_no_redirect_is_followed_and_no_token_leaves(
        self, hooks: Hooks, emulator: Emulator, connect: Connect, status: int
    ) -> None:
        connect(api_endpoint=emulator.url)
        with Server(answering(JOB)) as other:
            emulator.fault(status=status, headers={"Location": f"{other.url}/v1/x"}, times=-1)
            hook = hooks()
            for call in (lambda: hook.get_tuning_job("1"), lambda: hook.create_tuning_job(BODY)):
                with pytest.raises(TuningBadRequestError, match="redirect"):
                    call()
        assert other.connections == 0
        assert statuses(emulator) == [status, status]


class TestNoConnection:
    def test_a_refused_connection(self, hooks: Hooks, connect: Connect) -> None:
        connect(api_endpoint=f"http://127.0.0.1:{free_port()}")
        with pytest.raises(TuningUnavailableError, match="the connection failed") as caught:
            hooks(retry_policy=ONCE).get_tuning_job("1")
        assert caught.value.api_error is not None
        assert not caught.value.api_error.sent

    def test_an_unknown_host(self, hooks: Hooks, connect: Connect) -> None:
        connect(api_endpoint="https://vertex.invalid")
        with pytest.raises(TuningUnavailableError, match="the connection failed") as caught:
            hooks(retry_policy=ONCE).get_tuning_job("1")
        assert caught.value.api_error is not None
        assert not caught.value.api_error.sent

    def test_a_certificate_that_nobody_vouches_for(self, hooks: Hooks, connect: Connect) -> None:
        with Server(answering(JOB), tls=vouched_for(trustme.CA())) as server:
            connect(api_endpoint=server.url)
            with Stopwatch() as watch, pytest.raises(TuningBadRequestError, match="certificate") as caught:
                hooks().get_tuning_job("1")
        assert watch.seconds < 2
        assert server.connections == 1
        assert server.requests == []
        assert "Check the API endpoint" in str(caught.value)

    def test_a_certificate_of_another_host(
        self, hooks: Hooks, connect: Connect, trusted_authority: trustme.CA
    ) -> None:
        with Server(answering(JOB), tls=vouched_for(trusted_authority, "other.example")) as server:
            connect(api_endpoint=server.url)
            with pytest.raises(TuningBadRequestError, match="certificate"):
                hooks().get_tuning_job("1")
        assert server.requests == []

    def test_a_private_authority_of_the_environment_is_trusted(
        self, hooks: Hooks, connect: Connect, trusted_authority: trustme.CA
    ) -> None:
        with Server(answering(JOB), tls=vouched_for(trusted_authority)) as server:
            connect(api_endpoint=server.url)
            assert hooks().get_tuning_job("1") == JOB

    def test_plain_http_where_tls_belongs(self, hooks: Hooks, connect: Connect) -> None:
        def answer_plainly(connection: Connection) -> None:
            connection.sock.recv(4096)
            connection.sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        with Server(greet=answer_plainly) as server:
            connect(api_endpoint=server.url.replace("http", "https"))
            with pytest.raises(TuningBadRequestError, match="no secure connection"):
                hooks().get_tuning_job("1")
        assert server.connections == 1

    def test_a_handshake_that_is_broken_off_has_sent_nothing(self, hooks: Hooks, connect: Connect) -> None:
        with Server(greet=lambda connection: connection.sock.recv(100)) as server:
            connect(api_endpoint=server.url.replace("http", "https"))
            with pytest.raises(TuningUnavailableError, match="the connection failed") as caught:
                hooks(retry_policy=RetryPolicy(initial=0.01, max_repeats=2)).create_tuning_job(BODY)
        assert caught.value.api_error is not None
        assert not caught.value.api_error.sent
        assert server.connections == 3

    def test_a_proxy_of_the_environment_is_used_and_its_password_stays_secret(
        self, hooks: Hooks, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NO_PROXY", "")
        with Server(answering((407, b"", {"Connection": "close"}))) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://user:proxy-sentinel@127.0.0.1:{proxy.port}")
            connect(api_endpoint="https://vertex.invalid")
            with pytest.raises(TuningUnavailableError) as caught:
                hooks(retry_policy=ONCE).create_tuning_job(BODY)
        assert len(proxy.requests) == 1
        assert proxy.requests[0].startswith(b"CONNECT vertex.invalid:443 ")
        assert b"Proxy-Authorization: Basic" in proxy.requests[0]
        assert b"some-token" not in proxy.requests[0]
        assert "proxy-sentinel" not in str(caught.value)
        assert caught.value.api_error is not None
        assert not caught.value.api_error.sent

    def test_an_address_of_a_proxy_that_cannot_be_read_is_not_quoted(
        self, hooks: Hooks, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("HTTPS_PROXY", "http://user:proxy-sentinel@proxy:99999")
        connect(api_endpoint="https://vertex.invalid")
        with pytest.raises(TuningUnavailableError, match="HTTPS_PROXY") as caught:
            hooks(retry_policy=ONCE).get_tuning_job("1")
        assert "proxy-sentinel" not in str(caught.value)

    def test_plain_http_stays_on_this_machine(
        self, hook: TuningJobHook, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Server(answering(JOB)) as proxy:
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, proxy.url)
            for name in ("NO_PROXY", "no_proxy"):
                monkeypatch.delenv(name, raising=False)
            assert list(hook.list_tuning_jobs()) == []
        assert proxy.connections == 0


class TestCreateIsNeverSentTwice:
    """The API has no request id: a second create is a second bill."""

    @pytest.mark.parametrize(
        "fault",
        [
            {"status": 500},
            {"status": 502, "body": "<html>"},
            {"status": 503, "headers": {"Retry-After": "0"}},
            {"status": 504},
            {"drop": "before_processing"},
            {"drop": "after_processing"},
            {"truncate_body": "length"},
            {"truncate_body": "json"},
            {"status": 200, "body": "<html>"},
            {"status": 200, "body": {"state": "JOB_STATE_PENDING"}},
            {"delay_seconds": 10},
        ],
        ids=str,
    )
    def test_after_anything_ambiguous(
        self, hooks: Hooks, emulator: Emulator, connect: Connect, fault: dict[str, Any]
    ) -> None:
        connect(api_endpoint=emulator.url)
        emulator.fault(times=-1, **fault)
        with pytest.raises(TuningUnavailableError) as caught:
            hooks(request_timeout=TIMEOUT).create_tuning_job(BODY)
        assert len(emulator.requests()) == 1
        assert caught.value.api_error is not None
        assert caught.value.api_error.sent

    def test_but_it_is_after_a_refusal_for_quota(self, hook: TuningJobHook, emulator: Emulator) -> None:
        emulator.fault(status=429, times=2)
        hook.create_tuning_job(BODY)
        assert statuses(emulator) == [429, 429, 200]
        assert len(emulator.jobs()) == 1

    def test_and_after_a_refused_token(self, hook: TuningJobHook, emulator: Emulator) -> None:
        emulator.fault(status=401)
        hook.create_tuning_job(BODY)
        assert statuses(emulator) == [401, 200]
        assert len(emulator.jobs()) == 1

    def test_and_after_a_refused_connection(self, hooks: Hooks, connect: Connect) -> None:
        port = free_port()
        connect(api_endpoint=f"http://127.0.0.1:{port}")
        servers: list[Server] = []

        def open_late() -> None:
            time.sleep(0.2)
            servers.append(Server(answering(JOB), port=port).__enter__())

        opener = threading.Thread(target=open_late)
        opener.start()
        try:
            assert hooks().create_tuning_job(BODY) == JOB
        finally:
            opener.join()
            servers[0].__exit__()
        assert len(servers[0].requests) == 1


class TestNetrc:
    def test_a_password_file_of_the_user_does_not_replace_the_token(
        self, hooks: Hooks, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("default login someone password netrc-password\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        with Server(answering(JOB)) as server:
            connect(api_endpoint=server.url)
            assert hooks().get_tuning_job("1") == JOB
        assert b"authorization: bearer some-token" in server.requests[0].lower()
