"""Send SIGKILL to a task that prepares a data set, again and again, at moments spread over its whole life.

    python -m tests.proofs.prepare [--kills 20] [--rows 20000] [--seed 1]

After each kill each set that has its name is complete, and the manifest is there only where all sets are. After the
last one a run that is left alone gives what an undisturbed one gave, and nothing else lies about. Prints a line of
JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any


def contents(folder: Path) -> dict[str, bytes]:
    """Return what has its final name in a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def run(source: Path, out: Path) -> dict[str, Any]:
    """Run the task as Airflow's task runner does."""
    from airflow_tuning_provider.operators.datasets import PrepareTuningDatasetOperator
    from tests.integration.tasks.conftest import TaskInstance

    operator = PrepareTuningDatasetOperator(
        task_id="prepare", source=f"file://{source}", destination=f"file://{out}"
    )
    result: dict[str, Any] = TaskInstance(task_id="prepare").run(operator)
    return result


def slowly(source: Any, target: Any, _: int = 0) -> None:
    """Copy in so small pieces that a kill strikes in the middle of them."""
    while piece := source.read(8192):
        target.write(piece)
        time.sleep(0.006)


def in_child(source: Path, out: Path) -> int:
    """Run the task, publishing slowly, in a process of its own."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        from airflow_tuning_provider.hooks import storage

        storage.shutil.copyfileobj = slowly  # type: ignore[attr-defined]
        run(source, out)
        status = 0
    finally:
        os._exit(status)


def check(found: dict[str, bytes], wanted: dict[str, bytes]) -> None:
    """Raise unless all that is there is complete."""
    for name, content in found.items():
        if not name.endswith("manifest.json"):
            assert content == wanted[name], f"{name} is not what it has to be"
    if any(name.endswith("manifest.json") for name in found):
        assert set(found) == set(wanted), "a manifest without its sets"


def main() -> None:
    """Kill, look, kill again."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.prepare", description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="prepare-proof-") as directory:
        home = Path(directory)
        scratch = home / "tmp"
        scratch.mkdir()
        tempfile.tempdir = str(scratch)
        source, out, reference = home / "rows.jsonl", home / "out", home / "reference"
        with source.open("w") as file:
            for i in range(options.rows):
                file.write(json.dumps({"text": f"Message {i}", "label": str(i % 3)}) + "\n")
        undisturbed = run(source, reference)
        wanted = contents(reference)
        began = time.monotonic()
        assert os.waitpid(in_child(source, out), 0)[1] == 0
        whole = time.monotonic() - began
        shutil.rmtree(out)
        for i in range(options.kills):
            pid = in_child(source, out)
            time.sleep(whole * (i + chance.random()) / options.kills)
            os.kill(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)[1]
            found = contents(out)
            check(found, wanted)
            parts = list(out.rglob(".*.part")) if out.exists() else []
            stage = (
                "after it had ended"
                if status == 0
                else "while it published"
                if parts or found
                else "before it published"
            )
            outcomes[stage] += 1
            if any(name.endswith("manifest.json") for name in found):
                shutil.rmtree(out)
        result = run(source, out)
        check(contents(out), wanted)
        assert set(contents(out)) == set(wanted)
        for key in ("content_hash", "counts", "tokens", "classes", "dropped"):
            assert result[key] == undisturbed[key]
        assert not list(out.rglob(".*.part")), "leftovers"
        assert not list(scratch.iterdir()), "temporary files"
    sys.stdout.write(json.dumps({"kills": options.kills, **outcomes}) + "\n")


if __name__ == "__main__":
    main()
