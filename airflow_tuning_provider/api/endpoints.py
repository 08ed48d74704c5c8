"""Which host answers for a location; the only place where a base URL comes into being.

Hosts: regional ``{location}-aiplatform.googleapis.com``, ``aiplatform.googleapis.com`` for ``global``,
``aiplatform.{us|eu}.rep.googleapis.com`` for the multi-regions (the ``endpoints`` of the discovery
document), the same below another universe domain, or the connection's own API endpoint.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.names import validate_location

DEFAULT_UNIVERSE = "googleapis.com"
_MULTI_REGIONS = frozenset({"us", "eu"})
_DNS_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# No punycode ("xn--"): parsers disagree on which host it names.
_DNS_NAME = rf"(?=.{{1,253}}$)(?!(?:.*\.)?xn--){_DNS_LABEL}(?:\.{_DNS_LABEL})*"
_PATH_PREFIX = r"(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*/?"


def base_url(
    location: str, *, universe_domain: str = DEFAULT_UNIVERSE, api_endpoint: str | None = None
) -> str:
    """Return the base URL, without a trailing slash, that requests for ``location`` go to.

    :param location: the location inside the resource's name.
    :param universe_domain: the universe's domain, ``googleapis.com`` unless the connection says otherwise.
    :param api_endpoint: the connection's own endpoint; it wins over the location.
    :raises InvalidInputError: if a part could lead the request to a host that nobody chose.
    """
    if api_endpoint:
        return parse_api_endpoint(api_endpoint)
    validate_location(location)
    validate_universe_domain(universe_domain)
    if location == "global":
        return f"https://aiplatform.{universe_domain}"
    if location in _MULTI_REGIONS:
        return f"https://aiplatform.{location}.rep.{universe_domain}"
    return f"https://{location}-aiplatform.{universe_domain}"


def validate_universe_domain(value: object, field: str = "universe_domain") -> str:
    """Return ``value`` if it is a plain lower-case DNS domain.

    :param field: how errors call the value.
    :raises InvalidInputError: if it is anything else.
    """
    if isinstance(value, str) and "." in value and re.fullmatch(_DNS_NAME, value):
        return value
    raise InvalidInputError(field, value, f"give a domain such as '{DEFAULT_UNIVERSE}'")


def parse_api_endpoint(value: object, field: str = "api_endpoint") -> str:
    """Return a connection's API endpoint as a base URL without a trailing slash.

    ``https://host[:port][/prefix]`` or ``host[:port]``; plain ``http`` only for a loopback host, because
    the bearer token would travel in the clear otherwise.

    :param value: the endpoint, as the connection has it.
    :param field: how errors call the value.
    :raises InvalidInputError: for other schemes, credentials, a query or a fragment in the URL.
    """
    expected = "give https://HOST[:PORT] (plain http only for localhost, 127.0.0.0/8 or [::1])"
    if isinstance(value, str) and "@" in value:
        raise InvalidInputError(field, "…", f"{expected}; no user name or password belongs into it")
    if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]{1,1000}", value) or "\\" in value:
        raise InvalidInputError(field, value, expected)
    text = value if "://" in value else f"https://{value}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise InvalidInputError(field, value, expected) from None
    host = (parts.hostname or "").lower()
    if (
        parts.scheme not in ("https", "http")
        or any(mark in text for mark in "?#%")
        or not re.fullmatch(_PATH_PREFIX, parts.path)
        or not (_is_ip(host) or re.fullmatch(_DNS_NAME, host))
        or host in ("http", "https")  # from "https:/host": a slash is missing
        or (parts.scheme == "http" and not is_loopback(host))
    ):
        raise InvalidInputError(field, value, expected)
    netloc = f"[{host}]" if ":" in host else host
    if port is not None:
        netloc = f"{netloc}:{port}"
    # urlsplit drops what follows "]", among other things.
    if netloc != parts.netloc.lower().removesuffix(":"):
        raise InvalidInputError(field, value, expected)
    return f"{parts.scheme}://{netloc}{parts.path.rstrip('/')}"


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
