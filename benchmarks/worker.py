"""Worker time that a job takes, and the time from its end to the next task, on a real Airflow.

    python -m benchmarks.worker SECONDS

Runs one job of about so many seconds through each DAG of ``benchmarks/dags``, side by side, and prints JSON.
Where Google's provider is installed, its operator is one of them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from airflow_tuning_provider.emulator.testing import Emulator
from demo.stack import AirflowStack

_SAMPLE = 0.1
_REAL_SECONDS = 2000.0  # what the emulator's job takes at speed 1


def connection(url: str) -> str:
    """Return a connection that Google's provider understands too: a service account of the emulator."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    keyfile = {
        "type": "service_account",
        "project_id": "bench-project",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": "bench@bench-project.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": f"{url}/_emulator/token",
    }
    extra = {
        "project": "bench-project",
        "location": "us-central1",
        "api_endpoint": url,
        "keyfile_dict": json.dumps(keyfile),
    }
    return json.dumps({"conn_type": "google_cloud_platform", "extra": extra})


class Sampler(threading.Thread):
    """Counts the seconds that the task ``tune`` of a run spends on a worker."""

    def __init__(self, airflow: AirflowStack, dag_id: str, run_id: str) -> None:
        super().__init__(daemon=True)
        self.airflow, self.dag_id, self.run_id = airflow, dag_id, run_id
        self.worker_seconds = 0.0
        self.stop = threading.Event()

    def run(self) -> None:
        """Sample until stopped."""
        last = time.monotonic()
        while not self.stop.wait(_SAMPLE):
            with contextlib.suppress(Exception):
                state = self.airflow.client.task_instance(self.dag_id, self.run_id, "tune")["state"]
                now = time.monotonic()
                self.worker_seconds += now - last if state == "running" else 0.0
                last = now


def measure(seconds: float) -> dict[str, Any]:
    """Run every DAG once with a job of so many seconds."""
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        emulator = stack.enter_context(Emulator(speed=_REAL_SECONDS / seconds, datasets="skip"))
        airflow = AirflowStack(
            place,
            [Path(__file__).parent / "dags"],
            env={
                "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": connection(emulator.url),
                "GOOGLE_VERTEX_BASE_URL": emulator.url,
                "PYTHONPATH": str(Path.cwd()),
                "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
                "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "300",
            },
        )
        stack.enter_context(airflow)
        found = ["ours"] + (["google"] if importlib.util.find_spec("airflow.providers.google") else [])
        for dag_id in found:
            airflow.wait_for_dag(dag_id, timeout=180)
        samplers = []
        for dag_id in found:
            sampler = Sampler(airflow, dag_id, airflow.client.trigger(dag_id))
            sampler.start()
            samplers.append(sampler)
        result = {}
        for sampler in samplers:
            airflow.client.wait_for_run(sampler.dag_id, sampler.run_id, timeout=seconds + 300)
            sampler.stop.set()
            result[sampler.dag_id] = {"worker_seconds": sampler.worker_seconds}
        for sampler in samplers:
            after = airflow.client.task_instance(sampler.dag_id, sampler.run_id, "after")
            tune = airflow.client.task_instance(sampler.dag_id, sampler.run_id, "tune")
            job = _job_of(emulator, _epoch(tune["start_date"]), sampler.dag_id)
            result[sampler.dag_id]["job_seconds"] = _epoch(job["endTime"]) - _epoch(job["createTime"])
            result[sampler.dag_id]["end_to_next_task"] = _epoch(after["start_date"]) - _epoch(job["endTime"])
    return result


def _job_of(emulator: Emulator, started: float, dag_id: str) -> dict[str, Any]:
    ours = [job for job in emulator.jobs() if (job.get("labels") or {}).get("airflow-dag-id") == dag_id]
    others = [job for job in emulator.jobs() if not job.get("labels")]
    return (ours or others)[0]


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(float(sys.argv[1]))) + "\n")
