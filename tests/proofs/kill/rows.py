"""The rows of the kill table: who is killed, where, how, and what must come of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Action(Enum):
    """What happens to the task. The value is what the table says."""

    MARK_FAILED = "mark failed"
    MARK_SUCCESS = "mark success"
    RUN_FAILED = "mark DAG run failed"
    CLEAR = "clear"
    EXECUTION_TIMEOUT = "execution_timeout"
    OWN_TIMEOUT = "timeout"
    SIGTERM = "SIGTERM to the task"
    TRIGGERER_TERM = "triggerer SIGTERM, restart"
    TRIGGERER_KILL = "triggerer SIGKILL, restart"
    TRIGGERER_LOST = "triggerer stalls, another takes over"
    SLOW_TRIGGER = "trigger outlives its event"


class Where(Enum):
    """Where the task is at that moment."""

    RUNNING = "running"
    DEFERRED = "deferred"
    MAPPED_RUNNING = "mapped, running"
    MAPPED_DEFERRED = "mapped, deferred"

    @property
    def deferred(self) -> bool:
        """Whether the task waits in the triggerer."""
        return self in (Where.DEFERRED, Where.MAPPED_DEFERRED)

    @property
    def mapped(self) -> bool:
        """Whether the task is one of several that were made by ``expand``."""
        return self in (Where.MAPPED_RUNNING, Where.MAPPED_DEFERRED)


class Task(Enum):
    """Who waits for the job."""

    CREATE = "create"
    SENSOR = "sensor"
    OWNER = "sensor, cancel_on_kill"
    TRIGGERED = "sensor, start_from_trigger"


KILLS = (Action.MARK_FAILED, Action.MARK_SUCCESS, Action.RUN_FAILED)
OF_THE_TRIGGERER = (Action.TRIGGERER_TERM, Action.TRIGGERER_KILL, Action.TRIGGERER_LOST)
# What is done to one of several mapped task instances must leave the others alone.
OF_ONE_INSTANCE = (Action.MARK_FAILED, Action.MARK_SUCCESS, Action.CLEAR, Action.SIGTERM)


@dataclass(frozen=True)
class Outcome:
    """What came, or must come, of it.

    :param cancels: the answers' HTTP statuses to ``:cancel`` requests for the task instance's jobs.
    :param jobs: final states of its jobs, oldest first, without ``JOB_STATE_``.
    :param state: final state of the task instance.
    :param tries: its attempts.
    """

    cancels: tuple[int, ...]
    jobs: tuple[str, ...]
    state: str
    tries: int = 1


@dataclass(frozen=True)
class Row:
    """One row of the table: one DAG with one task, and one run of it."""

    action: Action
    where: Where
    task: Task

    @property
    def dag_id(self) -> str:
        """The DAG that is run for this row."""
        return f"{self.action.name}-{self.where.name}-{self.task.name}".lower()

    @property
    def instances(self) -> int:
        """How many task instances there are; only the first one is acted on."""
        return 2 if self.where.mapped and self.action in OF_ONE_INSTANCE else 1

    @property
    def goes_on(self) -> bool:
        """Whether the task is meant to go on, with its job or a new one, until that succeeds."""
        return self.expected.state == "success" and self.action is not Action.MARK_SUCCESS

    @property
    def expected(self) -> Outcome:
        """What must come of it."""
        state = "success" if self.action is Action.MARK_SUCCESS else "failed"
        cancelled = Outcome((200,), ("CANCELLED",), state)
        untouched = Outcome((), ("RUNNING",), state)
        owns_job = self.task is not Task.SENSOR
        if self.action in OF_THE_TRIGGERER:
            return Outcome((), ("SUCCEEDED",), "success")
        if self.action is Action.SLOW_TRIGGER:
            return untouched
        if self.action is Action.CLEAR:
            return Outcome((), ("SUCCEEDED",), "success", tries=2)
        if self.action is Action.SIGTERM and not owns_job:
            # Airflow calls on_kill and lets the task go on: for a sensor that only watches, nothing happens.
            return Outcome((), ("SUCCEEDED",), "success")
        return cancelled if owns_job else untouched


SIBLING = Outcome((), ("SUCCEEDED",), "success")
"""What must come of the mapped task instances that are not acted on."""


def _rows() -> list[Row]:
    deferred_only = (*OF_THE_TRIGGERER, Action.SLOW_TRIGGER)
    rows = []
    for action in Action:
        for where in Where:
            if where.deferred and action is Action.SIGTERM:
                continue  # there is no process
            if not where.deferred and action in deferred_only:
                continue
            if where is Where.MAPPED_RUNNING and action not in OF_ONE_INSTANCE:
                continue
            for task in Task:
                if where is Where.MAPPED_RUNNING and task is not Task.CREATE:
                    continue
                if task is Task.TRIGGERED and (not where.deferred or action is Action.SLOW_TRIGGER):
                    continue  # it is never on a worker before its job has ended
                rows.append(Row(action, where, task))
    return rows


ROWS = _rows()
