"""What one user may do, by Airflow's own auth manager, whichever that is. Asks the database: not for an event loop."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import (
    ConnectionDetails,
    DagAccessEntity,
    DagDetails,
)
from airflow.models.connection import Connection
from airflow.models.dag import DagModel

from airflow_tuning_provider._compat import team_of

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser


class Access:
    """The rights of one user for the time of one request: each is asked for once.

    :param user: who Airflow says is asking.
    """

    def __init__(self, user: BaseUser) -> None:
        self.user = user
        self._known: dict[tuple[str, ...], bool] = {}

    @cached_property
    def readable_dags(self) -> frozenset[str]:
        """The ids of the DAGs that the user may read."""
        return frozenset(get_auth_manager().get_authorized_dag_ids(user=self.user, method="GET"))

    def may_read_dags(self, dag_ids: frozenset[str]) -> bool:
        """Whether the user may read these DAGs, all of them."""
        return dag_ids <= self.readable_dags

    def may_act_on_dags(self, dag_ids: frozenset[str]) -> bool:
        """Whether the user may set the state of these DAGs' task instances: what *Mark as failed* needs."""
        return all(self._once("act", dag_id) for dag_id in dag_ids)

    def may_read_connection(self, conn_id: str) -> bool:
        """Whether the user may read this connection."""
        return self._once("GET", conn_id)

    def may_edit_connection(self, conn_id: str) -> bool:
        """Whether the user may change this connection: who may, could cancel any job with it."""
        return self._once("PUT", conn_id)

    def may_see(self, dag_ids: frozenset[str], conn_id: str) -> bool:
        """Whether a job of these DAGs, or of none, that a connection reaches may be shown."""
        return self.may_read_dags(dag_ids) if dag_ids else self.may_read_connection(conn_id)

    def may_cancel(self, dag_ids: frozenset[str], conn_id: str) -> bool:
        """Whether such a job may be cancelled."""
        return self.may_act_on_dags(dag_ids) if dag_ids else self.may_edit_connection(conn_id)

    def _once(self, right: str, what: str) -> bool:
        key = (right, what)
        if key not in self._known:
            self._known[key] = self._ask_dag(what) if right == "act" else self._ask_connection(right, what)
        return self._known[key]

    def _ask_dag(self, dag_id: str) -> bool:
        details: dict[str, Any] = {"id": dag_id, **team_of(DagModel, dag_id)}
        return get_auth_manager().is_authorized_dag(
            method="PUT",
            access_entity=DagAccessEntity.TASK_INSTANCE,
            details=DagDetails(**details),
            user=self.user,
        )

    def _ask_connection(self, method: ResourceMethod | str, conn_id: str) -> bool:
        details: dict[str, Any] = {"conn_id": conn_id, **team_of(Connection, conn_id)}
        return get_auth_manager().is_authorized_connection(
            method=method,  # type: ignore[arg-type]
            details=ConnectionDetails(**details),
            user=self.user,
        )
