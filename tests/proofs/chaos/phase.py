"""One phase: some cells under way at a time, one kind of kill, and what came of it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_tuning_provider.api.identity import KEY_LABEL, TaskIdentity
from airflow_tuning_provider.api.states import Outcome, outcome
from testbed.client import ApiError
from tests.proofs.chaos.instruments import RELEASED
from tests.proofs.chaos.points import Cell, Mode, Point, Target
from tests.proofs.chaos.stack import DAG_ID, LOSSY_PROJECT, PROJECT, TASK_ID, World

_FINAL = frozenset({"success", "failed", "upstream_failed", "skipped", "removed"})
_TICK = 0.3
_RUNNING = "JOB_STATE_RUNNING"
_SUCCEEDED = "JOB_STATE_SUCCEEDED"

# How long the jobs of the point "polling" go on after the kill, once the component has been started again.
_GO_ON = {Target.TASK: 0.0, Target.TRIGGERER: 4.0, Target.SCHEDULER: 5.0}
_TAKE_OVER = 60.0
"""Seconds for a new scheduler to give up the tasks of its predecessor, and to start them again."""


@dataclass
class Trial:
    """One task instance of a cell, and what became of it."""

    cell: Cell
    identity: TaskIdentity
    pid: int = 0
    looks_before: int | None = None
    reached: bool = False
    held: dict[str, Any] | None = None
    state: str | None = None
    attempts: int = 0
    jobs: list[dict[str, Any]] = field(default_factory=list)
    orphaned: int = 0
    ended_well: bool = False
    trouble: list[str] = field(default_factory=list)

    @property
    def map_index(self) -> int:
        """Its number in the run."""
        return self.identity.map_index

    @property
    def duplicates(self) -> int:
        """How many jobs there are beyond the one that there should be."""
        return max(len(self.jobs) - 1, 0)

    @property
    def clean(self) -> bool:
        """Whether all is as it should be."""
        return self.ended_well and len(self.jobs) == 1 and not self.orphaned and not self.trouble


def _runs_twice(cell: Cell) -> bool:
    """Return whether a cell must see two attempts at a time: the processes of a dead scheduler's tasks go on."""
    return (cell.point, cell.mode, cell.target) == (Point.POLLING, Mode.BLOCKING, Target.SCHEDULER)


