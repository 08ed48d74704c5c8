"""What went wrong with a call, in one immutable value.

Google's error envelope is ``{"error": {"code", "message", "status", "details": [...]}}``
(https://cloud.google.com/apis/design/errors); proxies and load balancers answer with anything else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timezone
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any

from airflow_tuning_provider.api.inputs import as_mapping, parse_json, shorten

_SHOWN_VIOLATIONS = 20

# ErrorInfo.reason: https://github.com/googleapis/googleapis/blob/master/google/api/error_reason.proto
_DISABLED = {
    "SERVICE_DISABLED": "Enable the API, wait a few minutes, then try again",
    "BILLING_DISABLED": "Enable billing for the project, wait a few minutes, then try again",
}

# TuningJob's fields and specs that the discovery document of v1beta1 has and that of v1 has not.
ONLY_V1BETA1 = frozenset(
    {
        "customBaseModel",
        "distillationSpec",
        "fullFineTuningSpec",
        "outputUri",
        "partnerModelTuningSpec",
        "reinforcementTuningSpec",
        "tuningMode",
        "veoLoraTuningSpec",
        "veoTuningSpec",
    }
)
"""What a request body can hold in ``v1beta1`` only."""


class ErrorKind(Enum):
    """The decisions a failed call leaves to its caller."""

    BAD_REQUEST = "bad_request"
    UNAUTHENTICATED = "unauthenticated"
    NOT_PERMITTED = "not_permitted"
    NOT_FOUND = "not_found"
    QUOTA = "quota"
    UNAVAILABLE = "unavailable"
    BAD_RESPONSE = "bad_response"

    @property
    def transient(self) -> bool:
        """Whether the same call may succeed later without anybody changing anything."""
        return self in (ErrorKind.QUOTA, ErrorKind.UNAVAILABLE, ErrorKind.BAD_RESPONSE)

    @property
    def refusal(self) -> bool:
        """Whether it was this caller who was refused: another key or account may be let in."""
        return self in (ErrorKind.UNAUTHENTICATED, ErrorKind.NOT_PERMITTED)


@dataclass(frozen=True)
class FieldViolation:
    """One entry of ``BadRequest.fieldViolations``."""

    field: str
    description: str


@dataclass(frozen=True)
class ApiError:
    """A failed call.

    :param kind: what the caller can decide on.
    :param message: the API's own words, or what happened to the connection.
    :param http_status: the HTTP status, ``None`` if no whole answer arrived.
    :param status: the canonical status such as ``PERMISSION_DENIED``.
    :param reason: ``ErrorInfo.reason``, if given.
    :param field_violations: every field that the API refused.
    :param retry_after: seconds that the server asked to wait.
    :param sent: whether the request may have reached the server; ``False`` makes any call safe to repeat.
    :param advice: what to do about it, ``None`` where its kind says all that is known.
    """

    kind: ErrorKind
    message: str
    http_status: int | None = None
    status: str | None = None
    reason: str | None = None
    field_violations: tuple[FieldViolation, ...] = field(default=())
    retry_after: float | None = None
    sent: bool = True
    advice: str | None = None

    @property
    def disabled(self) -> bool:
        """Whether the API, or the project's billing, is switched off: no role helps."""
        return self.reason in _DISABLED

    def __str__(self) -> str:
        head = " ".join(str(part) for part in (self.http_status, self.status) if part)
        text = f"{head}: {self.message}" if head else self.message
        shown = self.field_violations[:_SHOWN_VIOLATIONS]
        listed = "".join(f"\n  {item.field}: {item.description}" for item in shown)
        more = len(self.field_violations) - len(shown)
        return text + listed + (f"\n  and {more} more" if more else "")


_KINDS = {
    400: ErrorKind.BAD_REQUEST,
    401: ErrorKind.UNAUTHENTICATED,
    403: ErrorKind.NOT_PERMITTED,
    404: ErrorKind.NOT_FOUND,
    408: ErrorKind.UNAVAILABLE,
    429: ErrorKind.QUOTA,
    499: ErrorKind.UNAVAILABLE,  # CANCELLED: the server gave the call up, nobody refused it
}

_FOREIGN_KINDS = {403: ErrorKind.UNAVAILABLE, 404: ErrorKind.BAD_REQUEST, 429: ErrorKind.UNAVAILABLE}


def kind_of_status(http_status: int) -> ErrorKind:
    """Classify an HTTP status.

    :param http_status: a status that is not a success.
    """
    if http_status in _KINDS:
        return _KINDS[http_status]
    if http_status >= 500:
        return ErrorKind.UNAVAILABLE
    return ErrorKind.BAD_REQUEST if 400 <= http_status < 500 else ErrorKind.BAD_RESPONSE


