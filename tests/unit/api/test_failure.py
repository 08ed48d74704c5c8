"""Why a job ended without a model."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_tuning_provider.api.failure import code_name, describe, error_code, is_permanent, uploaded_model

NAME = "projects/1/locations/us-central1/tuningJobs/7"
CONSOLE = "https://console.cloud.google.com/vertex-ai/generative/language/locations/us-central1/tuning/tuningJob/7?project=1"


def test_the_whole_story() -> None:
    job = {
        "name": NAME,
        "state": "JOB_STATE_FAILED",
        "error": {"code": 3, "message": "Row: 0. Missing required `contents` field."},
        "supervisedTuningSpec": {"trainingDatasetUri": "gs://bucket/train.jsonl"},
        "tuningDataStats": {"supervisedTuningDataStats": {"droppedExampleReasons": ["too long", "empty"]}},
    }
    assert describe(job, retry="A retry creates a new job.") == "\n".join(
        [
            f"Tuning job {NAME} has failed.",
            "The API says: INVALID_ARGUMENT: Row: 0. Missing required `contents` field.",
            "Training dataset: gs://bucket/train.jsonl",
            "Dropped examples: too long; empty",
            f"Console: {CONSOLE}",
            "It has ended and costs nothing more.",
            "A retry creates a new job.",
        ]
    )


def test_only_what_is_known_is_told() -> None:
    assert describe({"name": "x", "state": "JOB_STATE_CANCELLED"}, retry="") == (
        "Tuning job x has been cancelled.\nIt has ended and costs nothing more."
    )


@pytest.mark.parametrize("message", [None, ""])
def test_an_error_without_message(message: Any) -> None:
    text = describe(
        {"name": "x", "state": "JOB_STATE_FAILED", "error": {"code": 13, "message": message}}, retry=""
    )
    assert "The API says: INTERNAL: no message\n" in text


def test_many_and_long_reasons_are_cut() -> None:
    stats = {"supervisedTuningDataStats": {"droppedExampleReasons": ["x" * 10**6] * 100}}
    text = describe({"name": NAME, "state": "JOB_STATE_FAILED", "tuningDataStats": stats}, retry="")
    assert "(and 95 more)" in text
    assert len(text) < 2000


@pytest.mark.parametrize("odd", ["text", ["x"], 7, True, None])
def test_odd_jobs_are_described_too(odd: Any) -> None:
    stats = {"supervisedTuningDataStats": {"droppedExampleReasons": odd}}
    assert describe({"name": odd, "state": odd, "error": odd, "tuningDataStats": stats}, retry="")


@pytest.mark.parametrize(
    ("code", "name", "permanent"),
    [
        (1, "CANCELLED", False), (2, "UNKNOWN", False), (3, "INVALID_ARGUMENT", True), (4, "DEADLINE_EXCEEDED", False),
        (5, "NOT_FOUND", True), (6, "ALREADY_EXISTS", True), (7, "PERMISSION_DENIED", True),
        (8, "RESOURCE_EXHAUSTED", False), (9, "FAILED_PRECONDITION", True), (10, "ABORTED", False),
        (11, "OUT_OF_RANGE", True), (12, "UNIMPLEMENTED", True), (13, "INTERNAL", False), (14, "UNAVAILABLE", False),
        (15, "DATA_LOSS", False), (16, "UNAUTHENTICATED", True),
    ],
)  # fmt: skip
def test_codes(code: int, name: str, permanent: bool) -> None:
    for spelling in (code, str(code), name):
        error = {"code": spelling}
        assert code_name(error_code(error)) == name
        assert is_permanent({"state": "JOB_STATE_FAILED", "error": error}) is permanent


@pytest.mark.parametrize(("code", "name"), [(99, "code 99"), ("99", "code 99"), (0, "no error code")])
def test_other_codes(code: Any, name: str) -> None:
    assert code_name(error_code({"code": code})) == name
    assert not is_permanent({"error": {"code": code}})


MODEL = "projects/1/locations/us-central1/models/5@1"
NOT_DEPLOYED = {
    "name": NAME,
    "state": "JOB_STATE_FAILED",
    "error": {
        "code": 13,
        "message": "Failed to create endpoint. Tuned model is uploaded and can be accessed through Model Registry.",
    },
    "tunedModel": {"model": MODEL},
}


def test_a_model_that_could_not_be_deployed_is_not_paid_for_twice() -> None:
    assert is_permanent(NOT_DEPLOYED)
    assert uploaded_model(NOT_DEPLOYED) == MODEL
    lines = describe(NOT_DEPLOYED, retry="").splitlines()
    assert lines[2].startswith(f"Tuned model: {MODEL} https://console.cloud.google.com/vertex-ai/models/")
    assert lines[3] == (
        "It has been tuned and paid for: deploy it from the Model Registry to an endpoint, and call that."
    )


def test_what_is_deployed_can_be_called() -> None:
    endpoint = "projects/1/locations/us-central1/endpoints/6"
    job = {**NOT_DEPLOYED, "tunedModel": {"model": MODEL, "endpoint": endpoint}}
    assert f"It has been tuned and paid for: call {endpoint}.\n" in describe(job, retry="")


@pytest.mark.parametrize(
    "change",
    [
        {"state": "JOB_STATE_SUCCEEDED"},
        {"state": "JOB_STATE_CANCELLED"},
        {"tunedModel": {}},
        {"tunedModel": {"model": ""}},
        {"tunedModel": {"model": 5}},
        {"tunedModel": [MODEL]},
        {"tunedModel": MODEL},
        {"tunedModel": None},
    ],
)
def test_jobs_without_such_a_model(change: dict[str, Any]) -> None:
    job = {**NOT_DEPLOYED, **change}
    assert uploaded_model(job) is None
    assert not is_permanent(job)
    assert "paid for" not in describe(job, retry="")


def test_an_error_that_is_no_object_is_told_as_it_is() -> None:
    assert "The API says: out of luck\n" in describe(
        {"name": "x", "state": "JOB_STATE_FAILED", "error": "out of luck"}, retry=""
    )


@pytest.mark.parametrize(
    "error", [None, {}, "text", [], {"code": None}, {"code": True}, {"code": "x"}, {"code": 3.5}]
)
def test_no_code(error: Any) -> None:
    assert error_code(error) is None
    assert not is_permanent({"error": error})
    assert code_name(error_code(error)) == "no error code"
