"""Sending calls: what the blocking and the asynchronous way share, and the blocking way itself."""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from airflow_tuning_provider import __version__
from airflow_tuning_provider.api.errors import ApiError, ErrorKind
from airflow_tuning_provider.api.requests import ApiRequest
from airflow_tuning_provider.api.responses import MAX_BODY_BYTES, Answer, bad_response, read
from airflow_tuning_provider.api.retry import RetryPolicy
from airflow_tuning_provider.exceptions import TuningError, error_from
from airflow_tuning_provider.hooks import credentials as auth
from airflow_tuning_provider.hooks.calls import Call

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.auth.transport.requests import AuthorizedSession
    from requests import Response, Session

    from airflow_tuning_provider.hooks.connection import ConnectionSettings

T = TypeVar("T")

# google-auth credentials are not safe to refresh from two threads at a time.
_REFRESH_LOCK = threading.Lock()

USER_AGENT = f"airflow-tuning-provider/{__version__}"
CHUNK = 64 * 1024


class TransportBase:
    """Settings, headers, retries and errors; everything but the waiting for the network.

    :param settings: the connection.
    :param credentials: sync google-auth credentials.
    :param api_version: ``v1`` or ``v1beta1``.
    :param request_timeout: seconds for one HTTP request, answer included.
    :param retry_policy: when to send a call again.
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        credentials: Credentials,
        *,
        api_version: str,
        request_timeout: float,
        retry_policy: RetryPolicy,
        log: logging.Logger,
    ) -> None:
        self.settings = settings
        self.credentials = credentials
        self.api_version = api_version
        self.request_timeout = request_timeout
        self.retry_policy = retry_policy
        self.log = log

    def prepare(self, request: ApiRequest) -> tuple[str, dict[str, str], bytes | None]:
        """Return URL, headers and body of a request; the headers carry no credentials."""
        url = request.url(self.settings.base_url(request.location), self.api_version)
        headers = {"Accept": "application/json", "User-Agent": USER_AGENT, "X-Goog-Api-Client": USER_AGENT}
        body = None
        if request.body is not None:
            body = json.dumps(request.body).encode()
            headers["Content-Type"] = "application/json; charset=utf-8"
        return url, headers, body

    def error(self, error: ApiError, request: ApiRequest) -> TuningError:
        """Return the exception for a call that is given up."""
        who = auth.principal(self.credentials)
        return error_from(error, request.what, principal=who)


class Attempts:
    """Counts the failures of one call and asks the policy what to do about them."""

    def __init__(self, request: ApiRequest, transport: TransportBase) -> None:
        self._request = request
        self._transport = transport
        self._failures = 0
        self._since = 0.0

    def next_delay(self, error: ApiError) -> float:
        """Return the seconds to wait before the next attempt.

        :raises TuningError: if there is to be none.
        """
        now = time.monotonic()
        self._failures += 1
        if self._failures == 1:
            self._since = now
        delay = self._transport.retry_policy.delay(
            self._request, error, failures=self._failures, elapsed=now - self._since, random=random.random()
        )
        if delay is None:
            raise self._transport.error(error, self._request)
        self._transport.log.warning(
            "Could not %s: %s Trying again in %.1f s.", self._request.what, error, delay
        )
        return delay


class Transport(TransportBase):
    """Sends calls with ``requests`` through one pooled google-auth session."""

    _session: AuthorizedSession | None = None

    @property
    def session(self) -> AuthorizedSession:
        """The pooled session; made when first needed."""
        if self._session is None:
            from google.auth.transport.requests import AuthorizedSession

            # No status makes the session refresh and send again by itself: that is decided in perform.
            self._session = AuthorizedSession(self.credentials, refresh_status_codes=())
        return self._session

    def close(self) -> None:
        """Close the session's connections."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def perform(self, call: Call[T]) -> T:
        """Send a call until it succeeds or is given up.

        :raises TuningError: the error it was given up with.
        """
        attempts = Attempts(call.request, self)
        while isinstance(result := self.attempt(call), ApiError):
            time.sleep(attempts.next_delay(result))
        return result

    def attempt(self, call: Call[T]) -> T | ApiError:
        """Send a call once; a token that is refused is replaced once, as it may have been revoked early."""
        result = self._send(call)
        if isinstance(result, ApiError) and result.http_status == 401 and self._renew() is None:
            return self._send(call)
        return result

    def send_alone(self, call: Call[T], timeout: float) -> T:
        """Send a call once, with the token at hand, over a connection of its own.

        :param timeout: seconds that it may take.
        :raises TuningError: if it did not succeed.
        """
        import requests

        prepared = self.prepare(call.request)
        self.credentials.apply(prepared[1])
        with requests.Session() as session:
            result = self._exchange(session, call, prepared, timeout)
        if isinstance(result, ApiError):
            raise self.error(result, call.request)
        return result

    def _send(self, call: Call[T]) -> T | ApiError:

        prepared = self.prepare(call.request)
        if not self.credentials.valid and (failure := self._refresh()) is not None:
            return failure
        return self._exchange(self.session, call, prepared, self.request_timeout)

    def _exchange(
        self,
        session: Session,
        call: Call[T],
        prepared: tuple[str, dict[str, str], bytes | None],
        timeout: float,
    ) -> T | ApiError:
        import requests
        from urllib3.exceptions import HTTPError  # what reading a body raises

        url, headers, body = prepared
        deadline = time.monotonic() + timeout
        try:
            with session.request(
                call.request.method,
                url,
                data=body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                stream=True,
            ) as response:
                content = _content(response, deadline)
        except (requests.RequestException, HTTPError) as error:
            return _transport_error(error)
        except OSError as error:
            return ApiError(ErrorKind.UNAVAILABLE, f"the connection failed: {type(error).__name__}: {error}")
        if isinstance(content, ApiError):
            return content
        payload = read(Answer(response.status_code, response.headers, content), now=time.time())
        return payload if isinstance(payload, ApiError) else call.read(payload)

    def _renew(self) -> ApiError | None:
        """Replace a refused token, where there is a way to; a fixed token is simply tried once more."""
        return self._refresh() if auth.can_refresh(self.credentials) else None

    def _refresh(self) -> ApiError | None:
        from google.auth.exceptions import GoogleAuthError

        stale = self.credentials.token
        with _REFRESH_LOCK:
            # Another thread may have got a new token while this one waited for its turn.
            if self.credentials.valid and self.credentials.token != stale:
                return None
            try:
                auth.refresh(self.credentials, self.request_timeout)
            except GoogleAuthError as error:
                return auth.error_of(error)
        return None


