"""Airflow's simple auth manager with DAGs of two teams: who is not an admin sees nothing of the other's."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager


class TwoTeams(SimpleAuthManager):
    """Only the admin may read or change the other team's DAGs."""

    theirs = frozenset({"theirs_weekly", "Shared.Weekly"})

    def is_authorized_dag(self, *, user: Any, details: Any = None, **rest: Any) -> bool:
        """Ask the simple auth manager, unless the DAG is of the other team."""
        if details is not None and details.id in self.theirs and str(user.role).lower() != "admin":
            return False
        return bool(super().is_authorized_dag(user=user, details=details, **rest))
