"""Print, and write to ``benchmarks/results.md``, what waiting and parsing cost beside other ways.

    python -m benchmarks [--quick] [--runs N] [--only ROW ...] [--peers PYTHON]

``make bench`` installs the peers into an environment of their own and names it with ``--peers``; without it
the rows show our own figures alone. ``--quick`` runs a small version of each row, to see that the benchmark
works: its figures mean nothing, and it writes no file.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

from benchmarks.measure import Figures, in_process, medians

OURS = [
    "airflow_tuning_provider.operators.tuning_job",
    "airflow_tuning_provider.sensors.tuning_job",
    "airflow_tuning_provider.triggers.tuning_job",
]
GOOGLE_OPERATOR = "airflow.providers.google.cloud.operators.gen_ai"
GOOGLE_TRIGGERS = "airflow.providers.google.cloud.triggers.vertex_ai"
LOOP = "one-loop-per-job"
RESULTS = Path(__file__).parent / "results.md"

Row = tuple[str, str, str, str]
"""Measure, ours, the other way, ratio."""


class Bench:
    """The rows, with how much to measure."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.runs = 1 if options.quick else options.runs
        self.peers: str | None = options.peers
        self.quick: bool = options.quick
        self.sizes = [1, 100] if options.quick else [1, 100, 1_000, 5_000, 10_000]
        self.interval = 4.0 if options.quick else options.interval

    def imports(self) -> Iterator[Row]:
        """Import of operators, sensor and trigger over Airflow's SDK."""
        ours = medians([in_process("benchmarks.import_cost", *OURS) for _ in range(self.runs)])
        yield "import of operators + sensor + trigger, over `airflow.sdk`", _cost(ours), "–", "–"
        for name, module in (
            ("Google's operator", GOOGLE_OPERATOR),
            ("Google's Vertex AI triggers", GOOGLE_TRIGGERS),
        ):
            if self.peers:
                runs = [
                    in_process("benchmarks.import_cost", module, python=self.peers) for _ in range(self.runs)
                ]
                theirs = medians(runs)
                ratio = ", ".join(
                    f"{theirs[key] / max(ours[key], 0.001):.0f} ×"
                    for key in ("milliseconds", "megabytes", "modules")
                )
                yield f"the same for {name}", _cost(ours), _cost(theirs), ratio

    def installed(self) -> Iterator[Row]:
        """Packages and megabytes over apache-airflow."""
        ours = in_process("benchmarks.installed", "airflow-tuning-provider")
        ours_text, other, ratio = f"{ours['packages']} packages, {ours['megabytes']:.1f} MB", "–", "–"
        if self.peers:
            theirs = in_process(
                "benchmarks.installed", "apache-airflow-providers-google", "own", python=self.peers
            )
            other = f"{theirs['packages']} packages, {theirs['megabytes']:,.0f} MB (Google's provider)"
            ratio = f"{theirs['packages'] / ours['packages']:.0f} ×, {theirs['megabytes'] / ours['megabytes']:.0f} ×"
        yield "installed over `apache-airflow`, ourselves aside", ours_text, other, ratio

    def worker(self) -> Iterator[Row]:
        """Worker time of a job, and the time from its end to the next task, on a real Airflow."""
        seconds = 15 if self.quick else 330
        python = self.peers or sys.executable
        result = in_process("benchmarks.worker", seconds, python=python, timeout=seconds + 600)
        ours, theirs = result["ours"], result.get("google")
        held = f"{ours['worker_seconds']:.1f} s"
        delay = f"{ours['end_to_next_task']:.1f} s"
        if theirs:
            yield (
                f"worker time held by a job of {ours['job_seconds'] / 60:.1f} min",
                held,
                f"{theirs['worker_seconds']:.0f} s (Google's operator: the whole job, 3,600 s for one of 1 h)",
                f"{theirs['worker_seconds'] / ours['worker_seconds']:.0f} ×",
            )
            yield (
                "from the job's end to the next task's start",
                delay,
                f"{theirs['end_to_next_task']:.1f} s (Google's operator)",
                f"{theirs['end_to_next_task'] / ours['end_to_next_task']:.1f} ×",
            )
        else:
            yield f"worker time held by a job of {ours['job_seconds'] / 60:.1f} min", held, "–", "–"
            yield "from the job's end to the next task's start", delay, "–", "–"

    def waiting(self) -> Iterator[Row]:
        """Many jobs that wait in one triggerer."""
        from benchmarks.triggerer import Jobs

        for count in self.sizes:
            with Jobs(count) as jobs:
                yield from self._waiting(count, lambda kind, jobs=jobs: self._wait(jobs, kind))  # type: ignore[misc]

    def _waiting(self, count: int, wait: Callable[[str], Figures]) -> Iterator[Row]:
        ours = medians([wait("ours") for _ in range(self.runs)])
        # The other way is measured once a size: it is slow, and its figures are far away.
        loop = wait(LOOP) if count >= 100 else None
        what = f"{count:,} waiting jobs"

        def row(name: str, text: Callable[[Figures], str], key: str | None = None) -> Row:
            ratio = f"{loop[key] / max(ours[key], 1e-9):.1f} ×" if loop and key else "–"
            return f"{what}: {name}", text(ours), text(loop) if loop else "–", ratio

        yield row(
            "API requests an hour at 60 s", lambda f: f"{f['requests_an_hour']:,.0f}", "requests_an_hour"
        )
        yield row(
            "CPU seconds a minute", lambda f: f"{f['cpu_seconds_a_minute']:.2f} s", "cpu_seconds_a_minute"
        )
        yield row("memory of the triggerer's process", lambda f: f"{f['megabytes']:.0f} MB", "megabytes")
        yield row(
            "largest break of the event loop",
            lambda f: f"{f['largest_gap_ms']:.0f} ms" if f["largest_gap_ms"] else "below 20 ms",
        )
        yield row(
            "job's end to trigger's event, p50 / p99",
            lambda f: f"{f['p50_intervals']:.2f} / {f['p99_intervals']:.2f} intervals, {f['lost']:.0f} lost",
        )

    def faults(self) -> Iterator[Row]:
        """The same with a fifth of all answers faulty."""
        from benchmarks.triggerer import Jobs

        count = self.sizes[-1]
        with Jobs(count) as jobs:
            figures = self._wait(jobs, "ours", faulty=True)
        yield (
            f"{count:,} waiting jobs, 20 % faulty answers: p50 / p99",
            f"{figures['p50_intervals']:.2f} / {figures['p99_intervals']:.2f} intervals, {figures['lost']:.0f} lost",
            "–",
            "–",
        )

    def _wait(self, jobs: object, kind: str, *, faulty: bool = False) -> Figures:
        from benchmarks.triggerer import Jobs, wait

        assert isinstance(jobs, Jobs)
        # Jobs are looked at more often until they are as old as an interval.
        settle = self.interval * 2.2
        return wait(
            jobs,
            kind,
            interval=self.interval,
            settle=settle,
            seconds=self.interval * 3 + 5,
            share=0.05 if len(jobs.names) > 100 else 1.0,
            faulty=faulty,
        )


