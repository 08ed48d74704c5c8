"""How good models are: by their settings, as a test has it, and an untuned one a little."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_tuning_provider.emulator.testing import Emulator, EmulatorError
from tests.emulator.conftest import Client

BASE = "projects/my-project/locations/global/publishers/google/models/gemini-3.5-flash"
QUEUES = ("billing", "orders", "returns")
PAIRS = [(f"Message number {i} about topic{i}", QUEUES[i % 3]) for i in range(200)]


def tuned(call: Client, emulator: Emulator, quality: float | None = None, **hyper: Any) -> str:
    spec = {"trainingDatasetUri": "gs://bucket/train.jsonl", "hyperParameters": {"epochCount": 4, **hyper}}
    job = call.create(supervisedTuningSpec=spec)
    emulator.set_state(job["name"], "JOB_STATE_SUCCEEDED")
    emulator.set_quality(job["name"], quality, PAIRS)
    endpoint: str = call("GET", f"/v1/{job['name']}").json["tunedModel"]["endpoint"]
    return endpoint


def right(call: Client, model: str) -> float:
    """The share of right answers."""
    return sum(answer(call, model, question) == expected for question, expected in PAIRS) / len(PAIRS)


def answer(call: Client, model: str, question: str) -> str:
    body = {"contents": [{"role": "user", "parts": [{"text": question}]}], "labels": {"team": "x"}}
    response = call("POST", f"/v1/{model}:generateContent", body)
    assert response.status == 200, response.text
    assert response.json["usageMetadata"]["totalTokenCount"] > 0
    text: str = response.json["candidates"][0]["content"]["parts"][0]["text"]
    return text


def test_a_test_sets_the_quality_of_a_job(call: Client, emulator: Emulator) -> None:
    for quality in (0.0, 0.6, 1.0):
        endpoint = tuned(call, emulator, quality)
        assert right(call, endpoint) == pytest.approx(quality, abs=0.08 if 0 < quality < 1 else 0)
        # A wrong answer is one of the others, and the same each time.
        answers = {answer(call, endpoint, PAIRS[0][0]) for _ in range(3)}
        assert len(answers) == 1
        assert answers <= set(QUEUES)


def test_settings_make_a_difference(call: Client, emulator: Emulator) -> None:
    recommended = right(call, tuned(call, emulator))
    hasty = right(call, tuned(call, emulator, epochCount=1))
    hasty_and_hot = right(call, tuned(call, emulator, epochCount=1, learningRateMultiplier=8))
    assert recommended == 1
    assert recommended > hasty > hasty_and_hot > 0.3


def test_an_untuned_model_is_not_useless(call: Client, emulator: Emulator) -> None:
    assert right(call, BASE) == 0
    tuned(call, emulator, 0.9)
    share = right(call, BASE)
    assert 0.2 < share < 0.4
    assert right(call, BASE) == share


def test_an_unknown_untuned_model_is_404(call: Client) -> None:
    body = {"contents": [{"role": "user", "parts": [{"text": "x"}]}]}
    for model, status in (("gemini-9-nano", 404), ("gemini-3.5-flash", 200), ("gemini-3.1-pro-preview", 200)):
        path = f"/v1/{BASE.rpartition('/')[0]}/{model}:generateContent"
        assert call("POST", path, body).status == status


def test_quota_on_generate(call: Client, emulator: Emulator) -> None:
    emulator.fault(path_regex=":generateContent", status=429, times=1, headers={"Retry-After": "1"})
    body = {"contents": [{"role": "user", "parts": [{"text": "x"}]}]}
    refused = call("POST", f"/v1/{BASE}:generateContent", body)
    assert (refused.status, refused.error["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert call("POST", f"/v1/{BASE}:generateContent", body).status == 200


@pytest.mark.parametrize(
    "body",
    [{"quality": 2}, {"quality": "1"}, {"quality": True}, {"pairs": []}, {"pairs": [["a"]]}, {"pairs": "x"}, {"x": 1},
     {"pairs": [["a", 1]]}],
)  # fmt: skip
def test_a_bad_quality_is_refused(call: Client, emulator: Emulator, body: dict[str, Any]) -> None:
    name = call.create()["name"]
    with pytest.raises(EmulatorError, match="400"):
        emulator.control("POST", f"jobs/{name.rpartition('/')[2]}/quality", body)


def test_a_quality_outlives_a_restart(tmp_path: Any) -> None:
    with Emulator(speed=2000, datasets="skip", state=tmp_path / "state") as emulator:
        endpoint = tuned(Client(emulator.url), emulator, 0.0)
        emulator.restart()
        assert right(Client(emulator.url), endpoint) == 0