def parse_error(http_status: int, headers: Mapping[str, str], content: bytes, *, now: float) -> ApiError:
    """Read an error answer.

    :param http_status: the HTTP status, not a success.
    :param headers: the answer's headers.
    :param content: the answer's body; need not be JSON.
    :param now: the current time in epoch seconds, for a ``Retry-After`` that is a date.
    """
    if 300 <= http_status < 400:
        return ApiError(
            ErrorKind.BAD_REQUEST,
            f"the server answered with a redirect (HTTP {http_status}), which is not followed: "
            "the token goes only to the configured host. Check the API endpoint of the connection.",
            http_status=http_status,
        )
    retry_after = parse_retry_after(_header(headers, "retry-after"), now)
    envelope = _envelope(content)
    if envelope is None:
        # Whoever said so was not the API: 404 does not say that the resource is gone, nor 429 that a create was
        # refused for lack of quota.
        kind = _FOREIGN_KINDS.get(http_status, kind_of_status(http_status))
        hint = ". Check the location, and the API endpoint of the connection" if http_status == 404 else ""
        return ApiError(
            kind,
            f"the server answered HTTP {http_status} without Google's error envelope: "
            f"{_excerpt(content)}{hint}",
            http_status=http_status,
            retry_after=retry_after,
        )
    details = [item for item in _list(envelope.get("details")) if isinstance(item, Mapping)]
    violations = tuple(
        FieldViolation(shorten(_text(item.get("field"))), shorten(_text(item.get("description")), 1000))
        for detail in details
        for item in _list(detail.get("fieldViolations"))
        if isinstance(item, Mapping)
    )
    delays = (_duration(detail.get("retryDelay")) for detail in details)
    reasons = (_text(detail.get("reason")) for detail in details)
    message = _text(envelope.get("message")) or "the API gave no message"
    reason = next((reason for reason in reasons if reason), None)
    return ApiError(
        kind_of_status(http_status),
        shorten(message, 4000),
        http_status=http_status,
        status=_text(envelope.get("status")) or None,
        reason=reason,
        field_violations=violations,
        retry_after=next((delay for delay in delays if delay is not None), retry_after),
        advice=_advice(reason, message, details),
    )


def _advice(reason: str | None, message: str, details: list[Mapping[str, Any]]) -> str | None:
    if reason in _DISABLED:
        link = _link(details)
        return f"{_DISABLED[reason]}: {link}" if link and link not in message else f"{_DISABLED[reason]}."
    unknown = re.search(r'Unknown name \\?"([A-Za-z]{1,60})\\?"', message)
    if unknown and unknown[1] in ONLY_V1BETA1:
        return f"Only v1beta1 of the API knows {unknown[1]}: give api_version='v1beta1'."
    return None


def _link(details: list[Mapping[str, Any]]) -> str | None:
    """Return the page where Google says that this can be mended: ErrorInfo's, or the first of Help."""
    urls = [as_mapping(detail.get("metadata")).get("activationUrl") for detail in details]
    urls += [as_mapping(link).get("url") for detail in details for link in _list(detail.get("links"))]
    return next(
        (shorten(url, 500) for url in urls if isinstance(url, str) and url.startswith("https://")), None
    )


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for, ``None`` if it asks for nothing sensible.

    :param value: the header: a number, or an HTTP date.
    :param now: the current time in epoch seconds.
    """
    if not value:
        return None
    if re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", value.strip()):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    # An HTTP date is in GMT even where its form names no zone (RFC 9110, 5.6.7).
    aware = date if date.tzinfo else date.replace(tzinfo=timezone.utc)
    return max(0.0, aware.timestamp() - now)


def _duration(value: object) -> float | None:
    """Return the seconds of a protobuf duration in JSON, such as ``"3.5s"``."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s", value) if isinstance(value, str) else None
    return float(match[1]) if match else None


def _envelope(content: bytes) -> Mapping[str, Any] | None:
    try:
        payload = parse_json(content)
    except (ValueError, RecursionError):
        return None
    envelope = payload.get("error") if isinstance(payload, dict) else None
    return envelope if isinstance(envelope, dict) else None


def _header(headers: Mapping[str, str], name: str) -> str | None:
    return next((value for key, value in headers.items() if key.lower() == name), None)


def _excerpt(content: bytes) -> str:
    text = content[:400].decode("utf-8", errors="replace")
    return repr(shorten(" ".join(text.split()), 160)) if text.strip() else "an empty body"


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
