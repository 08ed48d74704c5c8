"""Sending calls without blocking an event loop: google-auth's asynchronous session over aiohttp."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar

from google.auth.aio.credentials import Credentials as AsyncCredentials

from airflow_tuning_provider.api.errors import ApiError, ErrorKind
from airflow_tuning_provider.api.responses import MAX_BODY_BYTES, Answer, bad_response, read
from airflow_tuning_provider.hooks import credentials as auth
from airflow_tuning_provider.hooks.calls import Call
from airflow_tuning_provider.hooks.transport import CHUNK, Attempts, TransportBase

if TYPE_CHECKING:
    from google.auth.aio.transport.sessions import AsyncAuthorizedSession

T = TypeVar("T")


class _ReadyCredentials(AsyncCredentials):
    """Shows the session a token that :class:`AsyncTransport` keeps fresh.

    ``refresh`` stays unimplemented, so that the session returns a 401 instead of handling it by itself.
    """

    def __init__(self, credentials: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._source = credentials

    async def apply(self, headers: dict[str, str], token: str | None = None) -> None:
        self._source.apply(headers, token=token)

    async def before_request(self, request: Any, method: str, url: str, headers: dict[str, str]) -> None:
        # The source's apply also adds what belongs to it, such as the quota project.
        self._source.apply(headers)


class AsyncTransport(TransportBase):
    """Sends calls through one pooled session of the running event loop."""

    _session: AsyncAuthorizedSession | None = None
    _refreshing: asyncio.Task[ApiError | None] | None = None

    @property
    def session(self) -> AsyncAuthorizedSession:
        """The pooled session; made when first needed, on the running loop."""
        if self._session is None:
            import aiohttp
            from google.auth.aio.transport.aiohttp import Request
            from google.auth.aio.transport.sessions import AsyncAuthorizedSession

            client = aiohttp.ClientSession(trust_env=True)
            self._session = AsyncAuthorizedSession(_ReadyCredentials(self.credentials), Request(client))
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
        result = await self._send(call)
        if isinstance(result, ApiError) and result.http_status == 401 and await self._renew() is None:
            return await self._send(call)
        return result

    async def _send(self, call: Call[T]) -> T | ApiError:
        import aiohttp
        from google.auth.exceptions import GoogleAuthError

        url, headers, body = self.prepare(call.request)
        if not self.credentials.valid and (failure := await self._refresh()) is not None:
            return failure
        try:
            response = await self.session.request(
                call.request.method,
                url,
                data=body,
                headers=headers,
                # The session's own retries would repeat a create; when to repeat is decided in perform.
                total_attempts=1,
                max_allowed_time=self.request_timeout,
                timeout=self.request_timeout,
                allow_redirects=False,
            )
            try:
                content = await asyncio.wait_for(_content(response), self.request_timeout)
            finally:
                await response.close()
        except (GoogleAuthError, aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            return _transport_error(error)
        if isinstance(content, ApiError):
            return content
        payload = read(Answer(response.status_code, response.headers, content), now=time.time())
        return payload if isinstance(payload, ApiError) else call.read(payload)

    async def _renew(self) -> ApiError | None:
        """Replace a refused token, where there is a way to; a fixed token is simply tried once more."""
        return await self._refresh() if auth.can_refresh(self.credentials) else None

    async def _refresh(self) -> ApiError | None:
        """Get a new token in a thread; callers that come meanwhile share it.

        Shielded: a caller that is cancelled stops waiting, the others still get the token.
        """
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh_in_thread())
        return await asyncio.shield(self._refreshing)

    async def _refresh_in_thread(self) -> ApiError | None:
        from google.auth.exceptions import GoogleAuthError

        try:
            await asyncio.to_thread(auth.refresh, self.credentials, self.request_timeout)
        except GoogleAuthError as error:
            return auth.error_of(error)
        return None


async def _content(response: Any) -> bytes | ApiError:
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content(CHUNK):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            return bad_response(f"the answer is larger than {MAX_BODY_BYTES} bytes", response.status_code)
    return b"".join(chunks)


def _transport_error(error: BaseException) -> ApiError:
    """Say what a failed connection means; google-auth wraps what aiohttp raised."""
    import aiohttp
    from google.auth import exceptions

    cause = error.__cause__ or error
    if isinstance(cause, (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch)):
        return ApiError(
            ErrorKind.BAD_REQUEST,
            f"no secure connection to the configured host: {cause}. Check the API endpoint and its certificate.",
            sent=False,
        )
    if isinstance(cause, (asyncio.TimeoutError, exceptions.TimeoutError)):
        sent = not isinstance(cause, aiohttp.ConnectionTimeoutError)
        return ApiError(ErrorKind.UNAVAILABLE, "no whole answer within request_timeout", sent=sent)
    sent = not isinstance(cause, aiohttp.ClientConnectorError)
    return ApiError(
        ErrorKind.UNAVAILABLE, f"the connection failed: {type(cause).__name__}: {cause}", sent=sent
    )
