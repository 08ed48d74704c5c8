"""``python -m tests.proofs.distributed``: break each part of a distributed Airflow while tuning tasks are under way.

For each row a run of the DAG ``fleet`` creates jobs at the emulator, one for each task; then something breaks,
the jobs end (every fifth fails for good), and every task has to end as its job did: with one job each, none
twice and none that runs on without a task.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from airflow_tuning_provider.emulator.testing import EmulatorError
from testbed import report
from testbed.client import ApiError
from testbed.services import REPOSITORY, StepError, wait_until
from tests.proofs.distributed.fleet import ENDED, Fleet
from tests.proofs.distributed.load import load
from tests.proofs.distributed.load import table as load_table
from tests.proofs.distributed.machine import (
    HEALTH_THRESHOLD,
    Machine,
    UnavailableError,
    beside,
    clock_off_by,
)

PAGE = REPOSITORY / "docs" / "deployment.md"
HEAD = ("what breaks", "tasks", "jobs", "duplicates", "orphans", "ended as their job did", "time")
CUT_SECONDS = 180
CLOCK_SECONDS = 120


class Result(NamedTuple):
    """What a row's run came to."""

    name: str
    tasks: int
    jobs: int
    duplicates: int
    orphans: int
    right: int
    seconds: float
    deviations: list[str]


Action = Callable[[Machine, Fleet], None]


def as_it_is(_: Machine, __: int) -> AbstractContextManager[None]:
    """Change nothing."""
    return nullcontext()


class Row(NamedTuple):
    """A row of the table: what is done, with what in place, in a run of which DAG with which configuration."""

    name: str
    action: Action
    setting: Callable[[Machine, int], AbstractContextManager[None]] = as_it_is
    dag_id: str = "fleet"
    conf: Mapping[str, Any] = {}


def nothing(machine: Machine, fleet: Fleet) -> None:
    """Let all go well."""
    fleet.wait_deferred()
    fleet.end_jobs()


def kill_worker(machine: Machine, fleet: Fleet) -> None:
    """Lose a worker while it creates jobs."""
    fleet.wait_created(0.3)
    machine["worker-1"].kill()
    fleet.wait_deferred()
    machine["worker-1"].start()
    fleet.end_jobs()


def kill_both_workers(machine: Machine, fleet: Fleet) -> None:
    """Lose one worker while jobs are created, and the other while tasks resume."""
    fleet.wait_created(0.3)
    machine["worker-1"].kill()
    machine["worker-1"].start()
    fleet.wait_deferred()
    fleet.end_jobs()
    time.sleep(6)
    machine["worker-2"].kill()
    machine["worker-2"].start()


def kill_triggerer(machine: Machine, fleet: Fleet) -> None:
    """Lose a triggerer while its jobs end."""
    fleet.wait_deferred()
    machine["triggerer-1"].kill()
    fleet.end_jobs()
    fleet.wait_ended()
    machine["triggerer-1"].start()


def stall_triggerer(machine: Machine, fleet: Fleet) -> None:
    """Stall a triggerer until the other has taken over, then wake it."""
    fleet.wait_deferred()
    machine["triggerer-1"].signal_all(signal.SIGSTOP)
    try:
        alone = lambda: len({t for _, t in fleet.instances().values()}) == 1  # noqa: E731
        wait_until(alone, timeout=90, what="the other triggerer to take over", interval=0.5)
    finally:
        machine["triggerer-1"].signal_all(signal.SIGCONT)
    time.sleep(3)
    fleet.end_jobs()


def kill_scheduler(machine: Machine, fleet: Fleet) -> None:
    """Lose the scheduler while jobs end."""
    fleet.wait_deferred()
    machine["scheduler"].kill()
    fleet.end_jobs()
    time.sleep(5)
    machine["scheduler"].start()


def restart_redis(machine: Machine, fleet: Fleet) -> None:
    """Restart the broker while tasks are queued and created."""
    fleet.wait_created(0.3)
    machine["redis"].stop()
    time.sleep(2)
    machine["redis"].start()
    fleet.wait_deferred()
    fleet.end_jobs()


