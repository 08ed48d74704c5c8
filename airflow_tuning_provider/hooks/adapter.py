"""An adapter for ``requests`` whose timeout bounds a whole answer, headers and body.

A socket's own timeout starts anew with every byte: a server that sends one now and then would hold a
caller for as long as it likes.
"""

from __future__ import annotations

import http.client
import io
import time
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter
from urllib3 import connection, connectionpool
from urllib3.exceptions import ConnectTimeoutError, HTTPError

_Session = TypeVar("_Session", bound=requests.Session)

_CONNECTIONS = 32
"""Connections kept open to a host: as many as threads of the triggerer may use at a time."""


def new_session() -> requests.Session:
    """Return a session with the adapter, which takes proxies from the environment, but no passwords."""
    return bounded(requests.Session())


def bounded(session: _Session) -> _Session:
    """Give a session the adapter, and keep it from replacing a token by what ``~/.netrc`` says."""
    for scheme in ("https://", "http://"):
        session.mount(scheme, WholeAnswerAdapter(pool_maxsize=_CONNECTIONS))
    session.auth = _unchanged
    # requests also reads the address and the body of a redirect that it is told not to follow.
    session.get_redirect_target = _nowhere  # type: ignore[assignment, method-assign]
    return session


def _nowhere(_: requests.Response) -> None:
    return None


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _Reader(io.RawIOBase):
    """Reads a socket until a deadline."""

    def __init__(self, raw: Any, sock: Any) -> None:
        self._raw = raw
        self._sock = sock
        timeout = sock.gettimeout()
        self._deadline = None if timeout is None else time.monotonic() + timeout

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._deadline is not None:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            self._sock.settimeout(left)
        received: int | None = self._raw.readinto(buffer)
        return received

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        # urllib3 has just set the socket's timeout to what is left for reading.
        self.fp = io.BufferedReader(_Reader(self.fp.detach(), sock))


class NotConnected(ConnectTimeoutError):  # noqa: N818 - it says what is known; urllib3 passes this class on
    """No connection came about: no byte of the request has left this machine.

    Known here and nowhere else. The errors that urllib3 makes of it do not tell: a ``ProxyError``, for instance,
    is also what becomes of an answer that was lost on its way through a proxy.

    :param reason: what went wrong.
    """

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


class _Connecting(connection.HTTPConnection):
    """Reports whatever fails before there is a connection, its tunnel and TLS included, as :class:`NotConnected`."""

    response_class = _Response

    def connect(self) -> None:
        try:
            super().connect()
        except (OSError, HTTPError, http.client.HTTPException, ValueError) as error:
            raise NotConnected(error) from error


class _HTTPConnection(_Connecting, connection.HTTPConnection):
    pass


class _HTTPSConnection(_Connecting, connection.HTTPSConnection):
    pass


class _HTTPPool(connectionpool.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(connectionpool.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


_POOLS = {"http": _HTTPPool, "https": _HTTPSPool}


class WholeAnswerAdapter(HTTPAdapter):
    """Hands out connections whose answers must arrive whole within the timeout."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """See :class:`requests.adapters.HTTPAdapter`."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """See :class:`requests.adapters.HTTPAdapter`."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager
