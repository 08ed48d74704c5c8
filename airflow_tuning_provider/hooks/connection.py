"""What an Airflow connection says about how to reach Google, as one immutable value."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_tuning_provider.api.endpoints import (
    DEFAULT_UNIVERSE,
    base_url,
    parse_api_endpoint,
    validate_universe_domain,
)
from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.names import validate_location, validate_project
from airflow_tuning_provider.provider_info import CONNECTION_TYPE

if TYPE_CHECKING:
    from airflow.sdk import Connection

DEFAULT_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_DOTTED = r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*"
_PREFIX = "extra__google_cloud_platform__"
# Ways to get credentials that the official connection type has and this provider does not.
_UNSUPPORTED = ("key_secret_name", "idp_issuer_url")


@dataclass(frozen=True)
class ConnectionSettings:
    """The settings of a connection of the type ``google_cloud_platform`` or our own.

    The fields carry the names of the connection's extras. Secrets are kept out of the repr.
    """

    conn_id: str
    project: str | None = None
    location: str | None = None
    api_endpoint: str | None = None
    universe_domain: str = DEFAULT_UNIVERSE
    quota_project_id: str | None = None
    scopes: tuple[str, ...] = DEFAULT_SCOPES
    key_path: str | None = field(default=None, repr=False)
    keyfile_dict: Mapping[str, Any] | None = field(default=None, repr=False)
    credential_config_file: str | Mapping[str, Any] | None = field(default=None, repr=False)
    impersonation_chain: tuple[str, ...] = ()
    num_retries: int | None = None
    is_anonymous: bool = False
    access_token: str | None = field(default=None, repr=False)

    def base_url(self, location: str) -> str:
        """Return the base URL for a location, see :func:`airflow_tuning_provider.api.endpoints.base_url`."""
        return base_url(location, universe_domain=self.universe_domain, api_endpoint=self.api_endpoint)


def settings_from(connection: Connection) -> ConnectionSettings:
    """Read a connection.

    Empty and null extras mean unset, as Airflow's connection form stores every field. The long names that
    old connections have (``extra__google_cloud_platform__project``) are understood too.

    :raises InvalidInputError: naming the extra at fault; the value of a secret is never shown.
    """
    extras = _extras(connection)

    def get(name: str) -> Any:
        value = extras.get(name, extras.get(_PREFIX + name))
        return None if value == "" else value

    for name in _UNSUPPORTED:
        if get(name):
            raise InvalidInputError(
                name, "set", "this provider does not read it; use key_path, keyfile_dict, "
                "credential_config_file or application default credentials"
            )  # fmt: skip
    project, location, endpoint = get("project"), get("location"), get("api_endpoint")
    universe = get("universe_domain") or os.environ.get("GOOGLE_CLOUD_UNIVERSE_DOMAIN") or DEFAULT_UNIVERSE
    quota = get("quota_project_id")
    return ConnectionSettings(
        conn_id=str(connection.conn_id),
        project=None if project is None else validate_project(project, "project"),
        location=None if location is None else validate_location(location),
        api_endpoint=None if endpoint is None else parse_api_endpoint(endpoint),
        universe_domain=validate_universe_domain(universe),
        quota_project_id=None if quota is None else validate_project(quota, "quota_project_id"),
        scopes=_strings(get("scope"), "scope") or DEFAULT_SCOPES,
        key_path=get("key_path"),
        keyfile_dict=_json_object(get("keyfile_dict"), "keyfile_dict"),
        credential_config_file=_config(get("credential_config_file")),
        impersonation_chain=impersonation_chain(get("impersonation_chain")),
        num_retries=_retries(get("num_retries")),
        is_anonymous=str(get("is_anonymous") or "false").lower() in ("true", "1"),
        # The official connection type has no use for its password.
        access_token=_access_token(connection.password) if connection.conn_type == CONNECTION_TYPE else None,
    )


def impersonation_chain(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the service accounts of a chain given as a list or a comma-separated string.

    :raises InvalidInputError: if an entry is not a service account's e-mail address.
    """
    chain = _strings(value, "impersonation_chain")
    for account in chain:
        # The account becomes part of a URL of Google's IAM API. The default account of a project in a domain
        # has dots on both sides: app.example.com@appspot.gserviceaccount.com.
        if len(account) > 320 or not re.fullmatch(rf"{_DOTTED}@[A-Za-z0-9-]+\.{_DOTTED}", account):
            raise InvalidInputError("impersonation_chain", account, "give service accounts' e-mail addresses")
    return chain


def _extras(connection: Connection) -> dict[str, Any]:
    # Not connection.extra_dejson: it asks the supervisor to mask secrets with a blocking call, which must
    # not happen on an event loop; Airflow has masked the connection when it handed it out.
    if not connection.extra:
        return {}
    try:
        extras = json.loads(connection.extra)
    except ValueError:
        extras = None
    if not isinstance(extras, dict):
        raise InvalidInputError(
            "extra", "…", f"the extra of connection {connection.conn_id!r} is not a JSON object"
        )
    return extras


def _access_token(value: str | None) -> str | None:
    token = (value or "").strip()
    # HTTP libraries quote a header that they refuse to send.
    if not re.fullmatch(r"[\x21-\x7e]*", token):
        raise InvalidInputError("password", "…", "an access token is one word of ASCII characters")
    return token or None


def _strings(value: Any, field_name: str) -> tuple[str, ...]:
    if value is None:
        return ()
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
        raise InvalidInputError(field_name, value, "give a comma-separated string or a list of strings")
    return tuple(item.strip() for item in items if item.strip())


def _json_object(value: Any, field_name: str) -> Mapping[str, Any] | None:
    if value is None or isinstance(value, dict):
        return value
    try:
        parsed = json.loads(value)
    except (TypeError, ValueError):
        parsed = None
    if not isinstance(parsed, dict):
        raise InvalidInputError(field_name, "…", "it is not a JSON object")
    return parsed


def _config(value: Any) -> str | Mapping[str, Any] | None:
    if isinstance(value, str) and not value.lstrip().startswith("{"):
        return value
    return _json_object(value, "credential_config_file")


def _retries(value: Any) -> int | None:
    if value is None:
        return None
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = -1
    if number < 0:
        raise InvalidInputError("num_retries", value, "give a whole number, 0 or more")
    return number
