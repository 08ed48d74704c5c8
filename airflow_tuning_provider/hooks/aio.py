"""Sending calls without blocking an event loop: google-auth's credentials over aiohttp.

Not google-auth's own asynchronous session: before its latest versions it sends a create again after a 503,
with no way to stop it, and its DEBUG log shows the token.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import os
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeGuard, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from google.auth.exceptions import GoogleAuthError
from yarl import URL

from airflow_tuning_provider.api.errors import ApiError, ErrorKind
from airflow_tuning_provider.api.responses import MAX_BODY_BYTES, Answer, read
from airflow_tuning_provider.hooks import credentials as auth
from airflow_tuning_provider.hooks.calls import Call
from airflow_tuning_provider.hooks.transport import (
    CHUNK,
    Attempts,
    TransportBase,
    is_wrong_host,
    too_large,
    wrong_host,
)

T = TypeVar("T")


async def in_thread_of_its_own(function: Callable[..., T], *args: Any) -> T:
    """Run a blocking function that may hang.

    Not in the loop's default executor: that has few threads, and it resolves every host name too, so that
    a token service which hangs would hold up whatever else runs on the loop.
    """
    executor = ThreadPoolExecutor(1, "google-credentials")
    try:
        return await asyncio.get_running_loop().run_in_executor(executor, function, *args)
    finally:
        executor.shutdown(wait=False)


def tls_context() -> ssl.SSLContext:
    """Return a context that trusts what ``requests`` does, so that both hooks accept the same hosts."""
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    named = (os.environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))
    return _context(next(filter(None, named), DEFAULT_CA_BUNDLE_PATH))


@functools.lru_cache(maxsize=4)
def _context(bundle: str) -> ssl.SSLContext:
    if os.path.isdir(bundle):  # noqa: PTH112
        return ssl.create_default_context(capath=bundle)
    return ssl.create_default_context(cafile=bundle)


def _proxy_for(url: str) -> dict[str, Any]:
    """Return aiohttp's arguments for the proxy that the environment names."""
    # Not aiohttp's trust_env: that also reads ~/.netrc, and refuses a request that has a token then.
    parts = urlsplit(url)
    named = getproxies().get(parts.scheme)
    # Plain http is for this machine only; a proxy would see the token.
    if not named or parts.scheme == "http" or proxy_bypass(parts.netloc):
        return {}
    proxy = URL(named if "://" in named else f"http://{named}")
    if not proxy.user:
        return {"proxy": proxy}
    login = base64.b64encode(f"{proxy.user}:{proxy.password or ''}".encode()).decode()
    # Not inside the URL, which aiohttp's errors quote.
    return {"proxy": proxy.with_user(None), "proxy_headers": {"Proxy-Authorization": f"Basic {login}"}}


class AsyncTransport(TransportBase):
    """Sends calls through one pooled session of the running event loop.

    :param tls: see :func:`tls_context`; reads files, so it is made elsewhere than on the loop.
    """

    _session: aiohttp.ClientSession | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _refreshing: asyncio.Task[ApiError | None] | None = None

    def __init__(self, *args: Any, tls: ssl.SSLContext, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tls = tls

    @property
    def session(self) -> aiohttp.ClientSession:
        """The pooled session; made when first needed, and anew for another event loop."""
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls), cookie_jar=aiohttp.DummyCookieJar()
            )
            self._loop = loop
        return self._session

    async def close(self) -> None:
        """Close the session's connections."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def perform(self, call: Call[T]) -> T:
        """Send a call until it succeeds or is given up.

        :raises TuningError: the error it was given up with.
        """
        attempts = Attempts(call.request, self)
        while isinstance(result := await self.attempt(call), ApiError):
            await asyncio.sleep(attempts.next_delay(result))
        return result

    async def attempt(self, call: Call[T]) -> T | ApiError:
        """Send a call once; a token that is refused is replaced once, as it may have been revoked early."""
        if (
            not self.credentials.valid
            and (failure := await self._refresh(self.credentials.token)) is not None
        ):
            return failure
        token = self.credentials.token
        result = await self._send(call)
        if isinstance(result, ApiError) and result.http_status == 401:
            # A fixed token is simply tried once more.
            failure = await self._refresh(token) if auth.can_refresh(self.credentials) else None
            if failure is not None:
                return failure
            return await self._send(call)
        return result

    async def _send(self, call: Call[T]) -> T | ApiError:
        url, headers, body = self.authorized(call.request)
        # What is not even connected shortly before the end has surely not been sent.
        timeout = aiohttp.ClientTimeout(total=self.request_timeout, connect=self.request_timeout * 0.9)
        try:
            async with self.session.request(
                call.request.method,
                url,
                data=body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                **_proxy_for(url),
            ) as response:
                content = await _content(response)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            return _transport_error(error)
        if isinstance(content, ApiError):
            return content
        payload = read(Answer(response.status, response.headers, content), now=time.time())
        return payload if isinstance(payload, ApiError) else call.read(payload)

    async def _refresh(self, stale: str | None) -> ApiError | None:
        """Replace a token, unless another caller has done so; callers that come meanwhile share the refresh.

        Shielded: a caller that is cancelled stops waiting, the others still get the token.
        """
        if self.credentials.token != stale:
            return None
        if not is_under_way(self._refreshing):
            self._refreshing = asyncio.create_task(self._refresh_in_thread())
        return await asyncio.shield(self._refreshing)

    async def _refresh_in_thread(self) -> ApiError | None:
        try:
            await in_thread_of_its_own(auth.refresh, self.credentials, self.request_timeout)
        except GoogleAuthError as error:
            return auth.error_of(error)
        return None


def is_under_way(task: asyncio.Task[Any] | None) -> TypeGuard[asyncio.Task[Any]]:
    """Whether a task can be waited for here: it has not ended, and is one of the running event loop."""
    return task is not None and not task.done() and task.get_loop() is asyncio.get_running_loop()


async def _content(response: aiohttp.ClientResponse) -> bytes | ApiError:
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_chunked(CHUNK):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            return too_large(response.status)
    return b"".join(chunks)


def _transport_error(error: Exception) -> ApiError:
    """Say what a failed connection means."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return wrong_host(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorError) and is_wrong_host(error.os_error):
        return wrong_host(error.os_error)
    sent = not isinstance(
        error, (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError, aiohttp.ConnectionTimeoutError)
    )
    if isinstance(error, asyncio.TimeoutError):
        return ApiError(ErrorKind.UNAVAILABLE, "no whole answer within request_timeout", sent=sent)
    return ApiError(
        ErrorKind.UNAVAILABLE, f"the connection failed: {type(error).__name__}: {error}", sent=sent
    )
