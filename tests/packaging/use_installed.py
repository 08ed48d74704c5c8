"""Runs in an environment that holds the wheel and what it depends on, nothing else."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.resources
import json
import os
import sys

from airflow_tuning_provider.emulator.testing import Emulator

MODULES = [
    "airflow_tuning_provider.hooks.tuning_job",
    "airflow_tuning_provider.operators.tuning_job",
    "airflow_tuning_provider.sensors.tuning_job",
    "airflow_tuning_provider.triggers.tuning_job",
]


def main() -> None:
    """Import everything, find what the wheel promises, and create a job on the emulator."""
    for module in MODULES:
        importlib.import_module(module)
    package = importlib.resources.files("airflow_tuning_provider")
    for name in ("py.typed", "example_dags/retrain_weekly.py", "example_dags/data", "plugin/static/main.js"):
        if not package.joinpath(name).exists():  # type: ignore[attr-defined]
            sys.exit(f"the wheel lacks {name}")
    if package.joinpath("plugin/www").exists():  # type: ignore[attr-defined]
        sys.exit("the wheel holds the sources of the page, which nobody needs there")
    from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

    with Emulator(speed=5000) as emulator:
        connection = {
            "conn_type": "vertex_ai_tuning",
            "password": "any",
            "extra": {"project": "wheel-test", "location": "us-central1", "api_endpoint": emulator.url},
        }
        os.environ["AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT"] = json.dumps(connection)
        body = {
            "baseModel": "gemini-3.5-flash",
            "supervisedTuningSpec": {"trainingDatasetUri": "gs://bucket/a.jsonl"},
        }
        with TuningJobHook() as hook:
            job = hook.wait_for_tuning_job(hook.create_tuning_job(body)["name"], poll_interval=0.2)
    version = importlib.metadata.version("airflow-tuning-provider")
    print(f"airflow-tuning-provider {version} works from its wheel: {job['tunedModel']['endpoint']}")


if __name__ == "__main__":
    main()
