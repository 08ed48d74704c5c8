"""Pages of a list: their size, and the token that leads from one to the next."""

from __future__ import annotations

import base64
import hashlib
import json

from airflow_tuning_provider.emulator.errors import ApiError, invalid_argument

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000

# A job's place in the list: when it was created, and its number among all jobs.
Place = tuple[float, int]


def page_size(text: str) -> int:
    """Return the size that a request asks for, within the limits."""
    try:
        size = int(text or 0)
    except ValueError as e:
        raise invalid_argument(f"Invalid value at 'page_size' (TYPE_INT32), \"{text}\"") from e
    if size < 0:
        raise invalid_argument(f"page_size must not be negative, got {size}.")
    return min(size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def page_token(last: Place, filter_text: str) -> str:
    """Return the token for the page after a job."""
    token = json.dumps([*last, _filter_hash(filter_text)]).encode()
    return base64.urlsafe_b64encode(token).decode().rstrip("=")


def read_page_token(token: str, filter_text: str) -> Place | None:
    """Return the place that a token stands for; None where there is no token."""
    if not token:
        return None
    try:
        created, sequence, hashed = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, TypeError) as e:
        raise _bad_page_token() from e
    numbers = isinstance(created, (int, float)) and isinstance(sequence, int)
    if not numbers or hashed != _filter_hash(filter_text):
        raise _bad_page_token()
    return created, sequence


def _filter_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _bad_page_token() -> ApiError:
    return invalid_argument("The page token is invalid, or belongs to a request with another filter.")
