"""Google credentials for a connection, and what a failure to get a token means."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_tuning_provider.api.endpoints import DEFAULT_UNIVERSE
from airflow_tuning_provider.api.errors import ApiError, ErrorKind, parse_error
from airflow_tuning_provider.api.inputs import InvalidInputError, shorten

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from airflow_tuning_provider.hooks.connection import ConnectionSettings

_LONGEST_PATH = 256


def build_credentials(
    settings: ConnectionSettings, impersonation_chain: tuple[str, ...] = ()
) -> tuple[Credentials, str | None]:
    """Return credentials and the project they belong to, if they know one. May read files and the network.

    :param settings: the connection.
    :param impersonation_chain: overrides the connection's chain.
    :raises InvalidInputError: if a key cannot be used; its content is never shown.
    :raises google.auth.exceptions.DefaultCredentialsError: if there are no credentials.
    """
    credentials, project = _source_credentials(settings)
    chain = impersonation_chain or settings.impersonation_chain
    if chain:
        from google.auth import impersonated_credentials

        credentials = impersonated_credentials.Credentials(
            source_credentials=credentials,
            target_principal=chain[-1],
            delegates=list(chain[:-1]),
            target_scopes=list(settings.scopes),
        )
    if settings.quota_project_id and hasattr(credentials, "with_quota_project"):
        credentials = credentials.with_quota_project(settings.quota_project_id)
    return credentials, project


def _source_credentials(settings: ConnectionSettings) -> tuple[Credentials, str | None]:
    import google.auth
    from google.auth import credentials as base
    from google.auth.exceptions import GoogleAuthError

    scopes = list(settings.scopes)
    if settings.is_anonymous:
        return base.AnonymousCredentials(), None
    if settings.access_token:
        from google.oauth2.credentials import Credentials as TokenCredentials

        return TokenCredentials(token=settings.access_token), None
    names = ("keyfile_dict", "key_path", "credential_config_file")
    source = next((name for name in names if getattr(settings, name) is not None), None)
    if source is None:
        loaded: tuple[Credentials, str | None] = google.auth.default(scopes=scopes)
        return loaded
    given = getattr(settings, source)
    try:
        info = dict(given if isinstance(given, Mapping) else json.loads(Path(given).read_text()))
        universe = info.get("universe_domain") or DEFAULT_UNIVERSE
        if universe == settings.universe_domain:
            return _from_info(info, scopes)
        ours = settings.universe_domain
        reason = (
            f"it is for the universe {shorten(str(universe), 100)!r} and the connection for {ours!r}: "
            "set the connection's universe_domain"
        )
    except (ValueError, KeyError, TypeError, AttributeError, OSError, GoogleAuthError) as error:
        reason = f"no credentials can be made from it ({type(error).__name__})"
    # Raised here, without the parser's error as its context: parsers quote what they choke on. Nor is a key shown
    # that was pasted where its path belongs: no path in use is that long.
    is_path = source == "key_path" and len(str(given)) < _LONGEST_PATH
    raise InvalidInputError(source, given if is_path else "…", reason)


def _from_info(info: dict[str, Any], scopes: list[str]) -> tuple[Credentials, str | None]:
    """Make credentials of whatever kind; reads no network, as google-auth's own loader does to find a project."""
    # A key without a type is a service account's, as Airflow's official connection has it.
    kind = info.setdefault("type", "service_account")
    if kind == "service_account":
        # Nor does it mind a key that went through a shell or a form, which escaped its line ends.
        info["private_key"] = info["private_key"].replace("\\n", "\n")
        return _service_account(json.dumps(info)).with_scopes(scopes), info.get("project_id")
    if kind == "authorized_user":
        from google.oauth2.credentials import Credentials as UserCredentials

        return UserCredentials.from_authorized_user_info(info, scopes=scopes), None
    if kind == "external_account":
        from google.auth import aws, identity_pool, pluggable

        loader: Any = identity_pool
        if info.get("subject_token_type") == "urn:ietf:params:aws:token-type:aws4_request":
            loader = aws
        elif (info.get("credential_source") or {}).get("executable") is not None:
            loader = pluggable
        return loader.Credentials.from_info(info, scopes=scopes), None
    import google.auth

    loaded: tuple[Credentials, str | None] = google.auth.load_credentials_from_dict(info, scopes=scopes)
    return loaded


@functools.lru_cache(maxsize=16)
def _service_account(key: str) -> Any:
    # Checking an RSA key takes a twentieth of a second during which no other thread runs, event loops
    # included. What is kept holds no token: with_scopes makes a copy.
    from google.oauth2.service_account import Credentials as KeyCredentials

    return KeyCredentials.from_service_account_info(json.loads(key))