def _content(response: Response, deadline: float) -> bytes | ApiError:
    """Read a body, within the deadline and the size that an answer of this API can have."""
    chunks: list[bytes] = []
    size = 0
    # read1 returns what has arrived, so that a server that drips cannot hold the reader past the deadline.
    read1 = getattr(response.raw, "read1", None)
    stream = iter(lambda: read1(CHUNK, decode_content=True), b"") if read1 else response.iter_content(CHUNK)
    for chunk in stream:
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            return bad_response(f"the answer is larger than {MAX_BODY_BYTES} bytes", response.status_code)
        if time.monotonic() > deadline:
            return ApiError(ErrorKind.UNAVAILABLE, "the answer did not arrive whole within request_timeout")
    expected = response.headers.get("Content-Length", "")
    if expected.isdecimal() and not response.headers.get("Content-Encoding") and size < int(expected):
        return bad_response(f"the answer was cut off after {size} of {expected} bytes", response.status_code)
    return b"".join(chunks)


def _transport_error(error: Exception) -> ApiError:
    """Say what a failed connection means."""
    import requests
    from urllib3.exceptions import NewConnectionError

    if isinstance(error, requests.exceptions.SSLError):
        return ApiError(
            ErrorKind.BAD_REQUEST,
            f"no secure connection to the configured host: {error}. Check the API endpoint and its certificate.",
            sent=False,
        )
    reason = getattr(error.args[0], "reason", None) if error.args else None
    sent = not isinstance(error, requests.exceptions.ConnectTimeout) and not isinstance(
        reason, NewConnectionError
    )
    if isinstance(error, requests.exceptions.Timeout):
        return ApiError(ErrorKind.UNAVAILABLE, f"no answer within request_timeout: {error}", sent=sent)
    return ApiError(ErrorKind.UNAVAILABLE, f"the connection failed: {error}", sent=sent)
