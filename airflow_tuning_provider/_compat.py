"""Every import that differs between the supported versions of Airflow."""

from __future__ import annotations

from typing import Any

try:
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSensorTimeout,
        AirflowSkipException,
        TaskDeferralError,
        TaskDeferralTimeout,
    )
except ImportError:  # Airflow 3.1 keeps them in the core package only
    from airflow.exceptions import (  # type: ignore[no-redef, attr-defined]
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSensorTimeout,
        AirflowSkipException,
        TaskDeferralError,
        TaskDeferralTimeout,
    )

__all__ = [
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "TaskDeferralError",
    "TaskDeferralTimeout",
    "configuration",
    "newest_events",
    "team_of",
]


def configuration(section: str, key: str) -> str:
    """Return an option of Airflow's configuration, empty if it is not set."""
    try:
        from airflow.sdk.configuration import conf
    except ImportError:  # Airflow 3.1
        from airflow.configuration import conf

    return conf.get(section, key, fallback="") or ""


def newest_events(context: Any, asset: Any, limit: int) -> list[Any]:
    """Return the extras of an asset's events, the last one first; the asset is among the task's inlets.

    :param context: the task's context.
    :param limit: how many to return at most.
    """
    from airflow.sdk.exceptions import AirflowRuntimeError

    accessors: Any = context["inlet_events"]
    try:
        events = accessors[asset]
    except KeyError:  # a mapped task, whose inlets were read before the task was made
        events = type(accessors)([asset])[asset]
    if hasattr(events, "ascending") and hasattr(events, "limit"):
        events = events.ascending(False).limit(limit)
    try:
        found = sorted(events, key=lambda event: (event.timestamp, event.id), reverse=True)
    except AirflowRuntimeError as error:
        if "NOT_FOUND" in str(error.error.error).upper():
            return []  # nobody has told of it yet
        raise
    return [event.extra for event in found[:limit]]


def team_of(model: type, key: str) -> dict[str, str]:
    """Return the team of a DAG or a connection as the auth manager's details take it; Airflow 3.1 has no teams."""
    of = getattr(model, "get_team_name", None)
    team = of(key) if of else None
    return {"team_name": team} if team else {}
