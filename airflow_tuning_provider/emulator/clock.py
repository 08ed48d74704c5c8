"""Times as the API writes and reads them: RFC 3339, UTC, microseconds."""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)?")


def now() -> float:
    """Return the wall-clock time in epoch seconds; jobs must survive a restart, so not a monotonic one."""
    return time.time()


def rfc3339(seconds: float) -> str:
    """Format epoch seconds as the API does."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="microseconds")[:-6] + "Z"


def parse_rfc3339(text: str) -> float:
    """Parse a time; a missing offset means UTC. Raise ValueError for anything else."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        # A bare date is what people type into filters.
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=timezone.utc).timestamp()
    date, clock, fraction, offset = match.groups()
    micros = (fraction or ".0")[1:7].ljust(6, "0")
    zone = "+00:00" if offset in (None, "Z", "z") else offset
    return datetime.fromisoformat(f"{date}T{clock}.{micros}{zone}").timestamp()
