"""At most one live job, whatever happens: random sequences of attempts, accidents and people's deeds.

``ONE_LIVE_JOB_EXAMPLES=1000`` looks longer than the suite does.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from airflow_tuning_provider._compat import AirflowFailException
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.exceptions import TuningError
from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
from tests.integration.tasks.conftest import LONG, Lost, Store, TaskInstance, blind, creates, eventually, live

EXAMPLES = int(os.environ.get("ONE_LIVE_JOB_EXAMPLES", "25"))
LATE = 1.0
"""How much later a list shows a job, where it is late."""

CREATES: dict[str, list[dict[str, Any]]] = {
    "answered": [],
    "answer lost": [{"drop": "after_processing"}],
    "answer lost three times": [{"drop": "after_processing"}] * 3,
    "request lost": [{"drop": "before_processing"}],
    "over quota": [{"status": 429}],
    "over quota, then lost": [{"status": 429}, {"drop": "after_processing"}],
}
ENDS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "success": ("JOB_STATE_SUCCEEDED", None),
    "failure for good": ("JOB_STATE_FAILED", {"code": 3, "message": "Row 7 is empty."}),
    "failure that passes": ("JOB_STATE_FAILED", {"code": 13, "message": "Internal error."}),
    "cancelled by a person": ("JOB_STATE_CANCELLED", {"code": 1, "message": "Cancelled."}),
}
LASTING = {"success", "failure for good", "cancelled by a person"}


@dataclass(frozen=True)
class Luck:
    """What befalls one attempt.

    :param edit: what was edited before it.
    :param create: what becomes of its create.
    :param sight: which jobs its lists show.
    :param ending: how its job, or its process, ends while it waits.
    """

    edit: str
    create: str
    sight: str
    deferrable: bool
    ending: str


LUCK = st.builds(
    Luck,
    edit=st.sampled_from(["trained", "description", "retries", "nothing"]),
    create=st.sampled_from([*CREATES, "answered", "answered"]),
    sight=st.sampled_from(["all", "late", "nothing", "all", "all"]),
    deferrable=st.booleans(),
    ending=st.sampled_from(["SIGKILL", *ENDS, "SIGTERM", "SIGKILL", "SIGKILL"]),
)


class OneLiveJob(RuleBasedStateMachine):
    """One task instance, its attempts, and all that may befall them.

    The reference model is small: which jobs belong to this generation, how the last of them has ended, and
    whether that is still the last word.
    """

    def __init__(self, server: Emulator) -> None:
        super().__init__()
        self.server = server
        server.reset()
        self.ti = TaskInstance()
        self.parameters: dict[str, Any] = {
            **LONG,
            "learning_rate_multiplier": 1.0,
            "description": "a",
            "retries": 3,
        }
        self.before: set[str] = set()
        """Jobs of earlier generations that were over when this one began."""
        self.unclear = False
        """Whether this generation's last job says nothing: what is trained was edited, or there were two jobs."""
        self.visible_from = 0.0
        self.attempts = 0
        self.over = False
        """Whether the last attempt ended the task for good: only a clear follows such a one."""

    # -- what people do ------------------------------------------------------------------------------

    @initialize(store=st.booleans(), retries=st.integers(0, 3))
    def begin(self, store: bool, retries: int) -> None:
        self.parameters["retries"] = retries
        self.ti = TaskInstance(retries=retries, store=Store() if store else None)

    @precondition(lambda self: live(self.server))
    @rule(end=st.sampled_from(list(ENDS)))
    def jobs_end_between_the_attempts(self, end: str) -> None:
        self._end(end)

    # -- attempts ------------------------------------------------------------------------------------

    @precondition(lambda self: not self.over)
    @rule(luck=LUCK)
    def retry(self, luck: Luck) -> None:
        self._attempt("retry", luck)

    @rule(luck=LUCK)
    def clear(self, luck: Luck) -> None:
        self._attempt("clear", luck)

    @precondition(lambda self: not self.over)
    @rule(luck=LUCK)
    def clear_while_running(self, luck: Luck) -> None:
        self._attempt("restart", luck)

    def _attempt(self, begun_by: str, luck: Luck) -> None:
        create, sight, deferrable, ending = luck.create, luck.sight, luck.deferrable, luck.ending
        self._edit(luck.edit)
        self._next(begun_by)
        # What was late is there by now: each attempt has its own bad luck.
        time.sleep(max(self.visible_from - time.monotonic(), 0.0))
        settled = self._settled(begun_by) if sight == "all" else None
        self._prepare(create, sight)
        since = self.server.last_request()
        killed = self._run(deferrable, ending)
        if sight == "late":
            self.visible_from = time.monotonic() + LATE
        self.server.clear_faults()
        self.server.lag()
        sent = [r for r in creates(self.server) if r["seq"] > since and r["status"] != 429]
        note(f"{len(sent)} creates sent, jobs: {[(j['name'][-4:], j['state']) for j in self.server.jobs()]}")
        assert len(sent) <= 1, "an attempt creates at most once"
        if settled:
            assert sent == [], f"paid again by a {begun_by} after {settled}"
        self.unclear = self.unclear or len(live(self.server)) > 1
        if sight == "all":
            assert len(live(self.server)) <= 1, "an attempt has looked at a list that shows everything"
            if killed:
                assert eventually(lambda: live(self.server) == []), "nothing runs after a kill"

    def _edit(self, what: str) -> None:
        rate, retries = self.parameters["learning_rate_multiplier"], self.parameters["retries"]
        if what == "trained":
            self.unclear = True
            self.parameters["learning_rate_multiplier"] = 3.0 - rate
        elif what == "description":
            self.parameters["description"] += "!"
        elif what == "retries":
            self.parameters["retries"] = (retries + 2) % 5

    def _next(self, begun_by: str) -> None:
        self.attempts += 1
        if self.attempts == 1:
            return
        if begun_by == "clear":
            alive = live(self.server)
            self.before = {job["name"] for job in self.server.jobs()} - set(alive)
            self.unclear = self.unclear and bool(alive)
            self.ti.clear(retries=self.parameters["retries"])
        else:
            getattr(self.ti, begun_by)()

    def _settled(self, begun_by: str) -> str | None:
        """Return the end of this generation's last job, where it is one that an attempt must not pay after."""
        jobs = self.server.jobs()
        if self.unclear or live(self.server):
            return None
        if begun_by == "clear":
            # Only a success with the same input is returned to a person at no cost.
            same = jobs and self._rate(jobs[-1]) == self.parameters["learning_rate_multiplier"]
            return "success" if same and jobs[-1]["state"] == "JOB_STATE_SUCCEEDED" else None
        own = [job for job in jobs if job["name"] not in self.before]
        if not own:
            return None
        for end in LASTING:
            state, error = ENDS[end]
            if own[-1]["state"] == state and (
                error is None or own[-1].get("error", {}).get("code") == error["code"]
            ):
                return end
        return None

    @staticmethod
    def _rate(job: dict[str, Any]) -> float:
        return float(job["supervisedTuningSpec"]["hyperParameters"]["learningRateMultiplier"])

    def _prepare(self, create: str, sight: str) -> None:
        for fault in CREATES[create]:
            self.server.fault(method="POST", path_regex="/tuningJobs$", times=1, **fault)
        if sight == "late":
            self.server.lag(list_seconds=LATE)
        elif sight == "nothing":
            blind(self.server)

    def _run(self, deferrable: bool, ending: str) -> bool:
        """Run an attempt to its end, or to that of its process; return whether it was killed by a person."""
        task = CreateTuningJobOperator(
            task_id="tune", poll_interval=0.1, timeout=6, deferrable=deferrable, **self.parameters
        )
        killed: list[bool] = []
        self.over = False
        try:
            if ending == "SIGKILL":
                self.ti.run_while(task, _lose)
            elif ending == "SIGTERM":
                self.ti.run_while(task, self.ti.killing(task, killed))
            else:
                result = self.ti.run_while(task, lambda: self._end(ending))
                (job,) = [job for job in self.server.jobs() if job["name"] == result["tuning_job_name"]]
                assert job["state"] == "JOB_STATE_SUCCEEDED"
            self.over = True
        except AirflowFailException:
            self.over = True
        except (TuningError, Lost):
            pass
        return bool(killed)

    def _end(self, end: str) -> None:
        for name in live(self.server):
            self.server.set_state(name, *ENDS[end])


def _lose() -> None:
    raise Lost


@pytest.mark.timeout(60 + 60 * EXAMPLES)
def test_one_live_job(server: Emulator) -> None:
    run_state_machine_as_test(
        lambda: OneLiveJob(server),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=8,
            deadline=None,
            database=None,
            print_blob=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
