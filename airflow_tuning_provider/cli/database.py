"""What the metadata database knows of task instances. For the command line on Airflow's own machines only."""

from __future__ import annotations

from collections.abc import Sequence

States = dict[str, dict[str, "str | None"]]


def task_states(
    dag_id: str,
    task_ids: Sequence[str] | None = None,
    run_ids: Sequence[str] | None = None,
    map_index: int | None = None,
) -> States:
    """Return the states of task instances, as a task's ``get_task_states`` does.

    :param dag_id: the DAG.
    :param task_ids: only these tasks.
    :param run_ids: only these runs.
    :param map_index: only this index.
    :return: by run id, then by task id, with ``_<map index>`` for mapped tasks.
    """
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    query = select(
        TaskInstance.run_id, TaskInstance.task_id, TaskInstance.map_index, TaskInstance.state
    ).where(TaskInstance.dag_id == dag_id)
    if task_ids is not None:
        query = query.where(TaskInstance.task_id.in_(task_ids))
    if run_ids is not None:
        query = query.where(TaskInstance.run_id.in_(run_ids))
    if map_index is not None:
        query = query.where(TaskInstance.map_index == map_index)
    states: States = {}
    with create_session() as session:
        for run_id, task_id, index, state in session.execute(query):
            name = task_id if index < 0 else f"{task_id}_{index}"
            states.setdefault(run_id, {})[name] = (
                None if state is None else str(getattr(state, "value", state))
            )
    return states


def dag_ids() -> list[str]:
    """Return the ids of all DAGs that have run."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        return [str(row[0]) for row in session.execute(select(DagRun.dag_id).distinct())]
