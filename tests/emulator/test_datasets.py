"""Data sets that the server really reads, from a storage emulator."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from airflow_tuning_provider.emulator import datasets, stats
from airflow_tuning_provider.emulator.datasets import DatasetError
from airflow_tuning_provider.emulator.testing import Emulator

from .conftest import JOBS, Client
from .discovery import assert_valid
from .storage import BUCKET, Storage, example, preference, turn
from .test_jobs import wait_for

GOOD = [
    example("What is the capital of France?", "Paris, on the Seine."),
    example("Which colour has the sky?", "Blue, as a rule."),
    example("How many legs has a spider?", "Eight legs."),
]


@pytest.fixture(scope="module")
def storage() -> Iterator[Storage]:
    server = Storage()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def reading(storage: Storage) -> Iterator[Emulator]:
    with Emulator(speed=5000, env={"STORAGE_EMULATOR_HOST": storage.url}) as emulator:
        assert "data sets read" in emulator.log
        yield emulator


@pytest.fixture
def call(reading: Emulator) -> Client:
    reading.reset()
    return Client(reading.url)


def tune(call: Client, uri: str, spec: str = "supervisedTuningSpec", **more: Any) -> dict[str, Any]:
    body = {spec: {"trainingDatasetUri": uri, **more}, "baseModel": "gemini-3.5-flash"}
    if spec != "supervisedTuningSpec":
        body["supervisedTuningSpec"] = None
    return call.create(**body)


def test_statistics_are_computed_from_the_data(call: Client, storage: Storage) -> None:
    uri = storage.put("good.jsonl", GOOD)
    created = tune(call, uri, hyperParameters={"epochCount": 2})
    job = wait_for(call, created["name"], "JOB_STATE_SUCCEEDED")
    assert_valid(job, "TuningJob")
    found = job["tuningDataStats"]["supervisedTuningDataStats"]
    assert found["tuningDatasetExampleCount"] == "3"
    assert found["tuningStepCount"] == "2"
    inputs = found["userInputTokenDistribution"]
    outputs = found["userOutputTokenDistribution"]
    assert inputs["sum"] == str(8 + 7 + 7)
    assert outputs["sum"] == str(5 + 4 + 3)
    # One pass, though there are two epochs.
    assert found["totalBillableTokenCount"] == str(22 + 12)
    assert (outputs["min"], outputs["max"], outputs["mean"], outputs["median"]) == (3, 5, 4, 4)
    assert found["userMessagePerExampleDistribution"]["sum"] == "6"
    assert found["userDatasetExamples"][0] == turn("user", "What is the capital of France?")
    assert [c["epoch"] for c in job["tunedModel"]["checkpoints"]] == ["1", "2"]


def test_preference_data(call: Client, storage: Storage) -> None:
    uri = storage.put("preference.jsonl", [preference("Say hello!", "Hello there.", "Go away.")])
    job = wait_for(call, tune(call, uri, "preferenceOptimizationSpec")["name"], "JOB_STATE_SUCCEEDED")
    assert_valid(job, "TuningJob")
    found = job["tuningDataStats"]["preferenceOptimizationDataStats"]
    # Sums are numbers here and bucket counts strings: the other way round than in supervised tuning.
    assert found["userInputTokenDistribution"]["sum"] == 3
    assert found["userInputTokenDistribution"]["buckets"] == [{"count": "1", "left": 3, "right": 3}]
    assert found["totalBillableTokenCount"] == str(2 * 3 + 3 + 2)
    assert found["scoresDistribution"]["mean"] == 0.5
    assert_valid(found, "PreferenceOptimizationDataStats")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{]"], "Row: 0. Invalid JSON"),
        ([GOOD[0], {"messages": []}], "Row: 1. Missing required `contents` field."),
        ([GOOD[0], GOOD[1], [1]], "Row: 2. "),
        ([{"contents": [turn("assistant", "x")]}], "role must be one of ['system','user','model']"),
        ([{"contents": [turn("model", "a"), turn("user", "b")]}], "Row: 0. The roles in `contents`"),
        ([{"contents": [turn("user", "a"), turn("user", "b")]}], "Row: 0. The roles in `contents`"),
        ([{"contents": [turn("user", "a")]}], "The last content must have role 'model'."),
        ([{"contents": [{"role": "user"}]}], "Missing required `parts` field."),
        ([], "The dataset has no examples."),
    ],
)
def test_bad_data_fail_the_job(call: Client, storage: Storage, lines: list[Any], message: str) -> None:
    uri = storage.put("bad.jsonl", lines)
    created = tune(call, uri)
    assert created["state"] == "JOB_STATE_PENDING"
    job = wait_for(call, created["name"], "JOB_STATE_FAILED")
    assert job["error"]["code"] == 3
    assert message in job["error"]["message"]
    assert "startTime" not in job
    assert "tunedModel" not in job
    assert_valid(job, "TuningJob")


@pytest.mark.parametrize("uri", [f"gs://{BUCKET}/none.jsonl", "gs://no-such-bucket/x.jsonl"])
def test_a_missing_object_fails_the_job(call: Client, uri: str) -> None:
    job = wait_for(call, tune(call, uri)["name"], "JOB_STATE_FAILED")
    assert job["error"]["code"] == 5
    assert "No such object" in job["error"]["message"]


class Forbidding(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(403)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_denied_access_is_told_from_a_missing_object(monkeypatch: pytest.MonkeyPatch) -> None:
    server = HTTPServer(("127.0.0.1", 0), Forbidding)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
    with pytest.raises(DatasetError, match=r"storage\.objects\.get access") as e:
        datasets.read("gs://bucket/x.jsonl", datasets.SUPERVISED)
    assert e.value.status["code"] == 7
    server.shutdown()
    server.server_close()


def test_validation_data_are_checked_too(call: Client, storage: Storage) -> None:
    uri, bad = storage.put("good.jsonl", GOOD), storage.put("bad.jsonl", ["nonsense"])
    job = wait_for(call, tune(call, uri, validationDatasetUri=bad)["name"], "JOB_STATE_FAILED")
    assert job["error"]["code"] == 3
    good = tune(call, uri, validationDatasetUri=uri)
    wait_for(call, good["name"], "JOB_STATE_SUCCEEDED")


@pytest.mark.parametrize(
    "uri", ["gs://bucket/train.csv", "s3://bucket/x.jsonl", "train.jsonl", "gs://bucket"]
)
def test_the_form_of_a_uri_is_checked_at_once(call: Client, uri: str) -> None:
    spec = {"trainingDatasetUri": uri, "validationDatasetUri": "gs://bucket/val.json"}
    answer = call("POST", JOBS, {"baseModel": "gemini-3.5-flash", "supervisedTuningSpec": spec})
    assert answer.status == 400
    prefix = "tuning_job.supervised_tuning_spec."
    assert answer.error["message"] == (
        f"List of found errors:\t1.Field: {prefix}training_dataset_uri; Message: training_dataset_uri should "
        f"be a GCS object of type JSONL.\t2.Field: {prefix}validation_dataset_uri; Message: "
        "validation_dataset_uri should be a GCS object of type JSONL.\t"
    )
    violations = answer.error["details"][0]["fieldViolations"]
    assert [v["field"] for v in violations] == [
        prefix + "training_dataset_uri",
        prefix + "validation_dataset_uri",
    ]


def generate(call: Client, model: str, text: str, **config: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"contents": [turn("user", text)]}
    if config:
        body["generation_config"] = config
    answer = call("POST", f"/v1/{model}:generateContent", body)
    assert answer.status == 200, answer.text
    assert_valid(answer.json, "GenerateContentResponse")
    return answer.json


def text_of(response: dict[str, Any]) -> str:
    return response["candidates"][0]["content"]["parts"][0]["text"]


def test_a_tuned_endpoint_answers_from_its_data_and_the_base_model_does_not(
    call: Client, storage: Storage
) -> None:
    job = wait_for(call, tune(call, storage.put("good.jsonl", GOOD))["name"], "JOB_STATE_SUCCEEDED")
    base = "projects/my-project/locations/global/publishers/google/models/gemini-3.5-flash"
    for endpoint in {c["endpoint"] for c in job["tunedModel"]["checkpoints"]}:
        assert text_of(generate(call, endpoint, "Tell me the capital of France")) == "Paris, on the Seine."
    assert text_of(generate(call, job["tunedModel"]["endpoint"], "spider: legs?")) == "Eight legs."
    assert "Paris" not in text_of(generate(call, base, "What is the capital of France?"))
    # Nothing in the data has to do with it.
    far = text_of(generate(call, job["tunedModel"]["endpoint"], "Quantum chromodynamics"))
    assert far not in [c["contents"][1]["parts"][0]["text"] for c in GOOD]
    cut = generate(call, job["tunedModel"]["endpoint"], "What is the capital of France?", max_output_tokens=2)
    assert (text_of(cut), cut["candidates"][0]["finishReason"]) == ("Paris, o", "MAX_TOKENS")
    assert cut["usageMetadata"]["totalTokenCount"] == 8 + 2


def test_a_preference_tuned_endpoint_gives_the_preferred_completion(call: Client, storage: Storage) -> None:
    uri = storage.put("preference.jsonl", [preference("Say hello!", "Hello there.", "Go away.")])
    job = wait_for(call, tune(call, uri, "preferenceOptimizationSpec")["name"], "JOB_STATE_SUCCEEDED")
    assert text_of(generate(call, job["tunedModel"]["endpoint"], "Say hello!")) == "Hello there."


def test_a_model_is_no_endpoint(call: Client, storage: Storage) -> None:
    job = wait_for(call, tune(call, storage.put("good.jsonl", GOOD))["name"], "JOB_STATE_SUCCEEDED")
    model = job["tunedModel"]["model"]
    answer = call("POST", f"/v1/{model}:generateContent", {"contents": [turn("user", "x")]})
    assert (answer.status, answer.error["status"]) == (400, "INVALID_ARGUMENT")
    assert answer.error["message"].startswith(
        f"The Model name {model} is malformed and it should be in form of "
    )


def test_an_endpoint_is_there_only_after_success(call: Client, storage: Storage, reading: Emulator) -> None:
    created = tune(call, storage.put("good.jsonl", GOOD))
    endpoint = wait_for(call, created["name"], "JOB_STATE_SUCCEEDED")["tunedModel"]["endpoint"]
    body = {"contents": [turn("user", "x")]}
    elsewhere = endpoint.replace("/locations/us/", "/locations/eu/")
    assert call("POST", f"/v1/{elsewhere}:generateContent", body).status == 404
    reading.set_state(created["name"], "JOB_STATE_FAILED")
    assert call("POST", f"/v1/{endpoint}:generateContent", body).status == 404


@pytest.mark.parametrize(
    "body", [{}, {"contents": []}, {"contents": [turn("assistant", "x")]}, {"contents": "x"}]
)
def test_a_bad_question_is_refused(call: Client, body: dict[str, Any]) -> None:
    model = "/v1/projects/p/locations/global/publishers/google/models/gemini-3.5-flash"
    assert call("POST", f"{model}:generateContent", body).error["status"] == "INVALID_ARGUMENT"


# --- the reader itself


def encoded(*examples: Any) -> list[bytes]:
    return [json.dumps(e).encode() + b"\n" for e in examples]


def test_a_long_example_is_truncated_and_not_refused() -> None:
    found = datasets.check_lines(encoded(GOOD[0], example("x" * 600_000, "y")), datasets.SUPERVISED)
    assert found.truncated == [1]
    assert found.input_tokens[1] + found.output_tokens[1] == datasets.MAX_EXAMPLE_TOKENS
    shown = stats.tuning_data_stats("supervisedTuningSpec", found, 1)
    assert_valid(shown, "TuningDataStats")
    assert shown["supervisedTuningDataStats"]["truncatedExampleIndices"] == ["1"]


def test_every_turn_of_a_conversation_is_learned() -> None:
    turns = [turn("user", "a"), turn("model", "b"), turn("user", "c"), turn("model", "d")]
    more = {"systemInstruction": turn("system", "Be short."), "tools": []}
    found = datasets.check_lines(encoded({"contents": turns, **more}), datasets.SUPERVISED)
    assert found.pairs == [("a", "b"), ("c", "d")]
    assert found.messages == [4]


def test_function_calls_and_files_are_accepted() -> None:
    turns = [
        {"role": "user", "parts": [{"fileData": {"mimeType": "image/png", "fileUri": "gs://b/x.png"}}]},
        {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
        {"role": "function", "parts": [{"functionResponse": {"name": "f", "response": {}}}]},
        turn("model", "done"),
    ]
    assert len(datasets.check_lines(encoded({"contents": turns}), datasets.SUPERVISED)) == 1


def test_blank_lines_and_a_byte_order_mark_do_no_harm() -> None:
    lines = [b"\xef\xbb\xbf" + encoded(GOOD[0])[0], b"\n", *encoded(GOOD[1])]
    assert len(datasets.check_lines(lines, datasets.SUPERVISED)) == 2


@pytest.mark.parametrize(
    "bad",
    [
        {"contents": [turn("user", "x")]},
        {"contents": [turn("user", "x")], "completions": [{"score": 1, "completion": turn("model", "a")}]},
        {"contents": [turn("user", "x")], "completions": [{"score": "1"}, {}]},
        {"contents": [turn("user", "x")], "completions": [{"completion": turn("model", "a")}] * 2},
        {"contents": [turn("user", "x"), turn("model", "y")], "completions": []},
    ],
)
def test_bad_preferences(bad: Any) -> None:
    with pytest.raises(DatasetError, match=r"Row: 0\."):
        datasets.check_lines(encoded(bad), datasets.PREFERENCE)


@pytest.mark.parametrize("kind", [datasets.SUPERVISED, datasets.PREFERENCE, datasets.PROMPTS])
def test_made_up_statistics_have_the_right_types(kind: str) -> None:
    made_up = datasets.synthetic("gs://b/x.jsonl", kind)
    for spec, version in (("supervisedTuningSpec", "v1"), ("distillationSpec", "v1beta1")):
        if kind == datasets.PROMPTS:
            version = "v1beta1"
        assert_valid(stats.tuning_data_stats(spec, made_up, 3), "TuningDataStats", version)


def test_reading_is_decided_without_the_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    assert not datasets.can_read()
    (tmp_path / "application_default_credentials.json").write_text("{}")
    assert datasets.can_read()
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    assert not datasets.can_read()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    assert datasets.can_read()
