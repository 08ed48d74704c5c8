"""Tuned models, and a task instance whose assets have events, as the promotion's tasks see them.

The accessors are Airflow's own; a stand-in for its supervisor answers them from the events that tasks have emitted.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.api.datamodels._generated import AssetEventResponse, AssetResponse
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import AssetEventsResult, GetAssetEventByAsset
from airflow.sdk.execution_time.context import InletEventsAccessors, OutletEventAccessors

from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
from tests.integration.tasks.conftest import TaskInstance, as_task

MODEL = Asset(name="router", uri="x-tuned-model://router")
START = datetime(2026, 11, 25, tzinfo=timezone.utc)


@dataclass
class Airflow:
    """What Airflow remembers of the assets' events, and runs tasks with."""

    events: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    mapped: bool = False
    """Whether tasks are mapped: the context is made before the task, of what the DAG file gives as inlets."""

    def emit(self, extra: dict[str, Any], asset: Asset = MODEL) -> None:
        self.events.setdefault(asset.name, []).append(extra)

    def last(self, asset: Asset = MODEL) -> dict[str, Any]:
        return self.events[asset.name][-1]

    def run(self, operator: Any) -> Any:
        """Run one attempt; the events are emitted if it succeeds, as Airflow does."""
        ti = TaskInstance(task_id=operator.task_id)
        outlets = OutletEventAccessors()
        context = {
            **ti.context,
            "inlet_events": InletEventsAccessors([] if self.mapped else operator.inlets),
            "outlet_events": outlets,
        }
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(task_runner, "SUPERVISOR_COMMS", self, raising=False)
            result = as_task(operator, lambda: operator.execute(context))
        for asset in operator.outlets:
            self.emit(outlets[asset].extra, asset)
        return result

    def send(self, question: Any) -> Any:
        """Answer as Airflow's supervisor."""
        assert isinstance(question, GetAssetEventByAsset)
        name = str(question.name)
        asset = AssetResponse(name=name, uri=str(question.uri), group="asset")
        events = [
            AssetEventResponse(
                id=number,
                timestamp=START + timedelta(seconds=number),
                extra=extra,
                asset=asset,
                created_dagruns=[],
            )
            for number, extra in enumerate(self.events.get(name, []))
        ]
        events = events if getattr(question, "ascending", True) else events[::-1]
        return AssetEventsResult(asset_events=events[: getattr(question, "limit", None)])


def tuned(server: Emulator, display_name: str = "router", **fields: Any) -> dict[str, Any]:
    """Return the manifest of a new job that has succeeded."""
    from airflow_tuning_provider.api.manifest import manifest

    body: dict[str, Any] = {
        "baseModel": "gemini-3.5-flash",
        "supervisedTuningSpec": {
            "trainingDatasetUri": "gs://bucket/train.jsonl",
            "hyperParameters": {"epochCount": 2},
        },
        "tunedModelDisplayName": display_name,
        **fields,
    }
    if "preTunedModel" in body:
        del body["baseModel"]
    with TuningJobHook() as hook:
        name = hook.create_tuning_job(body)["name"]
        server.set_state(name, "JOB_STATE_SUCCEEDED")
        return dict(manifest(hook.get_tuning_job(name)))


def tuned_further(server: Emulator, model: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest of the next version of a model."""
    return tuned(server, preTunedModel={"tunedModelName": model["tuned_model"]})


def aliases(*manifests: dict[str, Any]) -> list[set[str]]:
    """Return the aliases of the models' versions, but for ``default``."""
    with TuningJobHook() as hook:
        found = [hook.get_model(manifest["tuned_model"]) for manifest in manifests]
    return [set(model.get("versionAliases", [])) - {"default"} for model in found]


def merges(server: Emulator) -> list[dict[str, Any]]:
    """The changes of aliases that reached the server."""
    return [r for r in server.requests() if r["path"].endswith(":mergeVersionAliases")]


def written(server: Emulator) -> list[str]:
    """What was asked for besides reading: method and path of each request."""
    return [f"{r['method']} {r['path']}" for r in server.requests() if r["method"] != "GET"]


def later() -> None:
    """Let a moment pass, so that the next model is a newer one."""
    time.sleep(0.01)
