"""One Airflow ``TriggerRunner`` with many jobs that wait; run as a process of its own.

    python -m benchmarks.waiting --kind ours --names FILE --out FILE --interval 60 --seconds 120

Writes JSON: CPU, memory, gaps of the event loop, and when each event came. Says on standard error when the
measurement begins.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import resource
import socket
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.import_cost import resident_megabytes

_TICK = 0.01


class Wire:
    """Adds up the bytes that this process receives, headers included; plain HTTP only."""

    def __init__(self) -> None:
        self.received = 0
        real = socket.SocketIO.readinto
        wire = self

        def readinto(file: socket.SocketIO, buffer: Any) -> int | None:
            read = real(file, buffer)
            wire.received += read or 0
            return read

        socket.SocketIO.readinto = readinto  # type: ignore[method-assign]


class Collector:
    """Adds up the processor time of Python's garbage collector, which stops the event loop while it runs."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0
        gc.callbacks.append(self._note)

    def _note(self, phase: str, _: dict[str, int]) -> None:
        now = time.thread_time()
        if phase == "start":
            self._began = now
        else:
            self.seconds += now - self._began


async def watch_gaps(gaps: list[float], without_collector: list[float], on_the_wall: list[float]) -> None:
    """Note when the event loop let this coroutine wait longer than it asked for, and was busy meanwhile.

    On a machine that does other things too, a gap in wall-clock time says little: what counts is how long the
    loop's own thread computed without a break, all in all and without the garbage collector. On a quiet one, the
    clock on the wall also shows where other threads of the process held it up.
    """
    collector = Collector()
    while True:
        before, busy, collected = time.perf_counter(), time.thread_time(), collector.seconds
        await asyncio.sleep(_TICK)
        late = time.perf_counter() - before - _TICK
        on_the_wall.append(late)
        gap = min(late, time.thread_time() - busy)
        if gap > 0.02:
            gaps.append(gap)
            without_collector.append(gap - (collector.seconds - collected))


def workload(index: int, name: str, kind: str, interval: float) -> Any:
    """Return what the triggerer hands to its runner for one deferred task."""
    from airflow.executors.workloads import RunTrigger
    from airflow.models.trigger import Trigger

    path, kwargs = _trigger(name, kind, interval).serialize()
    return RunTrigger(id=index, ti=None, classpath=path, encrypted_kwargs=Trigger.encrypt_kwargs(kwargs))


def _trigger(name: str, kind: str, interval: float) -> Any:
    if kind == "empty":
        from benchmarks.one_loop_per_job import EmptyTrigger

        return EmptyTrigger()
    if kind == "ours":
        from airflow_tuning_provider.triggers.tuning_job import TuningJobTrigger as Waiting
    else:
        from benchmarks.one_loop_per_job import OneLoopPerJobTrigger as Waiting  # type: ignore[assignment]
    return Waiting(
        tuning_job_name=name,
        poll_interval=interval,
        end_time=time.time() + 86400,
        gcp_conn_id="google_cloud_default",
    )


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Start all triggers, let them settle, and measure."""
    from airflow.jobs.triggerer_job_runner import TriggerRunner

    names = options.names.split()
    wire = Wire()
    runner = TriggerRunner()  # Airflow's own; its events are taken here instead of by a supervisor
    for index, name in enumerate(names, 1):
        runner.to_create.append(workload(index, name, options.kind, options.interval))
    began = time.monotonic()
    await runner.create_triggers()
    # The first looks come early; what is measured is the steady state after them.
    await asyncio.sleep(options.settle)
    gaps: list[float] = []
    without_collector: list[float] = []
    on_the_wall: list[float] = []
    watcher = asyncio.create_task(watch_gaps(gaps, without_collector, on_the_wall))
    sys.stderr.write("MEASURING\n")
    sys.stderr.flush()
    cpu, start, start_wall = time.process_time(), time.monotonic(), time.time()
    received = wire.received
    received_quietly = 0.0
    events: dict[str, float] = {}
    while time.monotonic() - start < options.seconds:
        await asyncio.sleep(0.05)
        if not received_quietly and time.monotonic() - start >= options.quiet:
            received_quietly = (wire.received - received) / (time.monotonic() - start) * 60
        while runner.events:
            event = runner.events.popleft()[1]
            events[event.payload["name"]] = time.time()
    spent = time.process_time() - cpu
    watcher.cancel()
    elapsed = time.monotonic() - start
    for details in runner.triggers.values():
        details["task"].cancel()
    await asyncio.wait([details["task"] for details in runner.triggers.values()])
    return {
        "jobs": len(names),
        "cpu_seconds_a_minute": spent / elapsed * 60,
        "kilobytes_a_minute": received_quietly / 1000,
        "megabytes": resident_megabytes(),
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        "largest_gap_ms": max(gaps, default=0.0) * 1000,
        "largest_gap_on_the_wall_ms": max(on_the_wall, default=0.0) * 1000,
        "largest_gap_without_collector_ms": max(without_collector, default=0.0) * 1000,
        "started_in": start - began - options.settle,
        "measured_from": start_wall,
        "events": events,
    }


def main() -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", choices=["ours", "one-loop-per-job", "empty"], required=True)
    parser.add_argument("--names", required=True, help="file with the jobs' names")
    parser.add_argument("--out", required=True, help="file for the figures")
    parser.add_argument("--interval", type=float, default=60.0)
    parser.add_argument("--settle", type=float, default=100.0, help="seconds before the measurement")
    parser.add_argument("--quiet", type=float, default=0.0, help="seconds of it in which no job ends")
    parser.add_argument("--seconds", type=float, default=120.0, help="seconds of the measurement")
    import logging

    import structlog

    # Airflow's triggerer writes each line to the task's own log; here they would only be noise.
    logging.disable(logging.WARNING)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    options = parser.parse_args()
    options.names = Path(options.names).read_text()
    Path(options.out).write_text(json.dumps(asyncio.run(measure(options))))


if __name__ == "__main__":
    main()