def restart_postgres(machine: Machine, fleet: Fleet) -> None:
    """Restart the metadata database while tasks wait and jobs end.

    Airflow's own processes end when they find no database; something has to start them again.
    """
    fleet.wait_deferred()
    with beside(fleet.end_jobs):
        machine.restart_postgres()
    for _ in range(30):
        machine.restart_ended()
        time.sleep(1)


def cut_network(machine: Machine, fleet: Fleet) -> None:
    """Cut the second triggerer off from the API while jobs end, then mend it."""
    fleet.wait_deferred()
    assert machine.proxy is not None
    machine.proxy.set_cut(True)
    fleet.end_jobs()
    time.sleep(CUT_SECONDS)
    machine.proxy.set_cut(False)


def by_hand(machine: Machine, fleet: Fleet) -> None:
    """Mark a third of the tasks failed, a third success and clear the rest, while they wait.

    The jobs of the first two thirds have to be cancelled, each task of the last joins its job again.
    """
    fleet.wait_deferred()
    failed, success, cleared = fleet.third(0), fleet.third(1), fleet.third(2)
    for state, indices in (("failed", failed), ("success", success)):
        for index in indices:
            path = f"/dags/fleet/dagRuns/{fleet.run_id}/taskInstances/tune/{index}"
            machine.client.request("PATCH", path, {"new_state": state})
            fleet.expected[index] = state
    machine.client.request(
        "POST",
        "/dags/fleet/clearTaskInstances",
        {
            "dry_run": False,
            "dag_run_id": fleet.run_id,
            "task_ids": [["tune", index] for index in cleared],
            "only_failed": False,
        },
    )

    def stopped() -> bool:
        jobs = fleet.jobs()
        return all(
            job["state"] == "JOB_STATE_CANCELLED" for index in (*failed, *success) for job in jobs[index]
        )

    def again() -> bool:
        now = fleet.instances()
        return all(now[index][0] == "deferred" for index in cleared)

    wait_until(stopped, timeout=120, what="the jobs of tasks ended by hand to be cancelled", interval=0.5)
    wait_until(again, timeout=300, what="the cleared tasks to wait again", interval=0.5)
    fleet.end_jobs(only=cleared)


