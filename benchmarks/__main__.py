"""Print, and write to ``benchmarks/results.md``, what waiting and parsing cost beside other ways.

    python -m benchmarks [--quick] [--runs N] [--only ROW ...] [--peers PYTHON]

``make bench`` installs the peers into an environment of their own and names it with ``--peers``; without it
the rows show our own figures alone. ``--quick`` runs a small version of each row, to see that the benchmark
works: its figures mean nothing, and it writes no file.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import platform
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import Figures, in_process, medians
from benchmarks.share import STEPS as SHARE_STEPS

OURS = [
    "airflow_tuning_provider.operators.tuning_job",
    "airflow_tuning_provider.sensors.tuning_job",
    "airflow_tuning_provider.triggers.tuning_job",
]
GOOGLE_OPERATOR = "airflow.providers.google.cloud.operators.gen_ai"
GOOGLE_TRIGGERS = "airflow.providers.google.cloud.triggers.vertex_ai"
LOOP = "one-loop-per-job"
RESULTS = Path(__file__).parent / "results.md"

REQUESTS = {1: "≤ 720", 100: "≤ 720", 1_000: "≤ 900", 10_000: "≤ 6,100"}


class Row(NamedTuple):
    """A line of the table."""

    measure: str
    ours: str
    other: str = "–"
    ratio: str = "–"
    target: str = ""


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
        what = "import of operators + sensor + trigger, over `airflow.sdk`"
        yield Row(what, _cost(ours), target="≤ 40 ms, ≤ 3 MB")
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
                yield Row(f"the same for {name}", _cost(ours), _cost(theirs), ratio, "≥ 30 ×")

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
        what = "installed over `apache-airflow`, ourselves aside"
        yield Row(what, ours_text, other, ratio, "≤ 10 packages, ≤ 15 MB")

    def worker(self) -> Iterator[Row]:
        """Worker time of a job, and the time from its end to the next task, on a real Airflow."""
        seconds, jobs = (15, 1) if self.quick else (330, 8)
        python = self.peers or sys.executable
        result = in_process("benchmarks.worker", seconds, jobs, python=python, timeout=seconds + 1800)
        ours, theirs = result["ours"], result.get("google")
        held = f"{ours['worker_seconds']:.1f} s"
        held_row = Row(
            f"worker time held by a job of {ours['job_seconds'] / 60:.1f} min", held, target="≤ 5 s"
        )
        if theirs:
            whole = (
                f"{theirs['worker_seconds']:.0f} s (Google's operator: the whole job, 3,600 s for one of 1 h)"
            )
            held_row = held_row._replace(
                other=whole, ratio=f"{theirs['worker_seconds'] / ours['worker_seconds']:.0f} ×"
            )
        yield held_row
        empty = f"{result['empty']['worker_seconds']:.1f} s (an empty deferrable operator)"
        yield Row("the same for an operator that does nothing but defer", held, empty)
        what = f"1 job: from its end to the next task's start, mean of {jobs}"
        delay = ours["legs"]["all"]
        row = Row(what, f"{delay:.1f} s", target="≤ 12 s, and half of Google's")
        if theirs:
            other = theirs["legs"]["all"]
            row = row._replace(other=f"{other:.1f} s (Google's operator)", ratio=f"{other / delay:.1f} ×")
        yield row
        for name in ("ours", "sensor", "triggered-sensor"):
            legs = {leg: seconds for leg, seconds in result[name]["legs"].items() if leg != "all"}
            text = ", ".join(f"{leg} {seconds:.1f}" for leg, seconds in legs.items())
            whole = f"{result[name]['legs']['all']:.1f} s: {text}"
            yield Row(f"1 job: where these seconds go, {_WAYS[name]}", whole)

    def fleet(self) -> Iterator[Row]:
        """The time from a job's end to the next task, where many wait at once on a real Airflow."""
        jobs, seconds = (3, 20) if self.quick else (100, 900)
        result = in_process("benchmarks.worker", "fleet", jobs, seconds, timeout=seconds + 40 * jobs + 900)
        what = f"{jobs} jobs that end at random moments: from an end to the next task's start, mean / largest"
        yield Row(what, f"{result['mean']:.1f} s / {result['largest']:.1f} s", target="≤ 15 s")

    def share(self) -> Iterator[Row]:
        """Our own share of a worker's time, step by step."""
        runs = [in_process("benchmarks.share") for _ in range(self.runs)]
        create, resume = (medians([run[key] for run in runs]) for key in ("create", "resume"))
        for name, of in (("create", create), ("resume", resume)):
            text = ", ".join(f"{step} {of[step]:.0f}" for step in SHARE_STEPS)
            yield Row(
                f"our share of a worker's time, {name}",
                f"{of['all']:.0f} ms: {text}; {of['requests']:.0f} requests",
            )
        whole = (create["all"] + resume["all"]) / 1000
        yield Row("our share of a worker's time, in sum", f"{whole:.2f} s", target="≤ 0.3 s")

    def waiting(self) -> Iterator[Row]:
        """Many jobs that wait in one triggerer."""
        from benchmarks.triggerer import Jobs

        with contextlib.ExitStack() as stack:
            jobs = {count: stack.enter_context(Jobs(count)) for count in self.sizes}
            # All sizes together take a tenth of a core, so they wait side by side, each with its own emulator.
            with ThreadPoolExecutor(len(jobs)) as pool:
                runs = [
                    list(pool.map(lambda one: self._wait(one, "ours"), jobs.values()))
                    for _ in range(self.runs)
                ]
            ours = {count: medians(of) for count, of in zip(jobs, zip(*runs, strict=True), strict=True)}
            # The other way is measured once a size, the largest by itself: that takes more than a core.
            beside = [count for count in self.sizes if 100 <= count < 10_000]
            with ThreadPoolExecutor(len(beside)) as pool:
                found = list(pool.map(lambda count: self._wait(jobs[count], LOOP), beside))
            loops = dict(zip(beside, found, strict=True))
            loops |= {count: self._wait(one, LOOP) for count, one in jobs.items() if count >= 10_000}
            # Triggers that wait for nothing: what is beyond them is what waiting takes.
            idle = {count: self._wait(jobs[count], "empty") for count in (self.sizes[0], self.sizes[-1])}
        for count in self.sizes:
            yield from self._waiting(
                count, ours[count], loops.get(count), idle.get(count), idle[self.sizes[0]]
            )
        yield from self._growth(ours, loops)

    def _waiting(
        self, count: int, ours: Figures, loop: Figures | None, empty: Figures | None, idle: Figures
    ) -> Iterator[Row]:
        what = f"{count:,} waiting job{'s' if count > 1 else ''}"

        def row(name: str, text: Callable[[Figures], str], key: str | None = None, target: str = "") -> Row:
            ratio = f"{loop[key] / max(ours[key], 1e-9):.1f} ×" if loop and key else "–"
            return Row(f"{what}: {name}", text(ours), text(loop) if loop else "–", ratio, target)

        yield row(
            "API requests an hour, default settings",
            lambda f: f"{f['requests_an_hour']:,.0f}",
            "requests_an_hour",
            REQUESTS.get(count, ""),
        )
        yield row(
            "kilobytes received a minute",
            lambda f: f"{f['kilobytes_a_minute']:,.0f} kB",
            "kilobytes_a_minute",
        )
        yield row(
            "CPU seconds a minute",
            lambda f: f"{f['cpu_seconds_a_minute']:.2f} s",
            "cpu_seconds_a_minute",
            "≤ 15 s" if count >= 10_000 else "",
        )
        if loop:
            alone = idle["cpu_seconds_a_minute"]
            mine, theirs = (max(f["cpu_seconds_a_minute"] - alone, 0.01) for f in (ours, loop))
            yield Row(
                f"{what}: the same beyond what an idle triggerer takes",
                f"{mine:.2f} s",
                f"{theirs:.2f} s",
                f"{theirs / mine:.1f} ×",
                "≤ 1.0 s" if count >= 10_000 else "",
            )
        yield row("memory of the triggerer's process", lambda f: f"{f['megabytes']:.0f} MB", "megabytes")
        if empty and count >= 1_000:  # of fewer, what is loaded once would be most
            beyond = [
                (f["megabytes"] - empty["megabytes"]) * 1000 / count if f else None for f in (ours, loop)
            ]
            texts = [f"{each:.1f} kB" if each is not None else "–" for each in beyond]
            yield Row(f"{what}: memory for each job beyond an empty trigger's", *texts, target="≤ 10 kB")
        yield row("largest break of the event loop", _largest_gap, target="≤ 100 ms")
        wall = "largest stop of the event loop on the wall's clock (a quiet machine's figure)"
        yield row(wall, lambda f: f"{f['largest_gap_on_the_wall_ms']:.0f} ms", target="≤ 100 ms")
        yield row("job's end to trigger's event, p50 / p99", _delays, target="p99 ≤ 61 s")

    def _growth(self, ours: dict[int, Figures], loops: dict[int, Figures]) -> Iterator[Row]:
        sizes = [count for count in self.sizes if count >= 100]

        def each(of: dict[int, Figures], key: str, scale: float, digits: int) -> str:
            return " → ".join(f"{of[count][key] * scale / count:,.{digits}f}" for count in sizes)

        what = f"growth, {' → '.join(f'{count:,}' for count in sizes)} jobs"
        for name, key, scale, digits in (
            ("CPU milliseconds a minute for each job", "cpu_seconds_a_minute", 1000, 2),
            ("API requests an hour for each job", "requests_an_hour", 1, 2),
        ):
            yield Row(
                f"{what}: {name}",
                each(ours, key, scale, digits),
                each(loops, key, scale, digits),
                target="flat or falling",
            )

    def faults(self) -> Iterator[Row]:
        """The same with a fifth of all answers faulty."""
        from benchmarks.triggerer import Jobs

        count = self.sizes[-1]
        with Jobs(count) as jobs:
            figures = self._wait(jobs, "ours", faulty=True)
        what = f"{count:,} waiting jobs, 20 % faulty answers: job's end to trigger's event, p50 / p99"
        yield Row(what, _delays(figures), target="p99 ≤ 121 s, none lost")

    def evaluator(self) -> Iterator[Row]:
        """What the evaluator takes for an example besides the answers."""
        for count in (200,) if self.quick else (1_000, 50_000):
            ours = medians([in_process("benchmarks.evaluator", count) for _ in range(self.runs)])
            loop = medians([in_process("benchmarks.evaluator", count, "loop") for _ in range(self.runs)])
            what = f"evaluation of {count:,} examples whose answers come at once"
            both = ours["asking_ms"] + ours["comparing_ms"]
            yield Row(
                f"{what}: overhead for an example, its two answers kept and compared",
                f"{both:.2f} ms ({ours['asking_ms']:.2f} asking, {ours['comparing_ms']:.2f} comparing)",
                f"{loop['asking_ms']:.3f} ms (a loop that keeps nothing)",
                target="≤ 5 ms",
            )
            yield Row(f"{what}: memory", f"{ours['megabytes']:.0f} MB", target="≤ 60 MB")

    def validator(self) -> Iterator[Row]:
        """Check of a data set, beside decoding it and nothing else."""
        from benchmarks.validator import data_set, measure

        lines = 100_000 if self.quick else 10_000_000
        for what, count, characters in (
            (f"{lines:,} short lines", lines, 60),
            (f"{lines // 10:,} lines of 1 kB", lines // 10, 950),
        ):
            with data_set(count, characters) as path:
                runs = [measure(path) for _ in range(self.runs)]
            ours = medians([run["ours"] for run in runs])
            bare = medians([run["bare"] for run in runs])
            share = bare["seconds"] / ours["seconds"]
            size = ours["bytes"] / 1e6

            def speed(figures: Figures, size: float = size) -> str:
                return f"{figures['seconds']:.1f} s, {size / figures['seconds']:,.0f} MB/s"

            yield Row(
                f"validation of {what} ({size:,.0f} MB), duplicates included; beside a bare typed msgspec decode",
                speed(ours),
                speed(bare),
                f"{share:.0%} of its speed",
                "≥ 50 %",
            )
            yield Row(
                f"validation of {what}: peak memory",
                f"{ours['megabytes']:.0f} MB",
                f"{bare['megabytes']:.0f} MB",
                target="≤ 250 MB",
            )

    def _wait(self, jobs: object, kind: str, *, faulty: bool = False) -> Figures:
        from benchmarks.triggerer import Jobs, wait

        assert isinstance(jobs, Jobs)
        quiet = 0.0 if faulty else self.interval * 2
        # Faulty answers may take a second look, so the last of the ends is seen an interval later.
        looks = 2 if faulty else 1
        return wait(
            jobs,
            kind,
            interval=self.interval,
            settle=self.interval * 1.25,  # the first looks come early
            quiet=quiet,
            ending=self.interval,
            seconds=quiet + self.interval * (1 + looks) + 10,
            share=0.05 if len(jobs.names) > 100 else 1.0,
            faulty=faulty,
        )


ROWS = ("imports", "installed", "share", "worker", "fleet", "waiting", "faults", "validator", "evaluator")
_WAYS = {
    "ours": "deferrable operator",
    "sensor": "deferrable sensor",
    "triggered-sensor": "sensor that starts and ends in the triggerer",
}


def _delays(figures: Figures) -> str:
    return (
        f"{figures['p50_seconds']:.1f} / {figures['p99_seconds']:.1f} s, "
        f"{figures['lost']:.0f} of {figures['ended']:.0f} lost"
    )


def _largest_gap(figures: Figures) -> str:
    ours, all_in_all = figures["largest_gap_without_collector_ms"], figures["largest_gap_ms"]
    text = f"{ours:.0f} ms" if ours > 20 else "below 20 ms"
    return f"{text}; with the garbage collector {all_in_all:.0f} ms" if all_in_all > ours + 20 else text


def _cost(figures: Figures) -> str:
    return (
        f"{figures['milliseconds']:,.0f} ms, {figures['megabytes']:.1f} MB, {figures['modules']:.0f} modules"
    )


def _table(rows: list[Row]) -> str:
    lines = ["| measure | ours | the other way | ratio | ours must be |", "|---|---|---|---|---|"]
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
            sys.stdout.write(f"{row.measure}: {row.ours} (other: {row.other}, ratio {row.ratio})\n")
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
- A *break of the event loop* is a time in which its thread computed without letting other triggers run. Python's
  garbage collector goes through all objects of the process once in a while, Airflow's and every trigger's, and
  stops it for that long, whoever waits in it and in whichever way. The wall's clock also counts what other threads
  and other processes take, so that it says something of a quiet machine only.
- An *idle triggerer* has one trigger that waits for nothing, and takes what the measurement itself takes: the event
  loop is timed a hundred times a second. Memory is compared with as many such triggers as there are jobs.
- *Waiting jobs* run in Airflow's own `TriggerRunner` at the default `poll_interval` of 60 s, in the steady state, for
  two minutes, in which requests and bytes are counted, and then for two more, in which one job in twenty (all of up
  to 100) ends. The other way is one poll loop for each job with a blocking client in `asyncio.to_thread`
  (`benchmarks/one_loop_per_job.py`), as most providers wait; it is measured once for each size.
- Bytes received include headers. The emulator compresses as Google does, and never indents.
- *Where these seconds go*: from the job's end to the request that shows it (poll), until the trigger's event is in the
  database (trigger's event; for the sensor that ends there, until it has ended), until the scheduler queues the task
  (scheduler), until our code asks for the job (worker's start), until the task has ended (our code), until the next
  task has started (next task).
- *Worker time* is what the REST API shows as `running`, sampled five times a second. *Our share* is measured in
  processes that have loaded what every task loads (`benchmarks/share.py`), with a service account's key.
- *Validation*: of one file, by one process, in processor time, each in a process of its own: what the bare decode does
  is to read lines and to decode each into typed structs, no check of turns, keys, duplicates or tokens. The file has
  no duplicates, so nothing is read twice.
- The process's memory includes Airflow itself, about 130 MB.
"""

if __name__ == "__main__":
    main()
