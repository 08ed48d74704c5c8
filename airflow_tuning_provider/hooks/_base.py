"""How a hook gets to its connection: looked up once, checked, and made into something that sends calls."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseHook

from airflow_tuning_provider._compat import AirflowNotFoundException
from airflow_tuning_provider._errors import error_from, refusing_invalid_input
from airflow_tuning_provider.api import names
from airflow_tuning_provider.api.calls import Call, Calls, validate_api_version
from airflow_tuning_provider.api.errors import ApiError, ErrorKind
from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.retry import RetryPolicy
from airflow_tuning_provider.exceptions import TuningError
from airflow_tuning_provider.hooks import credentials as auth
from airflow_tuning_provider.hooks.connection import ConnectionSettings, impersonation_chain, settings_from
from airflow_tuning_provider.hooks.transport import Transport
from airflow_tuning_provider.provider_info import CONNECTION_TYPE, DEFAULT_CONN_ID

if TYPE_CHECKING:
    from airflow.sdk import Connection
    from google.auth.credentials import Credentials
    from google.auth.transport.requests import AuthorizedSession

T = TypeVar("T")
_Hook = TypeVar("_Hook", bound="ConnectedHook")

DEFAULT_REQUEST_TIMEOUT = 60.0
RENEW_AFTER = 60.0
"""Seconds between two attempts to read a connection anew whose credentials are refused."""


class ConnectedHook(BaseHook):
    """A hook with a connection to Google, one pooled HTTP session and one token.

    :param gcp_conn_id: Airflow connection of the type ``google_cloud_platform`` or ``vertex_ai_tuning``.
    :param project_id: project; default: the connection's, else the credentials' own.
    :param location: location such as ``us-central1``; default: the connection's.
    :param impersonation_chain: service account to act as, or a chain of them, the last one acting.
    :param api_version: ``v1`` or ``v1beta1``.
    :param request_timeout: seconds for one HTTP request, answer included.
    :param retry_policy: when to send a call again; default: for up to a minute, and only calls that are
        safe to repeat (never a create that may have been processed).
    """

    conn_name_attr = "gcp_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = CONNECTION_TYPE

    _connection: Connection | None = None

    def __init__(
        self,
        gcp_conn_id: str = DEFAULT_CONN_ID,
        *,
        project_id: str | None = None,
        location: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        api_version: str = "v1",
        request_timeout: float = DEFAULT_REQUEST_TIMEOUT,
        retry_policy: RetryPolicy | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.gcp_conn_id = gcp_conn_id
        self.project_id = project_id
        self.location = location
        self.impersonation_chain = impersonation_chain
        self.api_version = api_version
        self.request_timeout = request_timeout
        self.retry_policy = retry_policy

    @classmethod
    def from_connection(cls: type[_Hook], connection: Connection, **kwargs: Any) -> _Hook:
        """Return a hook for a connection that has been looked up already, as an event loop has to do it.

        :param kwargs: the hook's other parameters.
        """
        hook = cls(str(connection.conn_id), **kwargs)
        hook._connection = connection
        return hook

    @cached_property
    def settings(self) -> ConnectionSettings:
        """The connection with the hook's own parameters in place; looked up once."""
        self.check_parameters()
        connection = self._connection or self._defined_connection()
        with refusing_invalid_input():
            settings = settings_from(connection)
            chain = impersonation_chain(self.impersonation_chain)
        return replace(
            settings,
            project=self.project_id or settings.project,
            location=self.location or settings.location,
            impersonation_chain=chain or settings.impersonation_chain,
        )

    def _defined_connection(self) -> Connection:
        """Look the connection up.

        :raises TuningAuthenticationError: if there is none of that name: no retry brings it about.
        """
        try:
            return self.get_connection(self.gcp_conn_id)
        except AirflowNotFoundException as error:
            missing = ApiError(
                ErrorKind.UNAUTHENTICATED,
                f"Airflow does not find it ({error})",
                sent=False,
                advice=(
                    "Create it in the UI (Admin, Connections), or by: airflow connections add "
                    f"{shlex.quote(self.gcp_conn_id)} --conn-type {CONNECTION_TYPE} --conn-extra "
                    """'{"project": "my-project", "location": "us-central1"}'"""
                ),
            )
            raise error_from(missing, f"use connection {self.gcp_conn_id!r}") from None

    def check_parameters(self) -> None:
        """Refuse parameters of the hook itself that cannot be right, whatever the connection says."""
        with refusing_invalid_input():
            validate_api_version(self.api_version)
            timeout: Any = self.request_timeout
            if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= 3600:
                raise InvalidInputError("request_timeout", timeout, "give seconds, from 0 to 3600")
            impersonation_chain(self.impersonation_chain)
            if self.project_id:
                names.validate_project(self.project_id)
            if self.location:
                names.validate_location(self.location)

    @cached_property
    def _transport(self) -> Transport:
        """What sends the calls. Made once: it may read files and ask a metadata server."""
        from google.auth.exceptions import GoogleAuthError

        settings = self.settings
        with refusing_invalid_input():
            try:
                credentials, project = auth.build_credentials(settings)
            except GoogleAuthError as error:
                raise error_from(auth.error_of(error), f"use connection {self.gcp_conn_id!r}") from None
        if settings.project is None and project:
            self.__dict__["settings"] = settings = replace(settings, project=project)
        policy = self.retry_policy or RetryPolicy()
        if policy.max_repeats is None:
            policy = replace(policy, max_repeats=settings.num_retries)
        return Transport(
            settings,
            credentials,
            api_version=self.api_version,
            request_timeout=self.request_timeout,
            retry_policy=policy,
            log=self.log,
        )

    @property
    def _calls(self) -> Calls:
        settings = self.settings
        if settings.project is None:
            settings = self._transport.settings  # the credentials may know the project
        return Calls(settings.project, settings.location, source=f"connection {self.gcp_conn_id!r}")

    @property
    def calls(self) -> Calls:
        """The calls on the tuning API, with this hook's project and location where they name none."""
        return self._calls

    @property
    def credentials(self) -> Credentials:
        """The Google credentials that every call of this hook uses."""
        return self._transport.credentials

    def get_conn(self) -> AuthorizedSession:
        """Return the pooled, authorized ``requests`` session."""
        return self._transport.session

    def open(self) -> None:
        """Read the connection and make the credentials now, and not with the first call.

        :raises TuningError: if they cannot be used.
        """
        try:
            _ = self._transport
        except Exception:
            self.__dict__.pop("settings", None)  # what could not be used is read again the next time
            raise

    def renew(self) -> None:
        """Read the connection anew and make new credentials from it; those at hand stay until that is done.

        :raises TuningError: if the connection cannot be used; the hook goes on with what it has.
        """
        fresh = type(self)(
            self.gcp_conn_id,
            project_id=self.project_id,
            location=self.location,
            impersonation_chain=self.impersonation_chain,
            api_version=self.api_version,
            request_timeout=self.request_timeout,
            retry_policy=self.retry_policy,
        )
        fresh.open()
        self.close()
        self.__dict__.update(settings=fresh.settings, _transport=fresh._transport)

    def close(self) -> None:
        """Close the session's connections; the hook can be used again afterwards."""
        if "_transport" in self.__dict__:
            self._transport.close()

    def __enter__(self: _Hook) -> _Hook:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def fetch_token(self) -> ApiError | None:
        """Get an access token where none is at hand; return why that cannot be done."""
        return self._transport.fetch_token()

    def attempt(self, call: Call[T], *, anonymous: bool = False) -> T | ApiError:
        """Send a call in one attempt; an error is a value.

        :param anonymous: send no credentials.
        """
        if anonymous:
            return self._transport.attempt_without_token(call)
        return self._transport.attempt(call)

    def trouble_with(self, action: Callable[[], None]) -> ApiError | None:
        """Do something with the connection, and return what was wrong with it: the error of an attempt."""
        try:
            action()
        except Exception as error:  # noqa: BLE001 - an API server that is away, a secrets backend, a bad extra
            return connection_trouble(error)
        return None


def connection_trouble(error: Exception) -> ApiError:
    """Return the error of an attempt that a missing or broken connection, key or token kept from being made."""
    if isinstance(error, TuningError) and error.api_error is not None:
        return error.api_error
    message = f"the Airflow connection cannot be used: {error}"
    return ApiError(ErrorKind.UNAUTHENTICATED, message, sent=False)
