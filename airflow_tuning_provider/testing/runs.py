"""Runs a DAG in this process, as ``dag.test()`` does, and tells what came of it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Run:
    """A run that has ended.

    :param state: the run's state, such as ``success``.
    :param run_id: its id.
    :param tasks: the state of each task; of a mapped one by ``task[0]``, ``task[1]`` and so on.
    :param tries: in the same way the attempts that each took.
    :param names: the names that mapped ones have by ``map_index_template``.
    """

    state: str
    run_id: str
    tasks: dict[str, str]
    tries: dict[str, int]
    names: dict[str, str]
    _xcoms: dict[tuple[str, str], Any] = field(repr=False)
    _runner: DagRunner = field(repr=False)
    _again: dict[str, Any] = field(repr=False)

    def xcom(self, task: str, key: str = "return_value") -> Any:
        """Return what a task pushed, or None.

        :param task: the task's name, as in ``tasks``.
        """
        return self._xcoms.get((task, key))

    def clear(self) -> Run:
        """Run all tasks of this run once more, and return what came of that.

        It is the same run to this provider: the same DAG, run id, task and map index. What succeeded returns its
        model at no cost; what failed creates a new job. (Airflow's ``dag.test()`` makes the run anew under its old
        id, so that attempts are counted from 1.)
        """
        return self._runner(**self._again)


class DagRunner:
    """Runs the DAGs of a folder.

    :param folder: the DAGs folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last = datetime(2026, 1, 1, tzinfo=timezone.utc)

    def __call__(
        self, dag_id: str, conf: dict[str, Any] | None = None, *, logical_date: datetime | None = None
    ) -> Run:
        """Run a DAG to its end; each call is a run of its own, unless it names the date of an earlier one.

        :param dag_id: the DAG; its file is read anew.
        :param conf: the run's configuration, such as values of its params.
        :param logical_date: the run's date; by default another one for each call.
        """
        dag = self.load(dag_id)
        if logical_date is None:
            self._last += timedelta(days=1)
            logical_date = self._last
        # The run's id is made of the second of them.
        run = dag.test(logical_date=logical_date, run_after=logical_date, run_conf=conf)
        instances = {_name(one): one for one in run.get_task_instances()}
        xcoms = {(name, row.key): row.value for name, one in instances.items() for row in _pushed(one)}
        return Run(
            str(run.state),
            run.run_id,
            {name: str(one.state) for name, one in instances.items()},
            {name: int(one.try_number) for name, one in instances.items()},
            {name: one.rendered_map_index for name, one in instances.items() if one.rendered_map_index},
            xcoms,
            self,
            {"dag_id": dag_id, "conf": conf, "logical_date": logical_date},
        )

    def load(self, dag_id: str) -> Any:
        """Return a DAG from its file.

        :raises LookupError: if the folder has none of that id; the error names the files that cannot be imported.
        """
        bag = _dag_bag(self._folder)
        if dag_id in bag.dags:
            return bag.dags[dag_id]
        broken = "".join(f"\n{path}: {error}" for path, error in bag.import_errors.items())
        raise LookupError(f"There is no DAG {dag_id!r} in {self._folder}, only {sorted(bag.dags)}.{broken}")


def prepare(home: Path, kept: Path | None) -> Path:
    """Make the metadata database below Airflow's home, with all tables.

    :param home: Airflow's home.
    :param kept: directory to keep an empty database in, which spares the next run ten seconds.
    """
    from airflow import __version__
    from airflow.utils.db import initdb

    target = home / "airflow.db"
    template = None if kept is None else kept / f"airflow-{__version__}.db"
    if template is not None and template.exists():
        shutil.copyfile(template, target)
        return home
    initdb()
    if template is not None:
        new = template.with_suffix(f".{os.getpid()}")
        # SQLite's own copy: the file alone may lack what was written last.
        with closing(sqlite3.connect(target)) as source, closing(sqlite3.connect(new)) as copy:
            source.backup(copy)
        new.replace(template)
    return home


def _name(instance: Any) -> str:
    return instance.task_id if instance.map_index < 0 else f"{instance.task_id}[{instance.map_index}]"


def _pushed(instance: Any) -> list[Any]:
    """Return the XComs that a task instance has pushed."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        rows = session.scalars(
            select(XComModel).where(
                XComModel.dag_id == instance.dag_id,
                XComModel.run_id == instance.run_id,
                XComModel.task_id == instance.task_id,
                XComModel.map_index == instance.map_index,
            )
        ).all()
        for row in rows:
            session.expunge(row)
            row.value = XComModel.deserialize_value(row)
        return list(rows)


def _dag_bag(folder: Path) -> Any:
    # Not in _compat: it is Airflow's core, which the rest of the package does without.
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 3.1
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef]

    return DagBag(str(folder))
