"""A second memory beside the labels: what Airflow 3.3 keeps of a task instance over its attempts and clears.

Labels find a job only where they are looked for. The memory also knows the name of a job in another project or
location, created under another deployment's name, or not yet listed. Airflow 3.1 and 3.2 have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEY = "tuning_job"


class Memory:
    """What the attempts before this one left behind.

    :param store: Airflow's ``task_state_store``, ``None`` where there is none.
    """

    def __init__(self, store: Any, log: Any) -> None:
        self._store = store
        self._log = log
        self._kept = self._read()

    @property
    def name(self) -> str | None:
        """The job, or the operation, of an earlier attempt."""
        return self._text("name")

    @property
    def parent(self) -> str | None:
        """``projects/…/locations/…`` as it was asked for when that job was created."""
        return self._text("parent")

    @property
    def max_tries(self) -> int | None:
        """``max_tries`` of the attempt that created or joined it."""
        value = self._kept.get("max_tries")
        return value if isinstance(value, int) else None

    @property
    def sent(self) -> float | None:
        """When a create was sent of whose answer nothing is known, in epoch seconds."""
        value = self._kept.get("sent")
        return float(value) if isinstance(value, (int, float)) else None

    @property
    def sent_by(self) -> int | None:
        """``max_tries`` of the attempt that sent it."""
        value = self._kept.get("sent_by")
        return value if isinstance(value, int) else None

    @property
    def doubt(self) -> bool:
        """Whether there may be a job that nobody knows the name of: one create has never been answered."""
        return self._kept.get("doubt") is True

    @property
    def over(self) -> bool:
        """Whether that attempt ended the task for good, so that no automatic retry follows it."""
        return self._kept.get("over") is True

    @property
    def blind(self) -> tuple[float, float] | None:
        """Since when, and when last, a rescheduled sensor could not see its job, in epoch seconds."""
        value = self._kept.get("blind")
        if not isinstance(value, list) or len(value) != 2:
            return None
        since, last = value
        return (float(since), float(last)) if isinstance(since, float) and isinstance(last, float) else None

    def remember(self, **what: Any) -> None:
        """Keep something, ``None`` to forget it; a store that fails is done without."""
        self._kept = {key: item for key, item in {**self._kept, **what}.items() if item is not None}
        if self._store is None:
            return
        try:
            self._store.set(KEY, self._kept)
        except Exception as error:  # noqa: BLE001 - the labels do without it
            self._log.info("Airflow's task state store took no note of the tuning job: %s", error)

    def _read(self) -> dict[str, Any]:
        if self._store is None:
            return {}
        try:
            kept = self._store.get(KEY)
        except Exception as error:  # noqa: BLE001
            self._log.info("Airflow's task state store could not be read: %s", error)
            return {}
        return dict(kept) if isinstance(kept, Mapping) else {}

    def _text(self, key: str) -> str | None:
        value = self._kept.get(key)
        return value if isinstance(value, str) and value else None
