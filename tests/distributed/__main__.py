"""``python -m tests.distributed``: break each part of a distributed Airflow while tuning tasks are under way.

For each row a run of the DAG ``fleet`` creates jobs at the emulator, one for each task; then something breaks,
the jobs end (every fifth fails for good), and every task has to end as its job did: with one job each, none
twice and none that runs on without a task.
"""

from __future__ import annotations

import argparse
import collections
import json
import signal
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from airflow_tuning_provider.emulator.testing import EmulatorError
from demo.services import REPOSITORY, StepError, wait_until
from demo.stack import ApiError
from tests.distributed.machine import (
    HEALTH_THRESHOLD,
    LOCATION,
    PROJECT,
    TOKEN,
    Machine,
    UnavailableError,
    beside,
)

PAGE = REPOSITORY / "docs" / "deployment.md"
BEGIN, END = "<!-- table: python -m tests.distributed --write -->", "<!-- end of table -->"
ENDED = ("JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED")
BROKEN_INPUT = {"code": 3, "message": "The dataset is malformed."}
Jobs = dict[int, list[dict[str, Any]]]


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


class Fleet:
    """A run of ``fleet``: tasks, and the jobs that belong to them."""

    def __init__(self, machine: Machine, count: int) -> None:
        self.machine, self.count = machine, count
        machine.emulator.reset()
        self.expected = dict.fromkeys(range(count), "success")
        """The state that each task has to end in; those whose job fails are set by :meth:`end_jobs`."""
        self.run_id = machine.client.trigger("fleet", conf={"count": count})

    def jobs(self) -> Jobs:
        """Return the jobs of each task, found by the label with its map index."""
        found: Jobs = collections.defaultdict(list)
        for job in self.machine.emulator.jobs():
            found[int(job["labels"]["airflow-map-index"])].append(job)
        return found

    def instances(self) -> dict[int, tuple[str | None, int | None]]:
        """Return state and triggerer of each task instance."""
        return self.machine.instances(self.run_id, "tune")

    def wait_created(self, share: float) -> None:
        """Wait until a part of the jobs has been created."""
        wanted = max(1, int(self.count * share))
        what = f"{wanted} jobs to be created"
        wait_until(lambda: len(self.machine.emulator.jobs()) >= wanted, timeout=240, what=what, interval=0.2)

    def wait_deferred(self, timeout: float = 300) -> None:
        """Wait until a triggerer watches for every task."""

        def watched() -> bool:
            now = self.instances()
            return len(now) == self.count and all(s == "deferred" and t for s, t in now.values())

        wait_until(watched, timeout=timeout, what="every task to be deferred", interval=0.5)

    def end_jobs(self, spare: tuple[int, ...] = (), *, well: bool = False) -> None:
        """End the jobs that are under way: every fifth fails for good unless all go well."""
        for index, jobs in self.jobs().items():
            for job in jobs:
                if index in spare or job["state"] in ENDED:
                    continue
                if index % 5 == 4 and not well:
                    self.expected[index] = "failed"
                    self.machine.emulator.set_state(job["name"], "JOB_STATE_FAILED", BROKEN_INPUT)
                else:
                    self.machine.emulator.set_state(job["name"], "JOB_STATE_SUCCEEDED")

    def wait_ended(self, timeout: float = 300) -> None:
        """Wait until every task has ended."""
        final = ("success", "failed", "upstream_failed", "skipped", "removed")

        def ended() -> bool:
            now = self.instances()
            return len(now) == self.count and all(state in final for state, _ in now.values())

        wait_until(ended, timeout=timeout, what=f"every task to end: {self.instances()}", interval=0.5)


Action = Callable[[Machine, Fleet], None]


class Row(NamedTuple):
    """A row of the table."""

    name: str
    action: Action


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
    # A retry of a failed job's task creates another job, by design, also where it was its worker that was lost.
    fleet.end_jobs(well=True)
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
    """Restart the metadata database while tasks wait and jobs end."""
    fleet.wait_deferred()
    with beside(fleet.end_jobs):
        machine.restart_postgres()


def cut_network(machine: Machine, fleet: Fleet) -> None:
    """Cut the second triggerer off from the API while jobs end, then mend it."""
    fleet.wait_deferred()
    assert machine.proxy is not None
    machine.proxy.set_cut(True)
    fleet.end_jobs()
    time.sleep(20)
    machine.proxy.set_cut(False)


def clear_tasks(machine: Machine, fleet: Fleet) -> None:
    """Clear a third of the tasks while they wait."""
    fleet.wait_deferred()
    by_hand = [["tune", index] for index in range(0, fleet.count, 3)]
    machine.client.request(
        "POST",
        "/dags/fleet/clearTaskInstances",
        {"dry_run": False, "dag_run_id": fleet.run_id, "task_ids": by_hand, "only_failed": False},
    )
    time.sleep(3)
    fleet.wait_deferred()
    fleet.end_jobs()


def end_by_hand(machine: Machine, fleet: Fleet, state: str) -> None:
    """Mark a third of the tasks while they wait; their jobs have to be cancelled."""
    fleet.wait_deferred()
    by_hand = tuple(range(0, fleet.count, 3))
    for index in by_hand:
        path = f"/dags/fleet/dagRuns/{fleet.run_id}/taskInstances/tune/{index}"
        machine.client.request("PATCH", path, {"new_state": state})
        fleet.expected[index] = state
    fleet.end_jobs(spare=by_hand)
    stopped = lambda: all(  # noqa: E731
        job["state"] == "JOB_STATE_CANCELLED" for index in by_hand for job in fleet.jobs()[index]
    )
    wait_until(stopped, timeout=60, what="the jobs of tasks ended by hand to be cancelled", interval=0.5)


