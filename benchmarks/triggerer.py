"""Measures many jobs that wait in one triggerer, with the emulator counting requests."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
from benchmarks.measure import ROOT, Figures

BODY = {
    "baseModel": "gemini-3.5-flash",
    "supervisedTuningSpec": {"trainingDatasetUri": "gs://bucket/a.jsonl"},
}
_CONCURRENT_CREATES = 4


class Jobs:
    """Running jobs on an emulator of their own; they end only when told to."""

    def __init__(self, count: int) -> None:
        # At speed 1 a job lasts longer than any measurement.
        self.emulator = Emulator(speed=1, datasets="skip").start()
        extra = {"project": "bench-project", "location": "us-central1", "api_endpoint": self.emulator.url}
        connection = json.dumps({"conn_type": "vertex_ai_tuning", "password": "a-token", "extra": extra})
        self.environment = {"AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": connection}
        os.environ |= self.environment
        with TuningJobHook() as hook, ThreadPoolExecutor(_CONCURRENT_CREATES) as pool:
            hook.open()
            self.names = [job["name"] for job in pool.map(hook.create_tuning_job, [BODY] * count)]

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, *_: object) -> None:
        self.emulator.stop()


def wait(
    jobs: Jobs,
    kind: str,
    *,
    interval: float,
    settle: float,
    quiet: float,
    ending: float,
    seconds: float,
    share: float,
    faulty: bool = False,
) -> Figures:
    """Let one triggerer wait for all jobs, and return what that took.

    :param kind: ``ours``, ``one-loop-per-job`` or ``empty``.
    :param interval: poll interval in seconds.
    :param settle: seconds before the measurement begins.
    :param quiet: seconds of the measurement in which no job ends; requests are counted in these.
    :param ending: seconds after them in which jobs end.
    :param seconds: seconds of the whole measurement; long enough to see the last of them end.
    :param share: share of the jobs that ends.
    :param faulty: let every fifth answer of the API be a 503.
    """
    with tempfile.TemporaryDirectory() as directory:
        names, out = Path(directory, "names"), Path(directory, "figures")
        names.write_text("\n".join(jobs.names))
        command = [sys.executable, "-m", "benchmarks.waiting", "--kind", kind, "--names", names, "--out", out]
        command += ["--interval", interval, "--settle", settle, "--seconds", seconds, "--quiet", quiet]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW__")}
        environment |= {"PYTHONPATH": str(ROOT), "AIRFLOW_HOME": directory, **jobs.environment}
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        watchdog = threading.Timer(settle + seconds + 300, process.kill)
        watchdog.start()
        stop = threading.Event()
        try:
            assert process.stderr is not None
            said = []
            for line in process.stderr:
                said.append(line)
                if "MEASURING" in line:
                    break
            first = jobs.emulator.last_request()
            if faulty:
                _in_background(lambda: _spoil(jobs.emulator, stop))
            time.sleep(quiet)
            requests = jobs.emulator.requests(first)
            ended: dict[str, float] = {}
            ender = _in_background(lambda: _end(jobs, share, ending, ended))
            process.stderr.read()
            process.wait()
            ender.join()
        finally:
            stop.set()
            watchdog.cancel()
            if process.poll() is None:
                process.kill()
        if process.returncode:
            raise RuntimeError(f"the measurement failed:\n{''.join(said)[-3000:]}")
        figures: dict[str, Any] = json.loads(out.read_text())
    events = figures.pop("events")
    delays = sorted(events[name] - moment for name, moment in ended.items() if name in events)
    figures["requests_an_hour"] = len(requests) / (quiet or 1.0) * 3600
    figures["ended"], figures["lost"] = len(ended), len(ended) - len(delays)
    figures["p50_seconds"] = _percentile(delays, 0.50)
    figures["p99_seconds"] = _percentile(delays, 0.99)
    for name in ended:
        jobs.emulator.set_state(name, "JOB_STATE_RUNNING")
    return figures


def _end(jobs: Jobs, share: float, seconds: float, ended: dict[str, float]) -> None:
    """Let a share of the jobs end, evenly over some seconds."""
    chosen = random.Random(1).sample(jobs.names, max(1, round(len(jobs.names) * share)))
    for name in chosen:
        time.sleep(seconds / len(chosen))
        jobs.emulator.set_state(name, "JOB_STATE_SUCCEEDED")
        ended[name] = time.time()


def _spoil(emulator: Emulator, stop: threading.Event) -> None:
    """Keep a fifth of all answers faulty: one 503 for every four requests that went well."""
    spoiled, start = 0, emulator.last_request()
    while not stop.wait(0.02):
        wanted = (emulator.last_request() - start) // 5 + 1
        if wanted > spoiled:
            emulator.fault(method="GET", times=wanted - spoiled, status=503)
            spoiled = wanted
    emulator.clear_faults()


def _in_background(target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def _percentile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))] if values else float("nan")