class Phase:
    """One DAG run, with one task instance for each cell."""

    def __init__(self, world: World, run_id: str, target: Target, cells: Sequence[Cell]) -> None:
        self.world = world
        self.run_id = run_id
        self.target = target
        self.trials = [
            Trial(cell, TaskIdentity(DAG_ID, run_id, TASK_ID, index)) for index, cell in enumerate(cells)
        ]
        self.unclaimed: list[dict[str, Any]] = []
        self._directory = world.meeting_place / run_id
        self._deadline = float("inf")

    def run(self, *, reach: float, end: float, deadline: float) -> None:
        """Bring all tasks to their points, kill, and wait for the end.

        :param reach: seconds for all tasks to come to their points.
        :param end: seconds for all to end after the kill.
        :param deadline: when to stop waiting for anything, by the monotonic clock.
        """
        self._deadline = deadline
        self._directory.mkdir()
        self.world.reset()
        self.world.airflow.client.trigger(DAG_ID, run_id=self.run_id, conf={"cells": self._arguments()})
        try:
            self._wait(self._all_reached, reach)
            self._kill()
        finally:
            (self._directory / RELEASED).touch()
        if self.target is not Target.TASK:
            self.world.airflow.start_component(self.target.value)
        self._wait(self._taken_over, _TAKE_OVER)
        time.sleep(_GO_ON[self.target])
        self._let_go()
        self._wait(self._all_ended, end)
        time.sleep(1)  # for the cancellations that were asked for last
        self._judge()

    def _arguments(self) -> list[dict[str, Any]]:
        return [
            {
                "point": trial.cell.point.value,
                "target": trial.cell.target.value,
                "deferrable": trial.cell.mode is Mode.DEFERRABLE,
                "project_id": LOSSY_PROJECT if trial.cell.point is Point.RESPONSE_LOST else PROJECT,
            }
            for trial in self.trials
        ]

    def _wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        deadline = min(time.monotonic() + seconds, self._deadline)
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.world.airflow.revive()
            time.sleep(_TICK)
        return True

    # -- coming to the points ----------------------------------------------------------------------

    def _all_reached(self) -> bool:
        jobs = self._jobs_by_key()
        self._hold(jobs)
        requests: list[dict[str, Any]] | None = None
        for trial in self.trials:
            if trial.reached or not self._marked(trial):
                continue
            if trial.cell.point is Point.REQUEST_SENT and not jobs[trial.identity.key]:
                continue
            if trial.cell.point is Point.POLLING:
                requests = self.world.emulator.requests() if requests is None else requests
                if not self._looked_at(trial, jobs[trial.identity.key], requests):
                    continue
            trial.reached = True
            if self.target is Target.TASK:
                os.kill(trial.pid, signal.SIGKILL)
        return all(trial.reached for trial in self.trials)

    def _jobs_by_key(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for job in self.world.emulator.jobs():
            found[job.get("labels", {}).get(KEY_LABEL, "")].append(job)
        return found

    def _hold(self, jobs: dict[str, list[dict[str, Any]]]) -> None:
        """Let the jobs of the point "polling" go on until we say otherwise."""
        for trial in self.trials:
            if trial.cell.point is Point.POLLING and trial.held is None and jobs[trial.identity.key]:
                trial.held = jobs[trial.identity.key][0]
                self.world.emulator.set_state(trial.held["name"], _RUNNING)

    def _let_go(self) -> None:
        """Let the held jobs succeed, but for those that somebody has cancelled."""
        held = {trial.held["name"] for trial in self.trials if trial.held}
        for job in self.world.emulator.jobs():
            if job["name"] in held and job["state"] == _RUNNING:
                self.world.emulator.set_state(job["name"], _SUCCEEDED)

    def _marked(self, trial: Trial) -> bool:
        with contextlib.suppress(FileNotFoundError):
            trial.pid = int((self._directory / str(trial.map_index)).read_text())
        return trial.pid > 0

    @staticmethod
    def _looked_at(trial: Trial, jobs: list[dict[str, Any]], requests: list[dict[str, Any]]) -> bool:
        """Return whether the job was looked at, once more than when the marker was found."""
        name = jobs[0]["name"] if jobs else ""
        looks = sum(
            one["method"] == "GET"
            and (one["path"].endswith(name.split("/", 2)[-1]) or not one["query"].get("filter"))
            for one in requests
        )
        if trial.looks_before is None:
            trial.looks_before = looks
        return bool(name) and looks > trial.looks_before

    def _kill(self) -> None:
        for trial in self.trials:
            if not trial.reached:
                trial.trouble.append("never came to its point")
        if self.target is not Target.TASK:
            self.world.airflow.revive()
            self.world.airflow.kill_component(self.target.value)

    def _taken_over(self) -> bool:
        """Return whether a new scheduler runs the tasks that wait in a process a second time."""
        if self.target is not Target.SCHEDULER:
            return True
        tasks = self._tasks()
        return all(
            tasks.get(trial.map_index, {}).get("try_number", 0) > 1
            for trial in self.trials
            if _runs_twice(trial.cell)
        )

    # -- what came of it ---------------------------------------------------------------------------

    def _tasks(self) -> dict[int, dict[str, Any]]:
        """Return the task instances by number; none while Airflow does not answer."""
        with contextlib.suppress(OSError, ApiError):
            return {task["map_index"]: task for task in self.world.tasks(self.run_id)}
        return {}

    def _all_ended(self) -> bool:
        tasks = self._tasks().values()
        return len(tasks) == len(self.trials) and all(task["state"] in _FINAL for task in tasks)

    def _judge(self) -> None:
        jobs = self._jobs_by_key()
        tasks = self._tasks()
        for trial in self.trials:
            task = tasks.get(trial.map_index, {})
            trial.state = task.get("state")
            trial.attempts = task.get("try_number", 0)
            trial.jobs = jobs.pop(trial.identity.key, [])
            if trial.state in _FINAL:
                trial.orphaned = sum(not outcome(job["state"]).ended for job in trial.jobs)
            trial.ended_well = trial.state == "success" and self._has_result(trial)
            if (
                trial.reached
                and trial.attempts < 2
                and (self.target is Target.TASK or _runs_twice(trial.cell))
            ):
                trial.trouble.append("there was no second attempt")
        self.unclaimed = [job for left in jobs.values() for job in left]

    def _has_result(self, trial: Trial) -> bool:
        """Return whether the task has returned a job that is its own and has succeeded."""
        succeeded = {job["name"] for job in trial.jobs if outcome(job["state"]) is Outcome.SUCCEEDED}
        result = None
        with contextlib.suppress(OSError, ApiError):
            result = self.world.airflow.client.xcom(DAG_ID, self.run_id, TASK_ID, map_index=trial.map_index)
        return isinstance(result, dict) and result.get("tuning_job_name") in succeeded

    def story(self, trial: Trial) -> str:
        """Tell what happened to a task instance: its jobs, the requests for them, and its logs."""
        lines = [f"{trial.cell}: task {trial.state} in attempt {trial.attempts}", *trial.trouble]
        names = [job["name"] for job in trial.jobs]
        lines += [f"  job {job['name']} {job['state']} created {job.get('createTime')}" for job in trial.jobs]
        for one in self.world.emulator.requests():
            label = ((one.get("body") or {}).get("labels") or {}) if isinstance(one.get("body"), dict) else {}
            about = label.get(KEY_LABEL) == trial.identity.key or trial.identity.key in str(one["query"])
            if about or any(name.rpartition("/")[2] in one["path"] for name in names):
                lines.append(f"  {one['time']} {one['method']} {one['path']} {one['status']}")
        for attempt in range(1, trial.attempts + 1):
            lines.append(f"  log of attempt {attempt}:")
            with contextlib.suppress(Exception):
                log = self.world.airflow.client.task_log(
                    DAG_ID, self.run_id, TASK_ID, attempt, trial.map_index
                )
                lines += [f"    {line}" for line in log.splitlines()[-60:]]
        return "\n".join(lines)
