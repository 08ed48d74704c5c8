"""Rebasing and its operation, over plain HTTP."""

from __future__ import annotations

import time
from typing import Any

import pytest

from airflow_tuning_provider.emulator.testing import Emulator

from .conftest import JOBS, Client
from .discovery import assert_valid
from .test_jobs import wait_for


@pytest.fixture
def source(call: Client, emulator: Emulator) -> dict[str, Any]:
    return emulator.set_state(call.create(labels={"a": "b"})["name"], "JOB_STATE_SUCCEEDED")


def rebase(call: Client, **body: Any) -> dict[str, Any]:
    answer = call("POST", JOBS + ":rebaseTunedModel", body)
    assert answer.status == 200, answer.text
    assert_valid(answer.json, "GoogleLongrunningOperation")
    return answer.json


def test_get_wait_list_and_delete(call: Client, source: dict[str, Any]) -> None:
    operation = rebase(call, tunedModelRef={"tuning_job": source["name"]})
    assert "done" not in operation
    name = operation["name"]
    job = name.partition("/operations/")[0]
    done = call("POST", f"/v1beta1/{name}:wait?timeout=10s", {}).json
    assert_valid(done, "GoogleLongrunningOperation", "v1beta1")
    assert done["done"]
    assert done["response"]["@type"] == "type.googleapis.com/google.cloud.aiplatform.v1beta1.TuningJob"
    assert done["response"]["name"] == job
    assert done["response"]["labels"] == {"a": "b"}
    assert call("GET", f"/v1/{job}/operations").json["operations"][0]["name"] == name
    assert call("GET", f"/v1/{source['name']}/operations").json == {}
    assert call("DELETE", f"/v1/{name}").json == {}
    assert call("GET", f"/v1/{name}").status == 404
    assert call("GET", f"/v1/{job}").status == 200


def test_waiting_ends_with_the_time_out(call: Client, source: dict[str, Any], emulator: Emulator) -> None:
    name = rebase(call, tunedModelRef={"tuningJob": source["name"]})["name"]
    emulator.set_state(name.partition("/operations/")[0], "JOB_STATE_RUNNING")
    start = time.monotonic()
    assert "done" not in call("POST", f"/v1/{name}:wait?timeout=0.2s").json
    assert 0.2 <= time.monotonic() - start < 3
    assert call("POST", f"/v1/{name}:wait?timeout=soon").status == 400


def test_cancelling_the_operation_cancels_the_job(call: Client, source: dict[str, Any]) -> None:
    name = rebase(call, tunedModelRef={"tuningJob": source["name"]})["name"]
    assert call("POST", f"/v1/{name}:cancel", {}).json == {}
    wait_for(call, name.partition("/operations/")[0], "JOB_STATE_CANCELLED")
    operation = call("GET", f"/v1/{name}").json
    assert operation["done"]
    assert operation["error"]["code"] == 1
    assert call("POST", f"/v1/{name}:cancel", {}).json == {}


def test_the_request_can_change_the_job(call: Client, source: dict[str, Any]) -> None:
    change = {"baseModel": "gemini-2.5-pro", "labels": {"c": "d"}}
    ref = {"tunedModel": source["tunedModel"]["model"]}
    name = rebase(call, tunedModelRef=ref, tuningJob=change)["name"]
    job = call("GET", "/v1/" + name.partition("/operations/")[0]).json
    assert (job["baseModel"], job["labels"]) == ("gemini-2.5-pro", {"c": "d"})


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"tunedModelRef": {}}, 400),
        ({"tunedModelRef": {"tuningJob": "x", "tunedModel": "y"}}, 400),
        ({"tunedModelRef": {"model": "x"}}, 400),
        ({"tunedModelRef": {"tuningJob": "projects/p/locations/l/tuningJobs/1"}}, 404),
        ({"tunedModelRef": {"tunedModel": "projects/p/locations/l/models/1"}}, 404),
        ({"tunedModelRef": {"pipelineJob": "projects/p/locations/l/pipelineJobs/1"}}, 404),
    ],
)
def test_a_bad_rebase(call: Client, body: dict[str, Any], status: int) -> None:
    assert call("POST", JOBS + ":rebaseTunedModel", body).status == status


def test_an_unknown_operation(call: Client, source: dict[str, Any]) -> None:
    for method, verb in (("GET", ""), ("DELETE", ""), ("POST", ":cancel"), ("POST", ":wait")):
        assert call(method, f"/v1/{source['name']}/operations/1{verb}").status == 404
