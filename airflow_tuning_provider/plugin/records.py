"""What Airflow's database says of tuning jobs: where runs create them, which task instance did; and its audit log."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow.models.connection import Connection
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.log import Log
from airflow.models.renderedtifields import RenderedTaskInstanceFields as Rendered
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import and_, select

from airflow_tuning_provider.api.identity import (
    KEY_LABEL,
    RUN_LABEL,
    TaskIdentity,
    label_value,
    labels_of,
)
from airflow_tuning_provider.links.tuning_job import TuningJobLink
from airflow_tuning_provider.plugin.google import Place
from airflow_tuning_provider.plugin.ownership import Owners, by_label, dags_of
from airflow_tuning_provider.provider_info import CONNECTION_TYPE

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser

_REMEMBERED_SECONDS = 20.0
_PLACES_SINCE = timedelta(days=90)
_MOST_XCOMS = 1000
_MOST_RUNS = 10_000
_JOB_URL = re.compile(r"/locations/([^/]+)/tuning/tuningJob/([^?\"]+)\?project=([^&\"]+)")
_CONNECTION_TYPES = (CONNECTION_TYPE, "google_cloud_platform")


@dataclass(frozen=True)
class Use:
    """A place where a run of a DAG has a job."""

    place: Place
    dag_id: str
    at: float


@dataclass(frozen=True)
class Creator:
    """The task instance that created a job."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    state: str | None


class Records:
    """Reads of Airflow's database, some remembered for seconds: they are the same for every user."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owners: tuple[float, Owners] = (float("-inf"), {})
        self._uses: tuple[float, list[Use]] = (float("-inf"), [])

    def owners(self) -> Owners:
        """Return this Airflow's DAGs by label value, also those that are gone from their files."""
        with self._lock:
            if time.monotonic() - self._owners[0] > _REMEMBERED_SECONDS:
                with create_session() as session:
                    ids = [str(dag_id) for dag_id in session.scalars(select(DagModel.dag_id))]
                self._owners = (time.monotonic(), by_label(ids))
            return self._owners[1]

    def uses(self) -> list[Use]:
        """Return where runs of DAGs have had jobs of late, the last first."""
        with self._lock:
            if time.monotonic() - self._uses[0] > _REMEMBERED_SECONDS:
                self._uses = (time.monotonic(), _uses())
            return self._uses[1]


def _uses() -> list[Use]:
    same = and_(
        Rendered.dag_id == XComModel.dag_id,
        Rendered.run_id == XComModel.run_id,
        Rendered.task_id == XComModel.task_id,
        Rendered.map_index == XComModel.map_index,
    )
    query = (
        select(XComModel.dag_id, XComModel.value, XComModel.timestamp, Rendered.rendered_fields)
        .join(Rendered, same)
        .where(
            XComModel.key == TuningJobLink.key,
            XComModel.timestamp > datetime.now(timezone.utc) - _PLACES_SINCE,
        )
        .order_by(XComModel.timestamp.desc())
        .limit(_MOST_XCOMS)
    )
    with create_session() as session:
        rows = session.execute(query).all()
    found: dict[tuple[Place, str], Use] = {}
    for dag_id, value, timestamp, fields in rows:
        url = _JOB_URL.search(str(value))
        connection = fields.get("gcp_conn_id") if isinstance(fields, Mapping) else None
        if url and isinstance(connection, str) and connection:
            place = Place(connection, url[3], url[1])
            found.setdefault((place, str(dag_id)), Use(place, str(dag_id), timestamp.timestamp()))
    return list(found.values())


def connection_ids() -> list[str]:
    """Return the ids of the connections to Google that are kept in the database."""
    query = select(Connection.conn_id).where(Connection.conn_type.in_(_CONNECTION_TYPES))
    with create_session() as session:
        return sorted(str(conn_id) for conn_id in session.scalars(query))


def creators(jobs: Iterable[Mapping[str, Any]], owners: Owners, deployment: str) -> dict[str, Creator]:
    """Return the task instances that created jobs, by key label; those that are gone are left out.

    The readable labels only narrow the search: a task instance is a job's if its key is.
    """
    dag_ids: set[str] = set()
    run_labels: set[Any] = set()
    keys: set[Any] = set()
    for job in jobs:
        if ids := dags_of(job, owners, deployment):
            dag_ids |= ids
            run_labels.add(labels_of(job).get(RUN_LABEL))
            keys.add(labels_of(job).get(KEY_LABEL))
    if not dag_ids:
        return {}
    runs = (
        select(DagRun.dag_id, DagRun.run_id)
        .where(DagRun.dag_id.in_(dag_ids))
        .order_by(DagRun.id.desc())
        .limit(_MOST_RUNS)
    )
    with create_session() as session:
        wanted = {run_id for _, run_id in session.execute(runs) if label_value(run_id) in run_labels}
        instances = select(
            TaskInstance.dag_id,
            TaskInstance.run_id,
            TaskInstance.task_id,
            TaskInstance.map_index,
            TaskInstance.state,
        ).where(TaskInstance.dag_id.in_(dag_ids), TaskInstance.run_id.in_(wanted))
        rows = session.execute(instances).all() if wanted else []
    found = {}
    for dag_id, run_id, task_id, map_index, state in rows:
        key = TaskIdentity(dag_id, run_id, task_id, map_index, deployment).key
        if key in keys:
            found[key] = Creator(dag_id, run_id, task_id, map_index, None if state is None else str(state))
    return found


def write_audit(
    user: BaseUser,
    event: str,
    details: Mapping[str, Any],
    creator: Creator | None,
    dag_ids: Iterable[str] = (),
) -> None:
    """Write into Airflow's audit log what a user is about to do.

    :param event: what, such as ``tuning_jobs.cancel``.
    :param details: about what.
    :param creator: the task instance concerned, where it is known.
    :param dag_ids: the DAGs concerned, where it is not.
    """
    where: dict[str, Any] = {}
    if creator is not None:
        where = {
            "dag_id": creator.dag_id,
            "run_id": creator.run_id,
            "task_id": creator.task_id,
            "map_index": creator.map_index,
        }
    elif dag_id := next(iter(sorted(dag_ids)), None):
        where = {"dag_id": dag_id}
    name = user.get_name()
    with create_session() as session:
        session.add(
            Log(event=event, owner=name, owner_display_name=name, extra=json.dumps(dict(details)), **where)
        )
