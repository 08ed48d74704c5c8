"""The project in here is a user's: it is run by a pytest of its own."""

from __future__ import annotations

collect_ignore = ["project"]