@contextmanager
def half_each(machine: Machine, count: int) -> Iterator[None]:
    """Let no triggerer have room for many more than half of the tasks."""
    triggerers = [machine["triggerer-1"], machine["triggerer-2"]]
    for process in triggerers:
        process.restart(AIRFLOW__TRIGGERER__CAPACITY=str(count // 2 + 2))
    try:
        machine.wait_healthy()
        yield
    finally:
        for process in triggerers:
            process.restart()


@contextmanager
def next_version(machine: Machine, _: int) -> Iterator[None]:
    """Give a worker and a triggerer a provider whose triggers have one more argument."""
    package = REPOSITORY / "airflow_tuning_provider"
    later = machine.home / "later" / package.name
    if not later.exists():
        shutil.copytree(package, later, ignore=shutil.ignore_patterns("__pycache__"))
        with (later / "triggers" / "tuning_job.py").open("a") as module:
            module.write(LATER)
    updated = [machine["worker-1"], machine["triggerer-1"]]
    for process in updated:
        process.restart(PYTHONPATH=str(later.parent))
    try:
        machine.wait_healthy()
        yield
    finally:
        for process in updated:
            process.restart()


LATER = """

def _serialize(self, _before=TuningJobTrigger.serialize):
    path, arguments = _before(self)
    return path, {**arguments, "of_a_later_version": 1}


TuningJobTrigger.serialize = _serialize
"""


def upgrade(machine: Machine, fleet: Fleet) -> None:
    """Let either version's triggerer wait with triggers of either version, and end without the other."""
    fleet.wait_deferred()
    found = {(holder, "of_a_later_version" in arguments) for holder, arguments in machine.waiting()}
    if len(found) < 4:
        raise StepError(f"not every triggerer has triggers of both versions: {found}")
    for number, away in enumerate(("triggerer-1", "triggerer-2")):
        machine[away].stop()
        fleet.end_jobs(only=range(number, fleet.count, 3))
        fleet.wait_ended(only=range(number, fleet.count, 3))
        machine[away].start()
    fleet.end_jobs()


@contextmanager
def clocks_apart(machine: Machine, _: int) -> Iterator[None]:
    """Set the clocks of a worker and of a triggerer two minutes ahead."""
    # Airflow itself takes a triggerer for dead whose clock is behind by more than this; 30 s by default.
    patience = {"AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": str(5 * CLOCK_SECONDS)}
    off = clock_off_by(CLOCK_SECONDS, machine.home)
    machine["triggerer-1"].restart(**patience)
    machine["triggerer-2"].restart(**patience, **off)
    machine["worker-2"].restart(**off)
    try:
        machine.wait_healthy()
        yield
    finally:
        for name in ("triggerer-1", "triggerer-2", "worker-2"):
            machine[name].restart()


def miss_deadlines(machine: Machine, fleet: Fleet) -> None:
    """Let no job end: each has to be cancelled at its deadline, give or take the clocks' difference."""
    fleet.expected = dict.fromkeys(range(fleet.count), "failed")
    fleet.wait_ended()
    timeout = float(DEADLINE["timeout"])
    created = {job["name"]: _epoch(job["createTime"]) for jobs in fleet.jobs().values() for job in jobs}
    cancelled: dict[str, float] = {}
    for request in machine.emulator.requests():
        if request["method"] == "POST" and request["path"].endswith(":cancel"):
            name = request["path"].partition("/v1/")[2].removesuffix(":cancel")
            cancelled.setdefault(name, _epoch(request["time"]) - created[name] - timeout)
    off = sorted(cancelled.values())
    if set(cancelled) != set(created):
        raise StepError(f"{len(created) - len(cancelled)} jobs were not cancelled")
    print(f"          cancelled {off[0]:+.0f} s to {off[-1]:+.0f} s from their deadlines")
    if off[0] < -CLOCK_SECONDS - 5 or off[-1] > CLOCK_SECONDS + 5:
        raise StepError("deadlines are off by more than the clocks")


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


DEADLINE = {"timeout": 240}
ROWS = {
    "nothing": Row("nothing breaks", nothing),
    "worker": Row("SIGKILL of a worker while jobs are created", kill_worker),
    "workers": Row("SIGKILL of both workers in turn, the second while tasks resume", kill_both_workers),
    "triggerer": Row("SIGKILL of a triggerer, jobs end meanwhile", kill_triggerer),
    "stall": Row("a triggerer stalls until it is replaced, then wakes", stall_triggerer),
    "scheduler": Row("SIGKILL of the scheduler, jobs end meanwhile", kill_scheduler),
    "redis": Row("Redis restarts while jobs are created", restart_redis),
    "postgres": Row("PostgreSQL restarts, jobs end meanwhile", restart_postgres),
    "network": Row("a triggerer is cut off from the API for 3 minutes, jobs end meanwhile", cut_network),
    "hand": Row(
        "a third of the tasks are marked failed, a third success (their jobs are cancelled), a third cleared",
        by_hand,
        half_each,
    ),
    "upgrade": Row(
        "a worker and a triggerer run the next version of the provider, the others this one",
        upgrade,
        next_version,
    ),
    "clocks": Row(
        "clocks of a worker and a triggerer 2 minutes ahead; jobs outlast their deadline and are cancelled",
        miss_deadlines,
        clocks_apart,
        "deadline",
        DEADLINE,
    ),
}


def run_row(machine: Machine, row: Row, count: int) -> Result:
    """Run one row and look at what is left."""
    if ended := machine.restart_ended():
        print(f"          had ended by themselves, and were started again: {', '.join(ended)}", flush=True)
    machine.wait_healthy()
    with row.setting(machine, count):
        began = time.monotonic()
        fleet = Fleet(machine, count, row.dag_id, **row.conf)
        deviations = []
        try:
            row.action(machine, fleet)
            fleet.wait_ended()
        except (StepError, ApiError) as error:
            deviations.append(str(error))
            fleet.end_jobs()
    settled = lambda: "JOB_STATE_CANCELLING" not in {job["state"] for job in machine.emulator.jobs()}  # noqa: E731
    with suppress(StepError):
        wait_until(settled, timeout=60, what="cancellations to take effect", interval=0.5)
    jobs, states = fleet.jobs(), {index: state for index, (state, _) in fleet.instances().items()}
    every = [job for some in jobs.values() for job in some]
    orphans = [job["name"] for job in every if job["state"] not in ENDED]
    wrong = {i: states.get(i) for i, state in fleet.expected.items() if states.get(i) != state}
    if wrong:
        deviations.append(f"ended otherwise than expected: {wrong}")
    if len(every) != count or len(jobs) != count:
        more = {index: len(some) for index, some in jobs.items() if len(some) != 1}
        deviations.append(f"{len(every)} jobs for {count} tasks: {more}")
    if orphans:
        deviations.append(f"jobs that run on: {orphans}")
    duplicates = sum(len(some) - 1 for some in jobs.values())
    seconds = time.monotonic() - began
    return Result(
        row.name, count, len(every), duplicates, len(orphans), count - len(wrong), seconds, deviations
    )


def cells(r: Result) -> list[str]:
    """Return a row of the table."""
    name = r.name if not r.deviations else f"**{r.name}**"
    return [name, *map(str, (r.tasks, r.jobs, r.duplicates, r.orphans, r.right)), f"{r.seconds:.0f} s"]


def write(results: list[Result], figures: dict[str, str]) -> None:
    """Put the results into the documentation; rows that were not run stay there as they are."""
    rows = {row[0].strip("*"): row for row in [*report.cells(PAGE, "table"), *map(cells, results)]}
    report.put(
        PAGE, "table", *report.table(HEAD, [rows[row.name] for row in ROWS.values() if row.name in rows])
    )
    if figures:
        report.put(PAGE, "load", *load_table(figures))


def main() -> int:
    """Run the rows and return the exit status."""
    parser = argparse.ArgumentParser("python -m tests.proofs.distributed", description=__doc__)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, "load", []], help="default: all of them")
    parser.add_argument("--tasks", type=int, default=20, help="tasks of each row (default: %(default)s)")
    parser.add_argument(
        "--install", action="store_true", help="as root, apt-get install PostgreSQL and Redis"
    )
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    arguments = parser.parse_args()
    wanted = arguments.rows or [*ROWS, "load"]

    def terminated(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminated)
    results: list[Result] = []
    figures: dict[str, str] = {}
    failure = ""
    with tempfile.TemporaryDirectory(prefix="airflow-tuning-distributed-") as directory:
        began = time.monotonic()
        try:
            with Machine(Path(directory), Path(sys.executable), may_install=arguments.install) as machine:
                print(
                    f"{time.monotonic() - began:6.1f} s  everything is up (triggerers are replaced after ",
                    end="",
                )
                print(f"{HEALTH_THRESHOLD} s)", flush=True)
                for name in wanted:
                    if name == "load":
                        figures = load(machine)
                        continue
                    try:
                        result = run_row(machine, ROWS[name], arguments.tasks)
                    except UnavailableError as reason:
                        print(f"row {name} skipped: {reason}")
                        continue
                    results.append(result)
                    verdict = "; ".join(result.deviations) or "as expected"
                    counts = f"{result.tasks} tasks, {result.jobs} jobs, {result.seconds:.0f} s"
                    print(
                        f"{time.monotonic() - began:6.1f} s  {result.name} ({counts}): {verdict}", flush=True
                    )
        except UnavailableError as reason:
            print(f"skipped: {reason}")
            return 0
        except (StepError, ApiError, EmulatorError, OSError, KeyboardInterrupt) as error:
            failure = f"FAILED: {type(error).__name__} {error}"
    if results:
        print("", *report.table(HEAD, map(cells, results)), sep="\n")
    if figures:
        print("", *load_table(figures), sep="\n")
    if failure:
        print(failure)
    elif arguments.write:
        write(results, figures)
    return 1 if failure or any(result.deviations for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
