"""evaluateInstances: the computed metrics, by hand, against the discovery document, and by Google's own client."""

from __future__ import annotations

from typing import Any

import pytest
from google.cloud import aiplatform_v1

from airflow_tuning_provider.emulator.testing import Emulator

from .conftest import Client
from .discovery import assert_valid
from .test_registry import gapic

PATH = "/v1/projects/my-project/locations/us-central1:evaluateInstances"


def score(call: Client, metric: str, prediction: str, reference: str, **spec: Any) -> float:
    body = {
        f"{metric}Input": {
            "metricSpec": spec,
            "instances": [{"prediction": prediction, "reference": reference}],
        }
    }
    assert_valid(body, "EvaluateInstancesRequest")
    answer = call("POST", PATH, body)
    assert answer.status == 200, answer.text
    assert_valid(answer.json, "EvaluateInstancesResponse")
    ((values,),) = (result.values() for result in answer.json.values())
    (value,) = values
    return float(value["score"])


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"), [("a b", "a b", 1), ("a b", "A b", 0), ("", "", 1), ("a", "", 0)]
)
def test_exact_match(call: Client, prediction: str, reference: str, expected: float) -> None:
    assert score(call, "exactMatch", prediction, reference) == expected


@pytest.mark.parametrize(
    ("kind", "prediction", "reference", "expected"),
    [
        ("rougeL", "a b", "a c", 0.5),
        ("rouge1", "the cat", "the cat sat", 0.8),
        ("rouge2", "the cat", "the cat sat", 2 / 3),
        ("rouge2", "sat cat", "the cat sat", 0),
        ("rougeL", "police killed the gunman", "police kill the gunman", 0.75),
        ("rougeL", "the gunman police killed", "police killed the gunman", 0.5),
        ("rougeLsum", "The Cat!", "the cat", 1),
        ("rouge1", "", "the cat", 0),
    ],
)
def test_rouge(call: Client, kind: str, prediction: str, reference: str, expected: float) -> None:
    assert score(call, "rouge", prediction, reference, rougeType=kind) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("prediction", "reference", "spec", "expected"),
    [
        ("the cat is on the mat", "the cat is on the mat", {}, 1),
        ("x y", "the cat", {}, 0),
        ("the cat", "the cat", {}, 0),
        ("the cat", "the cat", {"useEffectiveOrder": True}, 1),
        # Shorter than the reference: the brevity penalty is all that is missing.
        ("the cat is on", "the cat is on the", {}, 0.778801),
        # 5/6, 3/5, 1/4 and, smoothed, 1/(2*3).
        ("the cat was on the mat", "the cat is on the mat", {}, (5 / 6 * 3 / 5 * 1 / 4 * 1 / 6) ** 0.25),
    ],
)
def test_bleu(call: Client, prediction: str, reference: str, spec: Any, expected: float) -> None:
    assert score(call, "bleu", prediction, reference, **spec) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 501),
        ({"fluencyInput": {}}, 501),
        ({"exactMatchInput": {}, "bleuInput": {}}, 501),
        ({"exactMatchInput": {"metricSpec": {}}}, 400),
        ({"exactMatchInput": {"instances": [{}]}}, 400),
        ({"exactMatchInput": {"metricSpec": {}, "instances": [{"answer": "a"}]}}, 400),
        ({"rougeInput": {"metricSpec": {"rougeType": "rougeX"}, "instances": [{"prediction": "a"}]}}, 400),
    ],
)
def test_what_is_not_computed_is_refused(call: Client, body: Any, status: int) -> None:
    assert call("POST", PATH, body).status == status


def test_gapic_evaluates(emulator: Emulator) -> None:
    module = aiplatform_v1
    rouge = module.RougeInput(
        metric_spec=module.RougeSpec(rouge_type="rougeL"),
        instances=[module.RougeInstance(prediction="a b", reference="a c")],
    )
    client = gapic(emulator, module, "Evaluation")
    location = "projects/my-project/locations/us-central1"
    request = module.EvaluateInstancesRequest(location=location, rouge_input=rouge)
    (value,) = client.evaluate_instances(request=request).rouge_results.rouge_metric_values
    assert value.score == 0.5
