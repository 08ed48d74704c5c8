"""Asks Airflow whether an attempt that is killed has a successor.

Airflow ends a task's process not only when a user ends the task. It also does when the task was cleared, when
its heartbeat was late, and when its scheduler died and the next one starts it anew. In these cases the next
attempt joins the tuning job, perhaps has joined it already: it must not be cancelled.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

_ANSWER_SECONDS = 2.0
"""How long Airflow may take to answer. Five seconds after SIGTERM it sends SIGKILL."""

_NOT_LIVE = (404, 410)
_ENDED = frozenset({"failed", "success", "skipped", "removed", "upstream_failed"})


def unless_replaced(action: Callable[[], object], *, log: Any) -> None:
    """Do something, unless another attempt takes the place of the one that runs in this process.

    For use in a signal handler. Airflow is asked in a thread; if it does not answer in time, it is taken that
    there is no other attempt. Where the handler has interrupted a conversation with Airflow, which has to be
    ended first, this returns at once, and a thread does the rest.
    """
    answers: list[bool] = []
    question = threading.Thread(target=lambda: answers.append(_is_replaced()), daemon=True)

    def decide() -> None:
        question.join(_ANSWER_SECONDS)
        if any(answers):
            log.info("Another attempt, or the triggerer, goes on with the tuning job.")
        else:
            action()

    in_conversation = _in_conversation()
    question.start()
    if in_conversation:
        threading.Thread(target=decide, daemon=True).start()
    else:
        decide()


def _in_conversation() -> bool:
    from airflow.sdk.execution_time import task_runner

    lock = getattr(getattr(task_runner, "SUPERVISOR_COMMS", None), "_thread_lock", None)
    return lock is not None and lock.locked()


def _is_replaced() -> bool:
    try:
        from airflow.sdk import get_current_context
        from airflow.sdk.exceptions import AirflowRuntimeError
        from airflow.sdk.execution_time import task_runner
        from airflow.sdk.execution_time.comms import GetTaskStates, ValidateInletsAndOutlets

        ti: Any = get_current_context()["ti"]
        supervisor = task_runner.SUPERVISOR_COMMS
        try:
            # Every attempt has an id of its own. This is the one question about an id that changes nothing.
            supervisor.send(ValidateInletsAndOutlets(ti_id=ti.id))
        except AirflowRuntimeError as error:
            if (error.error.detail or {}).get("status_code") not in _NOT_LIVE:
                return False
            live = False
        else:
            live = True
        answer = supervisor.send(
            GetTaskStates(
                dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
            )
        )
        states = set(getattr(answer, "task_states", {}).get(ti.run_id, {}).values())
        # An attempt that has deferred keeps its id. Its process goes on for a moment; the triggerer has the job.
        return "deferred" in states if live else bool(states) and not _ENDED & states
    except Exception:  # noqa: BLE001 - there is no Airflow to ask, as in a test, or it does not answer
        return False
