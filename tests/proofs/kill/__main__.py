"""Run the kill table: ``python -m tests.proofs.kill [--write] [--only TEXT] [--home DIR]``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from testbed.services import StepError, tail
from tests.proofs.kill.report import table, write
from tests.proofs.kill.rows import OF_THE_TRIGGERER, ROWS, SIBLING, Action, Outcome, Row, Task
from tests.proofs.kill.world import Instance, World, overlap, state_of

Condition = tuple[str, Callable[[], object]]
Script = Generator[Condition, None, None]

PATIENCE = 240.0
"""Seconds for any one step of a row, on a busy machine."""
AT_ONCE = 4
"""How many rows may be on their way to where they are acted on: a start costs a second of processor time."""
AFTERWARDS = 8.0
"""Seconds to look for what should not happen, after everything has settled."""


@dataclass
class Trial:
    """One row being tried."""

    row: Row
    instances: list[Instance]
    script: Script | None = None
    waits_for: Condition | None = None
    since: float = field(default_factory=time.monotonic)
    released: bool = False
    acted: float | None = None
    on_kills: int = 0
    deviations: list[str] = field(default_factory=list)

    @property
    def subject(self) -> Instance:
        """The task instance that is acted on."""
        return self.instances[0]


class Driver:
    """Tries all rows at once, in one Airflow."""

    def __init__(self, world: World, rows: list[Row]) -> None:
        self.world = world
        self.trials = [Trial(row, [Instance(row, index) for index in range(row.instances)]) for row in rows]
        self.instances = [instance for trial in self.trials for instance in trial.instances]
        self.done: set[Action] = set()
        self._started = time.monotonic()

    def say(self, text: str) -> None:
        """Tell what goes on."""
        print(f"{time.monotonic() - self._started:6.1f} s  {text}", flush=True)

    def run(self) -> None:
        """Try all rows, and compare what came of them with what must."""
        for trial in self.trials:
            self._start(trial)
        self.say(f"{len(self.trials)} rows, {len(self.instances)} task instances")
        own = [trial for trial in self.trials if trial.row.action not in OF_THE_TRIGGERER]
        others = [trial for trial in self.trials if trial.row.action in OF_THE_TRIGGERER]
        self._drive(lambda: not any(trial.script for trial in own))
        self.say("the rows that are done one by one have settled")
        for action in OF_THE_TRIGGERER:
            if any(trial.row.action is action for trial in others):
                self._drive(lambda: all(trial.acted or not trial.script for trial in others))
                with_it = [trial.subject for trial in others if trial.row.action is action]
                self._harm_triggerer(action, with_it)
                self.done.add(action)
                self.say(f"{action.value}: done")
        self._drive(lambda: not any(trial.script for trial in self.trials))
        time.sleep(AFTERWARDS)
        self.world.look(self.instances)
        for trial in self.trials:
            self._judge(trial)
        self.say("everything has settled")

    def _start(self, trial: Trial) -> None:
        row = trial.row
        self.world.airflow.wait_for_dag(row.dag_id)
        conf = {}
        if row.task is not Task.CREATE:
            for instance in trial.instances:
                instance.job_names = [self.world.create_job(f"{row.dag_id}-{instance.index}")]
            conf["jobs"] = [name for instance in trial.instances for name in instance.job_names]
        # The DAG is paused: nothing happens yet.
        self.world.airflow.client.trigger(row.dag_id, conf=conf, run_id="run")
        trial.script = self._script(trial)

    def _release(self) -> None:
        """Let further rows go, as far as the machine bears it."""
        on_their_way = sum(trial.released and not trial.acted and bool(trial.script) for trial in self.trials)
        for trial in [trial for trial in self.trials if not trial.released][: max(AT_ONCE - on_their_way, 0)]:
            self.world.request("PATCH", f"/dags/{trial.row.dag_id}", {"is_paused": False})
            trial.released = True
            trial.since = time.monotonic()
            trial.waits_for = next(trial.script) if trial.script else None

    def _drive(self, until: Callable[[], bool]) -> None:
        """Advance all scripts as far as they get, until something is so."""
        while True:
            self.world.airflow.require("scheduler", "dag-processor", "api-server")
            self.world.revive_triggerer()
            self._release()
            self.world.look(self.instances)
            for trial in self.trials:
                self._advance(trial)
            if until():
                return
            time.sleep(1.0)

    def _advance(self, trial: Trial) -> None:
        while trial.script is not None and trial.waits_for is not None:
            what, condition = trial.waits_for
            if not condition():
                if time.monotonic() - trial.since > PATIENCE and what != "its turn":
                    trial.deviations.append(f"gave up waiting for {what}")
                    trial.script = None
                return
            trial.since = time.monotonic()
            try:
                trial.waits_for = next(trial.script)
            except StopIteration:
                trial.script = None

    # -- what happens in a row ---------------------------------------------------------------------

    def _script(self, trial: Trial) -> Script:
        row, subject = trial.row, trial.subject
        timed = row.action in (Action.EXECUTION_TIMEOUT, Action.OWN_TIMEOUT, Action.SLOW_TRIGGER)
        for instance in trial.instances:
            yield "the task to be in place", self._begun(instance) if timed else self._in_place(instance)
        trial.acted = time.monotonic()
        before = subject.ti
        if row.action in OF_THE_TRIGGERER:
            yield "its turn", lambda: row.action in self.done
        elif not timed:
            self._act(row, subject)
        if row.action is Action.CLEAR and row.goes_on:
            yield "the next attempt to be in place", self._in_place(subject, tries=2)
            if subject.state == "running" and subject.ti["pid"] == before["pid"]:
                trial.deviations.append("the old process went on")
        if row.action is Action.SIGTERM and row.goes_on:
            looks = len(subject.looks) + 3
            yield "the task to go on", lambda: len(subject.looks) >= looks
        for instance in trial.instances:
            expected = row.expected if instance is subject else SIBLING
            if instance is not subject or row.goes_on:
                job = instance.live_job
                if job is None:
                    trial.deviations.append("no job is left")
                    return
                self.world.set_state(job["name"], "SUCCEEDED")
            yield f"{expected}", lambda seen=instance, want=expected: outcome(seen) == want
        if row.action is Action.SLOW_TRIGGER:
            yield "on_kill to be called", lambda: self.world.on_kills(subject)

    def _begun(self, instance: Instance) -> Callable[[], bool]:
        """Return whether the task has begun to wait where the row wants it; it may have ended since."""
        if instance.row.where.deferred:
            return lambda: self.world.watched_by(instance) > 0
        return lambda: bool(instance.looks)

    def _in_place(self, instance: Instance, tries: int = 1) -> Callable[[], bool]:
        """Return whether the task is where the row wants it, and has really begun to wait for its job."""
        begun = time.time()

        def in_place() -> bool:
            if (
                instance.tries < tries
                or instance.live_job is None
                or state_of(instance.live_job) != "RUNNING"
            ):
                return False
            if instance.row.where.deferred:
                waits = instance.state == "deferred" and self.world.watched_by(instance) > 0
                # Only what starts in the triggerer has had no process; mapped, it starts on a worker all the same.
                without_process = instance.row.task is Task.TRIGGERED and not instance.row.where.mapped
                return waits and (without_process or self.world.process_ended(instance))
            return instance.state == "running" and any(look > begun for look in instance.looks)

        return in_place

    def _act(self, row: Row, subject: Instance) -> None:
        request = self.world.request
        if row.action in (Action.MARK_FAILED, Action.MARK_SUCCESS):
            state = "failed" if row.action is Action.MARK_FAILED else "success"
            request("PATCH", self.world.ti_path(subject), {"new_state": state})
        elif row.action is Action.RUN_FAILED:
            request("PATCH", self.world.run_path(row), {"state": "failed"})
        elif row.action is Action.CLEAR:
            which = ["task", subject.index] if row.where.mapped else "task"
            body = {"dry_run": False, "dag_run_id": "run", "task_ids": [which], "only_failed": False}
            request("POST", f"/dags/{row.dag_id}/clearTaskInstances", body)
        elif row.action is Action.SIGTERM:
            os.kill(subject.ti["pid"], signal.SIGTERM)

    # -- what happens to the triggerer ---------------------------------------------------------------

    def _harm_triggerer(self, action: Action, subjects: list[Instance]) -> None:
        stack = self.world.airflow
        before = {one.row: self.world.watched_by(one) for one in subjects}

        def taken_over() -> bool:
            return all(self.world.watched_by(one) > before[one.row] for one in subjects)

        if action is Action.TRIGGERER_LOST:
            with self.world.stalled_triggerer():
                self.say("the triggerer is stalled")
                self.world.start_second_triggerer()
                self._until(taken_over, "the second triggerer to take over")
                self.say("the second triggerer has taken over")
            self._until(
                lambda: all(map(self.world.on_kills, subjects)), "the first triggerer to call on_kill"
            )
            return
        stack.kill_component(
            "triggerer", signal.SIGTERM if action is Action.TRIGGERER_TERM else signal.SIGKILL
        )
        stack.start_component("triggerer")
        self._until(taken_over, "the new triggerer to watch")

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        self.world.refresh_until(self.instances, condition, timeout=PATIENCE, what=what)

    # -- judging -----------------------------------------------------------------------------------

    def _judge(self, trial: Trial) -> None:
        trial.on_kills = self.world.on_kills(trial.subject)
        for instance in trial.instances:
            expected = trial.row.expected if instance is trial.subject else SIBLING
            seen = outcome(instance)
            if seen != expected:
                who = "" if instance is trial.subject else "its sibling: "
                trial.deviations.append(f"{who}expected {expected}, got {seen}")
            if overlap(instance.jobs):
                trial.deviations.append("two jobs were alive at a time")


def outcome(instance: Instance) -> Outcome:
    """Return what has come of a task instance so far."""
    return Outcome(
        cancels=tuple(request["status"] for request in instance.cancels),
        jobs=tuple(state_of(job) for job in instance.jobs),
        state=instance.state,
        tries=instance.tries,
    )


def main() -> int:
    """Run the table, print it, and return how many rows deviate."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.kill", description=__doc__)
    parser.add_argument(
        "--write", action="store_true", help="also write the table into docs/reliability/kill.md"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="only rows whose DAG id contains this")
    parser.add_argument("--home", type=Path, help="keep database and logs in this directory")
    arguments = parser.parse_args()
    rows = [row for row in ROWS if arguments.only in row.dag_id]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kill-table-") as scratch:
        home = arguments.home or Path(scratch)
        try:
            tried = _try(rows, home / "first")
            again = [row for row, trial in tried.items() if trial.deviations]
            if again and len(again) < len(rows):
                print(*_deviations(tried.values()), "These rows are tried again, by themselves.", sep="\n")
                tried |= _try(again, home / "second")
        except StepError as error:
            print(error, tail(error.log) if error.log else "", sep="\n")
            return 1
    seconds = time.monotonic() - began
    deviating = _deviations(tried.values())
    lines = table(list(tried.values()))
    print(*lines, *deviating, sep="\n")
    print(f"{len(rows)} rows, {len(deviating)} deviate from what is expected, {seconds:.0f} s")
    if arguments.write and not deviating:
        write(lines, seconds, again=len(again))
    return 1 if deviating else 0


def _try(rows: list[Row], home: Path) -> dict[Row, Trial]:
    """Try rows in an Airflow of their own."""
    with World(home) as world:
        driver = Driver(world, rows)
        driver.run()
    return {trial.row: trial for trial in driver.trials}


def _deviations(trials: Iterable[Trial]) -> list[str]:
    return [f"{one.row.dag_id}: {'; '.join(one.deviations)}" for one in trials if one.deviations]


if __name__ == "__main__":
    sys.exit(main())
