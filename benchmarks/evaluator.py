"""What the evaluator itself takes for an example: two answers that come at once, kept, compared and reported.

    python -m benchmarks.evaluator EXAMPLES [loop]

With ``loop``, what a plain loop takes that asks, compares and keeps nothing. Prints JSON: milliseconds an example for
asking and for comparing, and the largest memory of the process over what it had after its imports.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LABELS = ("billing", "orders", "returns", "other")


def answer(model: str, request: dict[str, Any]) -> dict[str, Any]:
    """Answer at once; one in ten is wrong."""
    words = request["contents"][0]["parts"][0]["text"].split()
    right = LABELS[int(words[2]) % 4]
    text = right if hash((model, words[2])) % 10 else LABELS[0]
    return {
        "candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 60, "candidatesTokenCount": 2},
    }


def write(path: Path, count: int) -> None:
    """Write so many held-out lines of some 500 characters."""
    with path.open("w") as file:
        for i in range(count):
            text = f"Message number {i} " + "about an order that has not come " * 10
            turns = [
                {"role": "user", "parts": [{"text": text}]},
                {"role": "model", "parts": [{"text": LABELS[i % 4]}]},
            ]
            file.write(json.dumps({"contents": turns}) + "\n")


def evaluate(path: Path, directory: Path) -> tuple[float, float]:
    """Return the seconds for asking, and for comparing and reporting."""
    from airflow_tuning_provider.evaluation.report import render
    from airflow_tuning_provider.evaluation.run import Evaluation, Settings, Side

    settings = Settings(max_calls=10_000_000)
    sides = (Side("projects/1/locations/us/endpoints/1", "gemini-3.5-flash"), Side("gemini-3.5-flash"))
    start = time.perf_counter()
    evaluation = Evaluation(answer, sides, path, directory / "answers", directory, settings)
    evaluation.read()
    comparison = evaluation.comparison()
    evaluation.ask()
    asked = time.perf_counter()
    compared = evaluation.compare(comparison, directory / "predictions.jsonl")
    result = evaluation.result(compared)
    render(result, comparison=compared.result, worst=compared.worst, best=compared.best)
    evaluation.close()
    return asked - start, time.perf_counter() - asked


def loop(path: Path) -> tuple[float, float]:
    """Return the seconds of a loop that asks one after the other and counts what is right."""
    start = time.perf_counter()
    right = [0, 0]
    with path.open() as file:
        for line in file:
            example = json.loads(line)
            expected = example["contents"].pop()["parts"][0]["text"]
            for side in (0, 1):
                found = answer(str(side), example)["candidates"][0]["content"]["parts"][0]["text"]
                right[side] += found == expected
    return time.perf_counter() - start, 0.0


def main() -> None:
    """Measure, and print the figures as JSON."""
    import airflow_tuning_provider.evaluation.report
    import airflow_tuning_provider.evaluation.run  # noqa: F401

    count = int(sys.argv[1])
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write(directory / "held_out.jsonl", count)
        gc.collect()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        lines = directory / "held_out.jsonl"
        asking, comparing = loop(lines) if "loop" in sys.argv else evaluate(lines, directory)
    figures = {
        "asking_ms": asking * 1000 / count,
        "comparing_ms": comparing * 1000 / count,
        "megabytes": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
