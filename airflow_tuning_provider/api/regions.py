"""Locations that Google is known to serve Vertex AI in: a hint for who misspells one, never a reason to refuse one."""

from __future__ import annotations

from difflib import get_close_matches

KNOWN = frozenset(
    """
    africa-south1 asia-east1 asia-east2 asia-northeast1 asia-northeast2 asia-northeast3 asia-south1 asia-south2
    asia-southeast1 asia-southeast2 asia-southeast3 australia-southeast1 australia-southeast2 eu europe-central2
    europe-north1 europe-north2 europe-southwest1 europe-west1 europe-west10 europe-west12 europe-west15 europe-west2
    europe-west3 europe-west4 europe-west6 europe-west8 europe-west9 global me-central1 me-central2 me-west1
    northamerica-northeast1 northamerica-northeast2 southamerica-east1 southamerica-west1 us us-central1 us-central2
    us-east1 us-east4 us-east5 us-east7 us-south1 us-west1 us-west2 us-west3 us-west4 us-west8
    """.split()  # noqa: SIM905
)
"""The ``endpoints`` of the discovery document, revision 20261106, and ``global``."""


def hint(location: str) -> str | None:
    """Say of an unknown location what it may have been meant to be, ``None`` of a known one.

    :param location: what was given as a location.
    """
    if location in KNOWN:
        return None
    near = get_close_matches(location, sorted(KNOWN), n=3, cutoff=0.75)
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"{location!r} is no location of Vertex AI that this provider knows.{meant}"
