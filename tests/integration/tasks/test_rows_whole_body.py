"""A whole body goes out as it is: Google's own refusal costs nothing, and tomorrow's fields need no release."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_tuning_provider import exceptions as errors
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
from tests.integration.tasks.conftest import TaskInstance, creates, is_permanent

SUPERVISED = {"trainingDatasetUri": "gs://bucket/train.jsonl"}
BODIES: dict[str, dict[str, Any]] = {
    "custom base model": {
        "baseModel": "gemini-3.5-flash",
        "customBaseModel": "gs://bucket/model/",
        "supervisedTuningSpec": SUPERVISED,
    },
    "adapter size unspecified": {
        "baseModel": "gemini-3.5-flash",
        "supervisedTuningSpec": {
            **SUPERVISED,
            "hyperParameters": {"adapterSize": "ADAPTER_SIZE_UNSPECIFIED"},
        },
    },
    "adapter size of tomorrow": {
        "baseModel": "gemini-3.5-flash",
        "supervisedTuningSpec": {
            **SUPERVISED,
            "hyperParameters": {"adapterSize": "ADAPTER_SIZE_ONE_HUNDRED_TWENTY_EIGHT"},
        },
    },
    "distillation without a base model": {
        "distillationSamplingSpec": {
            "baseTeacherModel": "gemini-3.5-flash",
            "promptDatasetUri": "gs://b/p.jsonl",
        }
    },
    "version alias with capitals": {
        "preTunedModel": {"tunedModelName": "projects/p/locations/us-central1/models/123@Champion"},
        "supervisedTuningSpec": SUPERVISED,
    },
    "spec of tomorrow": {
        "baseModel": "gemini-3.5-flash",
        "telepathicTuningSpec": {"trainingDatasetUri": "gs://b/t"},
    },
    "field of tomorrow": {
        "baseModel": "gemini-3.5-flash",
        "supervisedTuningSpec": {**SUPERVISED, "patience": {"epochs": 3}},
        "costCeiling": "5",
    },
}


@pytest.mark.parametrize("kind", list(BODIES))
def test_whole_body_is_sent_as_it_is(server: Emulator, ti: TaskInstance, kind: str) -> None:
    body = BODIES[kind]
    task = CreateTuningJobOperator(task_id="tune", tuning_job=body, wait_for_completion=False)
    try:
        ti.run(task)
    except errors.TuningBadRequestError as error:
        assert error.api_error is not None, f"refused here, not by the server: {error}"  # noqa: PT017
        assert is_permanent(error)  # noqa: PT017
    (request,) = creates(server)
    sent = {key: value for key, value in request["body"].items() if key != "labels"}
    assert sent == body


@pytest.mark.parametrize("body", [[], "text", 5, {"baseModel": float("nan")}, {5: "x"}], ids=repr)
def test_what_is_no_json_object_is_refused_here(server: Emulator, ti: TaskInstance, body: Any) -> None:
    with pytest.raises(errors.TuningInvalidInputError, match="tuning_job"):
        ti.run(CreateTuningJobOperator(task_id="tune", tuning_job=body, wait_for_completion=False))
    assert server.requests() == []
