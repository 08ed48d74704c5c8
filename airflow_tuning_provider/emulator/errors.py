"""Google's error envelope, and the errors that this server gives."""

from __future__ import annotations

from typing import Any

# google.rpc.Code by name: (number, the HTTP status that Google maps it to).
CODES: dict[str, tuple[int, int]] = {
    "OK": (0, 200),
    "CANCELLED": (1, 499),
    "UNKNOWN": (2, 500),
    "INVALID_ARGUMENT": (3, 400),
    "DEADLINE_EXCEEDED": (4, 504),
    "NOT_FOUND": (5, 404),
    "ALREADY_EXISTS": (6, 409),
    "PERMISSION_DENIED": (7, 403),
    "RESOURCE_EXHAUSTED": (8, 429),
    "FAILED_PRECONDITION": (9, 400),
    "ABORTED": (10, 409),
    "OUT_OF_RANGE": (11, 400),
    "UNIMPLEMENTED": (12, 501),
    "INTERNAL": (13, 500),
    "UNAVAILABLE": (14, 503),
    "DATA_LOSS": (15, 500),
    "UNAUTHENTICATED": (16, 401),
}

_STATUS_OF_HTTP = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

_TYPE = "type.googleapis.com/google.rpc."
_AUTH_HELP = (
    "Expected OAuth 2 access token, login cookie or other valid authentication credential. "
    "See https://developers.google.com/identity/sign-in/web/devconsole-project."
)


def status_of_http(http: int) -> str:
    """Return the canonical status name that goes with an HTTP status."""
    return _STATUS_OF_HTTP.get(http, "INTERNAL" if http >= 500 else "UNKNOWN")


def envelope(
    http: int, status: str, message: str, details: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Build the JSON body of an error response."""
    error: dict[str, Any] = {"code": http, "message": message, "status": status}
    if details:
        error["details"] = details
    return {"error": error}


class ApiError(Exception):
    """An API call is refused; knows its own response."""

    def __init__(
        self,
        status: str,
        message: str,
        details: list[dict[str, Any]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.details = details or []
        self.headers = headers or {}
        self.http = CODES[status][1]

    def body(self) -> dict[str, Any]:
        """Return the response body in Google's envelope."""
        return envelope(self.http, self.status, self.message, self.details)

    def rpc_status(self) -> dict[str, Any]:
        """Return the error as a google.rpc.Status, the form that jobs and operations carry."""
        return {"code": CODES[self.status][0], "message": self.message}


def bad_request(violations: list[tuple[str, str]], message: str | None = None) -> ApiError:
    """Refuse a request for the given (field, description) violations."""
    text = message if message is not None else "\n".join(description for _, description in violations)
    detail = {
        "@type": _TYPE + "BadRequest",
        "fieldViolations": [
            {"field": field, "description": description} if field else {"description": description}
            for field, description in violations
        ],
    }
    return ApiError("INVALID_ARGUMENT", text, [detail])


def found_errors(violations: list[tuple[str, str]]) -> ApiError:
    """Refuse a resource in the words of Vertex AI's own validation (as opposed to the JSON parser's)."""
    listed = "".join(
        f"{i}.Field: {field}; Message: {text}\t" for i, (field, text) in enumerate(violations, 1)
    )
    return bad_request(violations, f"List of found errors:\t{listed}")


def invalid_argument(message: str) -> ApiError:
    """Refuse a request with a plain message."""
    return ApiError("INVALID_ARGUMENT", message)


def not_found(message: str) -> ApiError:
    """Say that a resource does not exist."""
    return ApiError("NOT_FOUND", message)


def failed_precondition(message: str) -> ApiError:
    """Say that a resource is in the wrong state. Google answers 400, not 412."""
    return ApiError("FAILED_PRECONDITION", message)


def quota_exceeded(metric: str, retry_delay: float) -> ApiError:
    """Refuse a request over quota, with a hint when to come again."""
    return ApiError(
        "RESOURCE_EXHAUSTED",
        f"The following quota metrics exceed quota limits: {metric}",
        [{"@type": _TYPE + "RetryInfo", "retryDelay": f"{retry_delay:g}s"}],
    )


def unauthenticated(reason: str) -> ApiError:
    """Refuse a request for its credentials; the reason is an ErrorInfo reason."""
    missing = reason == "CREDENTIALS_MISSING"
    opening = (
        "Request is missing required authentication credential. "
        if missing
        else "Request had invalid authentication credentials. "
    )
    realm = 'Bearer realm="https://accounts.google.com/"'
    return ApiError(
        "UNAUTHENTICATED",
        opening + _AUTH_HELP,
        [
            {
                "@type": _TYPE + "ErrorInfo",
                "reason": reason,
                "domain": "googleapis.com",
                "metadata": {"service": "aiplatform.googleapis.com"},
            }
        ],
        {"WWW-Authenticate": realm if missing else realm + ', error="invalid_token"'},
    )
