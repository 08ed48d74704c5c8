"""Sending calls: one attempt, its repetitions, and the token that goes with it. Safe to share between threads."""

from __future__ import annotations

import json
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_tuning_provider import __version__
from airflow_tuning_provider._errors import error_from
from airflow_tuning_provider.api import regions
from airflow_tuning_provider.api.calls import Call
from airflow_tuning_provider.api.errors import ApiError, ErrorKind
from airflow_tuning_provider.api.responses import MAX_BODY_BYTES, Answer, bad_response, read
from airflow_tuning_provider.api.retry import RetryPolicy
from airflow_tuning_provider.exceptions import TuningError
from airflow_tuning_provider.hooks import credentials as auth

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.auth.transport.requests import AuthorizedSession
    from requests import Response, Session

    from airflow_tuning_provider.hooks.connection import ConnectionSettings

T = TypeVar("T")

CLIENT = f"airflow-tuning-provider/{__version__}"
# Google compresses answers for who names gzip here too: https://developers.google.com/discovery/v1/performance
USER_AGENT = f"{CLIENT} (gzip)"
_CHUNK = 64 * 1024


class Transport:
    """Sends calls with ``requests`` through one pooled google-auth session.

    :param settings: the connection.
    :param credentials: google-auth credentials.
    :param api_version: ``v1`` or ``v1beta1``.
    :param request_timeout: seconds for one HTTP request, answer included.
    :param retry_policy: when to send a call again.
    :param log: where repetitions are told.
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        credentials: Credentials,
        *,
        api_version: str,
        request_timeout: float,
        retry_policy: RetryPolicy,
        log: Any,
    ) -> None:
        from google.auth.transport.requests import AuthorizedSession

        from airflow_tuning_provider.hooks.adapter import bounded

        self.settings = settings
        self.credentials = credentials
        self.session: AuthorizedSession = bounded(AuthorizedSession(credentials))
        self._api_version = api_version
        self._request_timeout = request_timeout
        self._retry_policy = retry_policy
        self._log = log
        # google-auth credentials are not safe to refresh from two threads at a time.
        self._refresh_lock = threading.Lock()
        self._refreshed: tuple[float, ApiError | None] = (0.0, None)

    def close(self) -> None:
        """Close the session's connections; it opens new ones where it is used again."""
        self.session.close()

    def perform(self, call: Call[T]) -> T:
        """Send a call until it succeeds or is given up.

        :raises TuningError: the error it was given up with.
        """
        failures, since = 0, 0.0
        while isinstance(result := self.attempt(call), ApiError):
            now = time.monotonic()
            failures += 1
            since = now if failures == 1 else since
            delay = self._retry_policy.delay(
                call, result, failures=failures, elapsed=now - since, random=random.random()
            )
            if delay is None:
                raise self.error(result, call)
            self._log.warning("Could not %s: %s Trying again in %.1f s.", call.what, result, delay)
            time.sleep(delay)
        return result

    def attempt(self, call: Call[T]) -> T | ApiError:
        """Send a call once; a token that is refused is replaced once, as it may have been revoked early."""
        failure = self.fetch_token()
        if failure is not None:
            return failure
        token = self.credentials.token
        result = self._send(self.session, call, self._request_timeout)
        if isinstance(result, ApiError) and result.http_status == 401:
            # A fixed token is simply tried once more.
            if auth.can_refresh(self.credentials):
                failure = self._refresh_if(lambda: self.credentials.token == token)
                if failure is not None:
                    return failure
            return self._send(self.session, call, self._request_timeout)
        return result

    def fetch_token(self) -> ApiError | None:
        """Get a token if there is none that is valid; return why that cannot be done."""
        return self._refresh_if(lambda: not self.credentials.valid)

    def attempt_without_token(self, call: Call[T]) -> T | ApiError:
        """Send a call once, to a host that is not to see the token."""
        from airflow_tuning_provider.hooks.adapter import new_session

        with new_session() as session:
            return self._send(session, call, self._request_timeout, anonymous=True)

    def send_alone(self, call: Call[T], timeout: float) -> T:
        """Send a call once, over a connection of its own, with the token at hand unless that is no good any more.

        :param timeout: seconds that it may take, and half of that for a new token.
        :raises TuningError: if it did not succeed.
        """
        from google.auth.exceptions import GoogleAuthError

        from airflow_tuning_provider.hooks.adapter import new_session

        # A thread that is being interrupted may hold the lock: it is not waited for.
        stale = not self.credentials.valid and auth.can_refresh(self.credentials)
        if stale and self._refresh_lock.acquire(blocking=False):
            try:
                with suppress(GoogleAuthError):
                    auth.refresh(self.credentials, timeout / 2)
            finally:
                self._refresh_lock.release()
        if stale and self.credentials.token is None:
            none = ApiError(ErrorKind.UNAVAILABLE, "no access token could be had in time", sent=False)
            raise self.error(none, call)
        with new_session() as session:
            result = self._send(session, call, timeout)
        if isinstance(result, ApiError):
            raise self.error(result, call)
        return result

    def error(self, error: ApiError, call: Call[Any]) -> TuningError:
        """Return the exception for a call that is given up."""
        return error_from(error, call.what, principal=auth.principal(self.credentials))

    def prepare(self, call: Call[Any]) -> tuple[str, dict[str, str], bytes | None]:
        """Return URL, headers and body of a call; the headers carry no credentials."""
        base_url = self.settings.base_url(call.location) if call.location else ""
        url = call.url(base_url, self._api_version)
        headers = {"Accept": "application/json", "User-Agent": USER_AGENT, "X-Goog-Api-Client": CLIENT}
        body = None
        if call.body is not None:
            body = json.dumps(call.body).encode()
            headers["Content-Type"] = "application/json; charset=utf-8"
        return url, headers, body

    def _send(
        self, session: Session, call: Call[T], timeout: float, *, anonymous: bool = False
    ) -> T | ApiError:
        import requests
        from urllib3.exceptions import HTTPError  # what reading a body raises
        from urllib3.util import Timeout

        url, headers, body = self.prepare(call)
        # Not google-auth's before_request, by which its sessions authorize: it may refresh the token once
        # more, and it asks Google's IAM about access boundaries in a thread of its own.
        if not anonymous:
            self.credentials.apply(headers)
        # Behind an own endpoint the location names no host.
        place = None if self.settings.api_endpoint else call.location or None
        try:
            # The base class's request: the session's own would authorize a second time.
            with requests.Session.request(
                session,
                call.method,
                url,
                data=body,
                headers=headers,
                timeout=Timeout(total=timeout),  # type: ignore[arg-type]
                allow_redirects=False,
                # Plain http is for this machine only; a proxy would see the token.
                proxies={"http": ""},
                stream=True,
            ) as response:
                content = _content(response)
        except (requests.RequestException, HTTPError, OSError) as error:
            return _transport_error(error, place)
        if isinstance(content, ApiError):
            return content

        def result(content: bytes) -> T | ApiError:
            if call.read_quickly is not None and response.status_code == 200:
                quick = call.read_quickly(content)
                if quick is not None:
                    return quick
            payload = read(Answer(response.status_code, response.headers, content), now=time.time())
            return payload if isinstance(payload, ApiError) else call.read(payload)

        token = headers.get("authorization", "").removeprefix("Bearer ").encode()
        found = result(content)
        if isinstance(found, ApiError) and token and token in content:
            # A proxy's page may show the request that it got, and errors quote pages.
            found = result(content.replace(token, b"[token]"))
        if isinstance(found, ApiError) and found.http_status == 404 and found.status is None and place:
            # Names of any host below googleapis.com may lead to a front end that knows no such API.
            return replace(found, message=f"{found.message}. {regions.hint(place) or ''}".rstrip(". ") + ".")
        return found

    def _refresh_if(self, needed: Callable[[], bool]) -> ApiError | None:
        """Replace a token that needs it. Threads that wait for their turn share what the one before them got.

        Its failure too: where the token service hangs, each of them would take its own time to find out.
        """
        if not needed():
            return None
        from google.auth.exceptions import GoogleAuthError

        asked = time.monotonic()
        with self._refresh_lock:
            ended, failure = self._refreshed
            if ended >= asked and failure is not None:
                return failure
            if not needed():
                return None
            try:
                auth.refresh(self.credentials, self._request_timeout)
            except GoogleAuthError as error:
                failure = auth.error_of(error, self.credentials)
            else:
                failure = None
            self._refreshed = time.monotonic(), failure
            return failure