def fail_by_hand(machine: Machine, fleet: Fleet) -> None:
    """Mark tasks failed."""
    end_by_hand(machine, fleet, "failed")


def succeed_by_hand(machine: Machine, fleet: Fleet) -> None:
    """Mark tasks success."""
    end_by_hand(machine, fleet, "success")


ROWS = {
    "nothing": Row("nothing breaks", nothing),
    "worker": Row("SIGKILL of a worker while jobs are created", kill_worker),
    "workers": Row("SIGKILL of both workers in turn, the second while tasks resume", kill_both_workers),
    "triggerer": Row("SIGKILL of a triggerer, jobs end meanwhile", kill_triggerer),
    "stall": Row("a triggerer stalls until it is replaced, then wakes", stall_triggerer),
    "scheduler": Row("SIGKILL of the scheduler, jobs end meanwhile", kill_scheduler),
    "redis": Row("Redis restarts while jobs are created", restart_redis),
    "postgres": Row("PostgreSQL restarts, jobs end meanwhile", restart_postgres),
    "network": Row("a triggerer is cut off from the API for 20 s, jobs end meanwhile", cut_network),
    "clear": Row("a third of the tasks are cleared while they wait", clear_tasks),
    "failed": Row("a third of the tasks are marked failed: jobs cancelled", fail_by_hand),
    "success": Row("a third of the tasks are marked success: jobs cancelled", succeed_by_hand),
}


def run_row(machine: Machine, row: Row, count: int) -> Result:
    """Run one row and look at what is left."""
    machine.wait_healthy()
    began = time.monotonic()
    fleet = Fleet(machine, count)
    deviations = []
    try:
        row.action(machine, fleet)
        fleet.wait_ended()
    except (StepError, ApiError) as error:
        deviations.append(str(error))
        fleet.end_jobs()
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


def load(machine: Machine, count: int) -> dict[str, str]:
    """Let many tasks wait at once and measure what they cost."""
    machine.wait_healthy()
    machine.emulator.reset()
    names = [_create(machine, number) for number in range(count)]
    began = time.monotonic()
    # Of the DAG's 200 watchers some share a job where there are fewer jobs.
    run_id = machine.client.trigger("watch", conf={"jobs": [names[i % count] for i in range(200)]})

    def claimed() -> bool:
        now = machine.instances(run_id, "wait")
        return len(now) == 200 and all(t for _, t in now.values())

    wait_until(claimed, timeout=300, what="every task to be claimed", interval=0.25)
    to_claim = time.monotonic() - began
    balance = machine.balance()
    connections = machine.sql("SELECT count(*) FROM pg_stat_activity WHERE datname = 'airflow'")[0][0]
    time.sleep(5)
    since, started = machine.emulator.last_request(), time.monotonic()
    time.sleep(20)
    requests = len(machine.emulator.requests(since)) / (time.monotonic() - started) * 60
    ended = time.time()
    for name in names:
        machine.emulator.set_state(name, "JOB_STATE_SUCCEEDED")
    setting = time.time() - ended

    def done() -> bool:
        return all(state == "success" for state, _ in machine.instances(run_id, "wait").values())

    wait_until(done, timeout=300, what="every task to succeed", interval=0.5)
    rows = machine.sql(
        "SELECT extract(epoch FROM end_date) FROM task_instance WHERE run_id = %s AND task_id = 'wait'",
        run_id,
    )
    delays = sorted(float(row[0]) - ended for row in rows if row[0])
    return {
        "deferred tasks": "200",
        "triggers of each triggerer": " and ".join(map(str, balance)),
        "from the start of the run until all were claimed": f"{to_claim:.0f} s",
        "connections to PostgreSQL, whole stack": str(connections),
        "requests per minute at the API (poll interval 1 s)": f"{requests:.0f}",
        f"from the end of the jobs (all within {setting:.1f} s) to that of the task: median": (
            f"{statistics.median(delays):.1f} s"
        ),
        "the same, slowest": f"{delays[-1]:.1f} s",
    }


def _create(machine: Machine, number: int) -> str:
    url = f"{machine.emulator.url}/v1/projects/{PROJECT}/locations/{LOCATION}/tuningJobs"
    spec = {"trainingDatasetUri": f"gs://bucket/{number}.jsonl"}
    body = json.dumps({"baseModel": "gemini-2.5-flash", "supervisedTuningSpec": spec}).encode()
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, body, headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        return str(json.load(answer)["name"])


def table(results: list[Result], figures: dict[str, str]) -> str:
    """Return the results in Markdown."""
    lines = ["| what breaks | tasks | jobs | duplicates | orphans | ended as their job did | time |"]
    lines.append("|---|---:|---:|---:|---:|---:|---:|")
    for r in results:
        name = r.name if not r.deviations else f"**{r.name}**"
        lines.append(
            f"| {name} | {r.tasks} | {r.jobs} | {r.duplicates} | {r.orphans} | {r.right} | {r.seconds:.0f} s |"
        )
    if figures:
        lines += [
            "",
            "| load | |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in figures.items()),
        ]
    return "\n".join(lines)


def write(text: str) -> None:
    """Put the table into the documentation."""
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


def main() -> int:
    """Run the rows and return the exit status."""
    parser = argparse.ArgumentParser("python -m tests.distributed", description=__doc__)
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
                        figures = load(machine, 200)
                        continue
                    result = run_row(machine, ROWS[name], arguments.tasks)
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
    print(f"\n{table(results, figures)}")
    if failure:
        print(failure)
    elif arguments.write:
        write(table(results, figures))
    return 1 if failure or any(result.deviations for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
