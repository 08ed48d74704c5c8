"""A thousand tuning tasks that wait at once: what they cost each part of a distributed Airflow."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from testbed import report
from testbed.services import StepError
from tests.proofs.distributed.fleet import Fleet
from tests.proofs.distributed.machine import Machine

TASKS = 1000
POLL_INTERVAL = 5  # of the DAGs
TRIGGERERS = ("triggerer-1", "triggerer-2")


def load(machine: Machine) -> dict[str, str]:
    """Let many tasks create a job each and wait at once, end the jobs, and return what that cost."""
    machine.wait_healthy()
    with claims_noted(machine) as to_claim:
        began = time.monotonic()
        fleet = Fleet(machine, TASKS, "load")
        fleet.wait_deferred(timeout=1800)
        until_claimed = time.monotonic() - began
    balance = machine.balance()
    connections = machine.sql("SELECT count(*) FROM pg_stat_activity WHERE datname = 'airflow'")[0][0]
    time.sleep(30)  # the first looks come early
    requests, busy = at_rest(machine)
    ended = {}
    for job in machine.emulator.jobs():
        machine.emulator.set_state(job["name"], "JOB_STATE_SUCCEEDED")
        ended[int(job["labels"]["airflow-map-index"])] = time.time()
    setting = max(ended.values()) - min(ended.values())

    fleet.wait_ended(timeout=1800)
    ends = machine.sql(
        "SELECT map_index, extract(epoch FROM end_date) FROM task_instance "
        "WHERE run_id = %s AND map_index >= 0 AND state = 'success'",
        fleet.run_id,
    )
    if len(ends) != TASKS:
        raise StepError(f"{TASKS - len(ends)} of {TASKS} tasks did not succeed")
    delays = sorted(float(end) - ended[index] for index, end in ends)
    claims = sorted(to_claim.values())
    return {
        "jobs at the API": f"{len(machine.emulator.jobs()):,}",
        "triggers of each triggerer": " and ".join(map(str, balance)),
        "from the start of the run until all tasks waited": f"{until_claimed:.0f} s",
        "from a task's deferral to the claim by a triggerer: median, slowest": (
            f"{statistics.median(claims):.1f} s, {claims[-1]:.1f} s"
        ),
        "connections to PostgreSQL, whole stack": str(connections),
        f"requests per minute at the API (poll interval {POLL_INTERVAL} s)": f"{requests:.0f}",
        "CPU seconds a minute of each triggerer, all of its processes": " and ".join(
            f"{seconds:.1f} s" for seconds in busy
        ),
        "from the end of the job to that of the task: median, slowest": (
            f"{statistics.median(delays):.1f} s, {delays[-1]:.1f} s (jobs ended within {setting:.1f} s)"
        ),
    }


def at_rest(machine: Machine) -> tuple[float, list[float]]:
    """Return the requests at the API and the processor seconds of each triggerer in a minute of waiting."""
    since, started = machine.emulator.last_request(), time.monotonic()
    before = [machine[name].processor_seconds() for name in TRIGGERERS]
    time.sleep(60)
    busy = [machine[name].processor_seconds() - was for name, was in zip(TRIGGERERS, before, strict=True)]
    return len(machine.emulator.requests(since)) / (time.monotonic() - started) * 60, busy


@contextmanager
def claims_noted(machine: Machine) -> Iterator[dict[int, float]]:
    """Note for each trigger the seconds from its creation to its claim, give or take a quarter of one."""
    seconds: dict[int, float] = {}
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.25):
            rows = machine.sql(
                "SELECT id, extract(epoch FROM clock_timestamp() - created_date) FROM trigger "
                "WHERE triggerer_id IS NOT NULL"
            )
            for number, age in rows:
                seconds.setdefault(number, float(age))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seconds
    finally:
        stop.set()
        thread.join()


def table(figures: dict[str, str]) -> list[str]:
    """Return the lines of a table of the figures."""
    return report.table((f"{TASKS:,} tuning tasks wait at once", ""), figures.items())
