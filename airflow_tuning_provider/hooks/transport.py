"""Sending calls: what the blocking and the asynchronous way share, and the blocking way itself."""

from __future__ import annotations

import json
import logging
import random
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

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

    def authorized(self, request: ApiRequest) -> tuple[str, dict[str, str], bytes | None]:
        """Return what :meth:`prepare` does, with the token at hand and the quota project."""
        url, headers, body = self.prepare(request)
        # Not google-auth's before_request, by which its sessions authorize: it may refresh the token once
        # more, and it asks Google's IAM about access boundaries in a thread of its own.
        self.credentials.apply(headers)
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

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # google-auth credentials are not safe to refresh from two threads at a time.
        self._refresh_lock = threading.Lock()

    @property
    def session(self) -> AuthorizedSession:
        """The pooled session; made when first needed."""
        if self._session is None:
            from google.auth.transport.requests import AuthorizedSession

            from airflow_tuning_provider.hooks.adapter import bounded

            self._session = AuthorizedSession(self.credentials)
            bounded(self._session)
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
        if not self.credentials.valid and (failure := self._refresh(self.credentials.token)) is not None:
            return failure
        token = self.credentials.token
        result = self._send(self.session, call, self.request_timeout)
        if isinstance(result, ApiError) and result.http_status == 401:
            # A fixed token is simply tried once more.
            failure = self._refresh(token) if auth.can_refresh(self.credentials) else None
            if failure is not None:
                return failure
            return self._send(self.session, call, self.request_timeout)
        return result

    def send_alone(self, call: Call[T], timeout: float) -> T:
        """Send a call once, with the token at hand, over a connection of its own.

        :param timeout: seconds that it may take.
        :raises TuningError: if it did not succeed.
        """
        from airflow_tuning_provider.hooks.adapter import new_session

        with new_session() as session:
            result = self._send(session, call, timeout)
        if isinstance(result, ApiError):
            raise self.error(result, call.request)
        return result

    def _send(self, session: Session, call: Call[T], timeout: float) -> T | ApiError:
        import requests
        from urllib3.exceptions import HTTPError  # what reading a body raises
        from urllib3.util import Timeout

        url, headers, body = self.authorized(call.request)
        try:
            # The base class's request: the session's own would authorize a second time.
            with requests.Session.request(
                session,
                call.request.method,
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
            return _transport_error(error)
        if isinstance(content, ApiError):
            return content
        payload = read(Answer(response.status_code, response.headers, content), now=time.time())
        return payload if isinstance(payload, ApiError) else call.read(payload)

    def _refresh(self, stale: str | None) -> ApiError | None:
        """Replace a token, unless another thread has done so while this one waited for its turn."""
        from google.auth.exceptions import GoogleAuthError

        with self._refresh_lock:
            if self.credentials.token != stale:
                return None
            try:
                auth.refresh(self.credentials, self.request_timeout)
            except GoogleAuthError as error:
                return auth.error_of(error)
        return None


def is_wrong_host(error: BaseException | None) -> bool:
    """Whether a TLS handshake failed for a reason that lasts: the certificate, or a port that speaks no TLS."""
    # urllib3 before version 2 has its own class for a certificate of another host, in places that varied.
    if isinstance(error, ssl.SSLCertVerificationError) or type(error).__name__ == "CertificateError":
        return True
    return isinstance(error, ssl.SSLError) and error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST")


def wrong_host(error: object) -> ApiError:
    """Return the error for a host that is not the one it should be."""
    return ApiError(
        ErrorKind.BAD_REQUEST,
        f"no secure connection to the configured host: {error}. Check the API endpoint and its certificate.",
        sent=False,
    )


def too_large(http_status: int) -> ApiError:
    """Return the error for an answer beyond the size that one of this API can have."""
    return bad_response(f"the answer is larger than {MAX_BODY_BYTES} bytes", http_status)


def _content(response: Response) -> bytes | ApiError:
    """Read a body, within the size that an answer of this API can have."""
    chunks: list[bytes] = []
    size = 0
    for chunk in response.iter_content(CHUNK):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            return too_large(response.status_code)
    return b"".join(chunks)


def _transport_error(error: Exception) -> ApiError:
    """Say what a failed connection means."""
    from urllib3 import exceptions

    cause: Any = error.args[0] if error.args else error
    cause = getattr(cause, "reason", cause)
    if isinstance(cause, exceptions.SSLError) and is_wrong_host(cause.args[0]):
        return wrong_host(cause.args[0])
    sent = not isinstance(cause, (exceptions.ConnectTimeoutError, exceptions.ProxyError))
    no_connection = isinstance(cause, exceptions.NewConnectionError)
    if isinstance(cause, exceptions.TimeoutError) and not no_connection:
        return ApiError(ErrorKind.UNAVAILABLE, "no whole answer within request_timeout", sent=sent)
    return ApiError(ErrorKind.UNAVAILABLE, f"the connection failed: {cause}", sent=sent)
