"""What is asked of Airflow's supervisor: who goes on with a tuning job when a process, or a trigger, is ended?

Airflow ends them not only when a person ends the task: also when the task was cleared, when a heartbeat was late,
when another triggerer takes over, when a scheduler died and the next one starts the task anew. The next attempt
then joins the tuning job: it must not be cancelled.

Airflow has no public interface for these questions. The private one is used here and nowhere else; where it is
missing, nothing is cancelled.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

ENDED_TASK_STATES = frozenset({"failed", "success", "skipped", "removed", "upstream_failed"})
"""States in which a task instance does not look at its job again by itself.

Any other state means that somebody goes on: ``deferred`` another triggerer, ``queued``, ``running`` or none the
next attempt.
"""

_ANSWER_SECONDS = 2.0
"""How long Airflow may take to answer. Five seconds after SIGTERM it sends SIGKILL."""

_TRIGGERER_ANSWER_SECONDS = 60.0
"""The same for the triggerer, which has time: it answers one question after the other, some 10 ms each, and a
thousand tasks may be killed at once."""

_NOT_LIVE = (404, 410)


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


async def was_ended(ti: Any, *, log: Any) -> bool:
    """Whether the task instance of a trigger has ended, so that its job is no longer wanted.

    :param ti: the trigger's task instance; ``None`` where there is no Airflow, as under ``dag.test()``.
    :param log: is told where Airflow does not say.
    """
    if ti is None:
        return False
    give_up, pause = time.monotonic() + _TRIGGERER_ANSWER_SECONDS, 1.0
    while True:
        try:
            from airflow.sdk.execution_time.comms import GetTaskStates

            states = _states(await _answer(_states_of(GetTaskStates, ti)), ti)
            return bool(states) and states <= ENDED_TASK_STATES
        except ConnectionError:  # the triggerer stops, and another one goes on
            return False
        except Exception as error:  # noqa: BLE001 - what is not known to be unwanted is not cancelled
            # An API server that is busy, or restarts, is asked again.
            busy = type(error).__name__ == "AirflowRuntimeError"
            if not busy or time.monotonic() + pause > give_up:
                log.warning("Airflow does not say whether the task was killed: %r", error)
                return False
        await asyncio.sleep(pause)
        pause = min(pause * 2, 10.0)


async def push_xcoms(ti: Any, values: dict[str, Any]) -> bool:
    """Push XComs of a task that ends in the triggerer; return whether that could be done.

    Those of Airflow's own ``TaskSuccessEvent`` arrive as JSON inside a string: a downstream task that takes the
    result for what it is fails (seen on Airflow 3.3.2).
    """
    try:
        from airflow.sdk.execution_time.comms import SetXCom

        for key, value in values.items():
            message = SetXCom(
                key=key,
                value=value,
                dag_id=ti.dag_id,
                run_id=ti.run_id,
                task_id=ti.task_id,
                map_index=ti.map_index,
            )
            await _answer(message)
    except Exception:  # noqa: BLE001 - a worker can do it then
        return False
    return True


async def _answer(message: Any) -> Any:
    """Return what the triggerer's supervisor answers.

    A conversation is never broken off: Airflow 3.1 takes an answer that came too late for that to the next message,
    and the triggerer ends.
    """
    from airflow.sdk.execution_time import task_runner

    supervisor = task_runner.SUPERVISOR_COMMS
    reader = getattr(supervisor, "_reader_task", None)
    if reader is not None and reader.done():  # since Airflow 3.2; what is asked now is not answered any more
        raise ConnectionError("the triggerer stops")
    asking = asyncio.ensure_future(supervisor.asend(message))
    done, _ = await asyncio.wait({asking}, timeout=_TRIGGERER_ANSWER_SECONDS)
    if not done:
        raise TimeoutError(f"no answer within {_TRIGGERER_ANSWER_SECONDS:.0f} s")
    return asking.result()


def _in_conversation() -> bool:
    try:
        from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS
    except ImportError:
        return False
    lock = getattr(SUPERVISOR_COMMS, "_thread_lock", None)
    return lock is not None and lock.locked()


def _is_replaced() -> bool:
    try:
        from airflow.sdk import get_current_context
        from airflow.sdk.exceptions import AirflowRuntimeError
        from airflow.sdk.execution_time import task_runner
        from airflow.sdk.execution_time.comms import GetTaskStates, ValidateInletsAndOutlets
    except ImportError:
        return True  # it cannot be asked: the job may still be wanted
    try:
        ti: Any = get_current_context()["ti"]
    except Exception:  # noqa: BLE001 - no Airflow runs this task, so nobody else does
        return False
    try:
        supervisor = task_runner.SUPERVISOR_COMMS
        questions = ValidateInletsAndOutlets(ti_id=ti.id), _states_of(GetTaskStates, ti)
    except (AttributeError, TypeError, ValueError):
        return True
    try:
        # Every attempt has an id of its own. This is the one question about an id that changes nothing.
        supervisor.send(questions[0])
        live = True
    except AirflowRuntimeError as error:
        if (error.error.detail or {}).get("status_code") not in _NOT_LIVE:
            return False
        live = False
    except Exception:  # noqa: BLE001 - Airflow does not answer
        return False
    try:
        states = _states(supervisor.send(questions[1]), ti)
    except Exception:  # noqa: BLE001
        return False
    # An attempt that has deferred keeps its id. Its process goes on for a moment; the triggerer has the job.
    return "deferred" in states if live else bool(states) and not ENDED_TASK_STATES & states


def _states_of(question: Any, ti: Any) -> Any:
    return question(dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index)


def _states(answer: Any, ti: Any) -> set[str]:
    return set(getattr(answer, "task_states", {}).get(ti.run_id, {}).values())
