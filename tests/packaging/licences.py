"""Lists the licences of what the package depends on, without its extras; fails where one may not be depended on.

The Apache License lets code be used with the permissive licences, and link to MPL's and LGPL's.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement

PACKAGE = "airflow-tuning-provider"
ALLOWED = re.compile(
    r"apache|\bmit\b|bsd|isc|python software|psf|mpl|mozilla|lgpl|lesser|zpl|unlicense|artistic",
    re.IGNORECASE,
)
REFUSED = re.compile(r"\bagpl|affero|(?<!l)gpl|(?<!lesser )general public", re.IGNORECASE)


def closure(name: str, extras: frozenset[str] = frozenset(), seen: set[str] | None = None) -> Iterator[str]:
    """Yield the names of a package and of all that it needs on this Python."""
    seen = set() if seen is None else seen
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in seen:
        return
    seen.add(key)
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return  # a marker left it out
    yield key
    for line in found.requires or []:
        needed = Requirement(line)
        environments = [{"extra": extra} for extra in extras or {""}]
        if needed.marker is None or any(needed.marker.evaluate(one) for one in environments):
            yield from closure(needed.name, frozenset(needed.extras), seen)


def licence(found: Distribution) -> str:
    """Return what a package says about its licence."""
    data = found.metadata
    classifiers = [
        c.rpartition(" :: ")[2] for c in data.get_all("Classifier") or [] if c.startswith("License")
    ]
    first = (data.get("License") or "").strip().split("\n")[0][:60]
    return data.get("License-Expression") or ", ".join(classifiers) or first


def main() -> int:
    """Print the list; with ``--pins``, names and versions only, as a requirements file."""
    bad = []
    for name in sorted(closure(PACKAGE)):
        found = distribution(name)
        if "--pins" in sys.argv:
            print(f"{name}=={found.version}")
            continue
        text = licence(found)
        print(f"{name:<45} {found.version:<18} {text or '?'}")
        # One of several, joined by OR, is enough.
        choices = re.split(r"\bOR\b|, ", text)
        if not any(ALLOWED.search(choice) and not REFUSED.search(choice) for choice in choices):
            bad.append(f"{name}: {text or 'says nothing'}")
    for line in bad:
        print(f"not to be depended on: {line}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