ROWS = ("imports", "installed", "worker", "waiting", "faults")


def _cost(figures: Figures) -> str:
    return (
        f"{figures['milliseconds']:,.0f} ms, {figures['megabytes']:.1f} MB, {figures['modules']:.0f} modules"
    )


def _table(rows: list[Row]) -> str:
    lines = ["| measure | ours | the other way | ratio |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def main() -> None:
    """Run the rows that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small version of each row")
    parser.add_argument("--runs", type=int, default=3, help="runs whose median is shown (default 3)")
    parser.add_argument("--interval", type=float, default=60.0, help="poll interval of the waiting jobs")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--peers", help="Python of an environment that has Google's provider")
    options = parser.parse_args()
    bench = Bench(options)
    rows: list[Row] = []
    for name in options.only:
        for row in getattr(bench, name)():
            rows.append(row)
            sys.stdout.write(f"{row[0]}: {row[1]} (other: {row[2]}, ratio {row[3]})\n")
            sys.stdout.flush()
    table = _table(rows)
    sys.stdout.write(f"\n{table}\n")
    if not options.quick and set(options.only) == set(ROWS):
        RESULTS.write_text(f"{_preface(bench)}\n\n{table}\n\n{_NOTES}")
        sys.stdout.write(f"\nwritten to {RESULTS.relative_to(Path.cwd())}\n")


def _preface(bench: Bench) -> str:
    return (
        f"# Benchmark\n\n`make bench` on {datetime.date.today()}: Airflow {version('apache-airflow')}, Python "
        f"{platform.python_version()}, {os.cpu_count()} cores, medians of {bench.runs} runs. The emulator runs on the "
        "same machine."
    )


_NOTES = """\
- A *break of the event loop* is a time in which its thread computed without letting other triggers run.
- *Waiting jobs* run in Airflow's own `TriggerRunner`, in the steady state, for three poll intervals.
  The other way is one poll loop for each job with a blocking client in `asyncio.to_thread`
  (`benchmarks/one_loop_per_job.py`), as most providers wait; it is measured once for each size.
- *Intervals* are poll intervals: a job that ends right after a look is seen one interval later.
- *Worker time* is what the REST API shows as `running`, sampled ten times a second.
- The process's memory includes Airflow itself, about 130 MB.
"""

if __name__ == "__main__":
    main()
