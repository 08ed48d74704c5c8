"""Resource names and ids: project numbers, job ids, and where a tuned endpoint lives."""

from __future__ import annotations

import hashlib
import random
import re

_LOWEST_ID = 10**18
# 19 digits, within int64.
_ID_SPAN = 8 * 10**18


def project_number(project: str) -> str:
    """Return a project's number: the number itself, or 12 stable digits derived from the id."""
    if project.isascii() and project.isdigit():
        return project
    digest = int.from_bytes(hashlib.sha256(project.encode()).digest()[:8], "big")
    return str(10**11 + digest % (9 * 10**11))


def new_id() -> str:
    """Return a fresh 19-digit resource id."""
    return str(_LOWEST_ID + random.SystemRandom().randrange(_ID_SPAN))


def derived_id(*parts: str) -> str:
    """Return a 19-digit id that is always the same for the same parts."""
    digest = hashlib.sha256("/".join(parts).encode()).digest()
    return str(_LOWEST_ID + int.from_bytes(digest[:8], "big") % _ID_SPAN)


def model_id(base_model: str) -> str:
    """Return the bare model id of ``publishers/google/models/ID`` or of a plain id."""
    return base_model.rpartition("/")[2]


def in_multi_regions(base_model: str) -> bool:
    """Whether a model, Gemini 3 or later, is served from multi-regions although its jobs are regional."""
    match = re.match(r"gemini-(\d+)", model_id(base_model))
    return match is not None and int(match[1]) >= 3


def is_multi_region(location: str) -> bool:
    """Tell a multi-region from a region."""
    return location in ("us", "eu")


def endpoint_location(location: str, base_model: str) -> str:
    """Return the location of a tuned model's endpoint."""
    if not in_multi_regions(base_model):
        return location
    if location.startswith("europe-"):
        return "eu"
    return "us" if location.startswith(("us-", "northamerica-", "southamerica-")) else location