def can_refresh(credentials: Credentials) -> bool:
    """Whether the credentials know a way to a new token; a fixed access token does not."""
    from google.auth.credentials import AnonymousCredentials
    from google.oauth2.credentials import Credentials as TokenCredentials

    if isinstance(credentials, TokenCredentials):
        return bool(credentials.refresh_token)
    return not isinstance(credentials, AnonymousCredentials)


def refresh(credentials: Credentials, timeout: float) -> None:
    """Get a new token; blocking.

    :param timeout: seconds for each request to the token service.
    :raises google.auth.exceptions.GoogleAuthError: if no token could be had.
    """
    from google.auth.exceptions import GoogleAuthError, RefreshError
    from google.auth.transport.requests import Request

    from airflow_tuning_provider.hooks.adapter import new_session

    with new_session() as session:
        # A redirect would take the key's assertion, or the refresh token, to a host that nobody chose.
        send = functools.partial(Request(session), timeout=timeout, allow_redirects=False)
        statuses: list[int] = []

        def request(*args: Any, **kwargs: Any) -> Any:
            response = send(*args, **kwargs)
            statuses.append(response.status)
            return response

        try:
            credentials.refresh(request)
        except GoogleAuthError as error:
            if not statuses or not (statuses[-1] in (408, 429) or statuses[-1] >= 500):
                raise
            # google-auth takes 502 and 504, as load balancers send them, for a refusal.
            raise RefreshError(*error.args, retryable=True) from error
        except (ValueError, TypeError, KeyError, AttributeError):
            # google-auth takes any answer with HTTP 200 for a token.
            failure = "the token service's answer is no token"
        else:
            return
    raise RefreshError(failure, retryable=True)


def error_of(error: Exception, credentials: Any = None) -> ApiError:
    """Say what a failure to get credentials or a token means. The API itself has not been called.

    :param credentials: the credentials that could not get a token.
    """
    from google.auth import exceptions

    if (denied := _denied_impersonation(error, credentials)) is not None:
        return denied

    transient = (
        isinstance(error, exceptions.TransportError)
        or bool(getattr(error, "retryable", False))
        or _refused_by_a_busy_service(error)
    )
    if isinstance(error, exceptions.DefaultCredentialsError):
        message = (
            "no Google credentials were found: give the connection a key, a credential configuration or an "
            "access token, or set up application default credentials on the machine"
        )
    else:
        # The first argument is the reason in words, or a proxy's whole page; further ones can hold the
        # token service's whole answer.
        reason = shorten(" ".join(str(error.args[0]).split())) if error.args else type(error).__name__
        message = f"no access token could be had: {reason}"
    return ApiError(ErrorKind.UNAVAILABLE if transient else ErrorKind.UNAUTHENTICATED, message, sent=False)


def _denied_impersonation(error: Exception, credentials: Any) -> ApiError | None:
    """Say who may not act as whom, where Google's IAM said so: google-auth names neither."""
    from google.auth.impersonated_credentials import Credentials as Impersonated

    answer = error.args[1] if len(error.args) > 1 else None
    if not isinstance(credentials, Impersonated) or not isinstance(answer, str):
        return None
    # The status is in the envelope: what is no envelope is a proxy's page.
    said = parse_error(403, {}, answer.encode(errors="replace"), now=0.0)
    if said.status not in ("PERMISSION_DENIED", "NOT_FOUND"):
        return None
    target = credentials.service_account_email
    chain = [*(credentials._delegates or ()), target]
    source = principal(credentials._source_credentials)
    advice = said.advice
    if not said.disabled:
        first = source or "the principal of the connection's own credentials"
        pairs = zip([first, *chain], chain, strict=False)
        steps = " and ".join(f"{who} on {whom}" for who, whom in pairs)
        missing = (
            "Check that the service account exists, and grant" if said.status == "NOT_FOUND" else "Grant"
        )
        advice = f"{missing} the role roles/iam.serviceAccountTokenCreator to {steps}."
    who = source or "the connection's own credentials"
    return replace(
        said,
        kind=ErrorKind.UNAUTHENTICATED,
        message=f"{who} may not act as {target}: {said.message}",
        http_status=None,
        status=None,
        sent=False,
        advice=advice,
    )


def _refused_by_a_busy_service(error: Exception) -> bool:
    """Whether impersonation failed for a while only: google-auth marks no such error as retryable.

    Its second argument is then the IAM service's answer: Google's envelope, or a proxy's page.
    """
    answer = error.args[1] if len(error.args) > 1 else None
    if not isinstance(answer, str):
        return False
    try:
        code = json.loads(answer)["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return not answer.lstrip().startswith("{")
    return isinstance(code, int) and (code == 429 or code >= 500)


def principal(credentials: Any) -> str | None:
    """Return the service account that acts, if the credentials tell."""
    email = getattr(credentials, "service_account_email", None)
    return email if isinstance(email, str) and "@" in email else None