def _content(response: Response) -> bytes | ApiError:
    """Read a body, within the size that an answer of this API can have."""
    chunks: list[bytes] = []
    size = 0
    for chunk in response.iter_content(_CHUNK):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            return bad_response(f"the answer is larger than {MAX_BODY_BYTES} bytes", response.status_code)
    return b"".join(chunks)


def _transport_error(error: Exception, location: str | None) -> ApiError:
    """Say what a failed exchange means; whether the request was sent is known from the connection alone.

    :param location: the location that the host's name was made of.
    """
    from urllib3 import exceptions

    from airflow_tuning_provider.hooks.adapter import NotConnected

    cause: Any = error
    sent = True
    # requests wraps what urllib3 has wrapped.
    while True:
        if isinstance(cause, NotConnected):
            sent = False
        inner = getattr(cause, "reason", None) or getattr(cause, "original_error", None)
        if not isinstance(inner, Exception):
            inner = cause.args[0] if cause.args and isinstance(cause.args[0], Exception) else None
        if inner is None:
            break
        cause = inner
    if not sent and _is_wrong_host(cause):
        return ApiError(
            ErrorKind.BAD_REQUEST,
            f"no secure connection to the configured host: {cause}. Check the API endpoint and its certificate.",
            sent=False,
        )
    if isinstance(cause, exceptions.LocationParseError):
        # It quotes the address, and a proxy's may hold a password.
        return ApiError(
            ErrorKind.UNAVAILABLE,
            "the address of the API or of its proxy (HTTPS_PROXY) cannot be read",
            sent=sent,
        )
    unreachable = isinstance(cause, exceptions.NewConnectionError)
    unknown = None if location is None or sent else regions.hint(location)
    if unknown and (lookup := _failed_lookup(cause)) is not None:
        # A name service that is away for the moment says otherwise (EAI_AGAIN): that may pass.
        lasting = lookup.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None))
        kind = ErrorKind.BAD_REQUEST if lasting else ErrorKind.UNAVAILABLE
        return ApiError(kind, f"the host of location {location!r} is not found. {unknown}", sent=False)
    if isinstance(cause, (exceptions.TimeoutError, TimeoutError)) and not unreachable:
        return ApiError(ErrorKind.UNAVAILABLE, "no whole answer within request_timeout", sent=sent)
    return ApiError(ErrorKind.UNAVAILABLE, f"the connection failed: {cause}", sent=sent)


def _failed_lookup(error: BaseException) -> socket.gaierror | None:
    """Return why a host's name could not be looked up; urllib3 before version 2 has no class of its own for it."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, socket.gaierror):
        seen = seen.__cause__ or seen.__context__
    return seen


def _is_wrong_host(error: BaseException) -> bool:
    """Whether a TLS handshake failed for a reason that lasts: the certificate, or a port that speaks no TLS."""
    # urllib3 before version 2 has its own class for a certificate of another host, in places that varied.
    if isinstance(error, ssl.SSLCertVerificationError) or type(error).__name__ == "CertificateError":
        return True
    return isinstance(error, ssl.SSLError) and error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST")
