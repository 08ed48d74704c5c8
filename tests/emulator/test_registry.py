"""Models and endpoints: over plain HTTP, against the discovery document, and by Google's own clients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from google.api_core import exceptions
from google.api_core.client_options import ClientOptions
from google.cloud import aiplatform_v1, aiplatform_v1beta1
from google.genai import errors, types
from google.oauth2.credentials import Credentials

from airflow_tuning_provider.emulator.testing import Emulator

from .conftest import JOBS, Answer, Client
from .discovery import assert_valid
from .test_google_clients import PARENT, genai_client
from .test_jobs import wait_for

PLACE = "/v1/projects/my-project/locations/us-central1"
ASKED = {"contents": [{"role": "user", "parts": [{"text": "Hello, how are you?"}]}]}


def tuned(call: Client, **fields: Any) -> dict[str, Any]:
    """Return the tunedModel of a new job that has succeeded."""
    job = call.create(**{"tunedModelDisplayName": "router", **fields})
    model: dict[str, Any] = wait_for(call, job["name"], "JOB_STATE_SUCCEEDED")["tunedModel"]
    return model


def versions(call: Client, count: int) -> str:
    """Return the name of a model with so many versions."""
    model: str = tuned(call)["model"]
    for _ in range(count - 1):
        tuned(call, baseModel=None, preTunedModel={"tunedModelName": model})
    return model.partition("@")[0]


def ok(answer: Answer) -> Any:
    assert answer.status == 200, answer.text
    return answer.json


def aliases(call: Client, model: str) -> dict[str, set[str]]:
    found = ok(call("GET", f"/v1/{model}:listVersions")).get("models", [])
    return {item["versionId"]: set(item.get("versionAliases", [])) for item in found}


def merge(call: Client, model: str, *changes: str) -> Answer:
    return call("POST", f"/v1/{model}:mergeVersionAliases", {"versionAliases": list(changes)})


def done(call: Client, answer: Answer) -> dict[str, Any]:
    """Return an operation that has ended."""
    operation = ok(answer)
    assert_valid(operation, "GoogleLongrunningOperation")
    ended: dict[str, Any] = ok(call("POST", f"/v1/{operation['name']}:wait?timeout=5s"))
    assert ended["done"] is True
    assert_valid(ended, "GoogleLongrunningOperation")
    return ended


def take_down(call: Client, model: dict[str, Any]) -> None:
    """Undeploy and delete every endpoint of a tuned model."""
    for checkpoint in model["checkpoints"]:
        name = checkpoint["endpoint"]
        (deployed,) = ok(call("GET", f"/v1/{name}"))["deployedModels"]
        done(call, call("POST", f"/v1/{name}:undeployModel", {"deployedModelId": deployed["id"]}))
        done(call, call("DELETE", f"/v1/{name}"))


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_everything_is_as_the_discovery_document_has_it(call: Client, version: str) -> None:
    model = tuned(call, labels={"team": "a"})
    get = lambda path: ok(call("GET", f"/{version}/{path}"))  # noqa: E731
    assert_valid(get(model["model"]), "Model", version)
    place = model["model"].partition("/models/")[0]
    assert_valid(get(f"{place}/models"), "ListModelsResponse", version)
    name = model["model"].partition("@")[0]
    assert_valid(get(f"{name}:listVersions"), "ListModelVersionsResponse", version)
    assert_valid(get(f"{name}:listCheckpoints"), "ListModelVersionCheckpointsResponse", version)
    assert_valid(get(model["endpoint"]), "Endpoint", version)
    assert_valid(
        get(f"{model['endpoint'].partition('/endpoints/')[0]}/endpoints"), "ListEndpointsResponse", version
    )


def test_a_model_appears_when_its_job_has_succeeded(call: Client, emulator: Emulator) -> None:
    job = call.create()
    assert ok(call("GET", f"{PLACE}/models")) == {}
    emulator.set_state(job["name"], "JOB_STATE_FAILED")
    assert ok(call("GET", f"{PLACE}/models")) == {}
    model = tuned(call)
    (listed,) = ok(call("GET", f"{PLACE}/models"))["models"]
    assert f"{listed['name']}@{listed['versionId']}" == model["model"]
    assert listed["versionAliases"] == ["default"]
    assert {reference["endpoint"] for reference in listed["deployedModels"]} == {
        checkpoint["endpoint"] for checkpoint in model["checkpoints"]
    }
    assert listed["deployedModels"][-1]["endpoint"] == model["endpoint"]
    assert call("GET", f"{PLACE}/models/1").error["status"] == "NOT_FOUND"


def test_models_are_listed_in_pages_and_by_name(call: Client) -> None:
    names = [tuned(call, tunedModelDisplayName=name)["model"] for name in ("a", "b", "a")]
    ids = [name.partition("@")[0] for name in names]
    first = ok(call("GET", f"{PLACE}/models?pageSize=2"))
    second = ok(call("GET", f"{PLACE}/models?pageSize=2&pageToken={first['nextPageToken']}"))
    assert [m["name"] for m in first["models"] + second["models"]] == ids[::-1]
    assert "nextPageToken" not in second
    some = ok(call("GET", f"{PLACE}/models?filter=display_name%3D%22a%22&readMask=name,versionId"))
    assert some == {"models": [{"name": ids[2], "versionId": "1"}, {"name": ids[0], "versionId": "1"}]}


def test_an_alias_moves_between_the_versions_of_a_model(call: Client) -> None:
    model = versions(call, 2)
    assert aliases(call, model) == {"1": {"default"}, "2": set()}
    answer = ok(merge(call, f"{model}@1", "champion", "golden"))
    assert_valid(answer, "Model")
    assert set(answer["versionAliases"]) == {"default", "champion", "golden"}
    ok(merge(call, f"{model}@2", "champion"))
    assert aliases(call, model) == {"1": {"default", "golden"}, "2": {"champion"}}
    assert ok(call("GET", f"/v1/{model}@champion"))["versionId"] == "2"
    ok(merge(call, f"{model}@2", "-champion", "next"))
    ok(merge(call, f"{model}@1", "-champion"))
    assert aliases(call, model) == {"1": {"default", "golden"}, "2": {"next"}}
    assert call("GET", f"/v1/{model}@champion").status == 404
    ok(merge(call, f"{model}@2", "default"))
    assert aliases(call, model) == {"1": {"golden"}, "2": {"default", "next"}}
    assert ok(call("GET", f"/v1/{model}"))["versionId"] == "2"
    ok(merge(call, f"{model}@2", "both", "-both"))
    assert "both" not in aliases(call, model)["2"]


@pytest.mark.parametrize(
    ("suffix", "changes"),
    [
        ("@1", []),
        ("@1", ["Champion"]),
        ("@1", ["1"]),
        ("@1", ["a" * 129]),
        ("@1", ["-default"]),
        ("", ["champion"]),
        ("@default", ["champion"]),
    ],
)
def test_what_is_no_alias_is_refused(call: Client, suffix: str, changes: list[str]) -> None:
    model = versions(call, 1)
    answer = merge(call, f"{model}{suffix}", *changes)
    assert (answer.status, answer.error["status"]) == (400, "INVALID_ARGUMENT")
    assert aliases(call, model) == {"1": {"default"}}


@pytest.mark.parametrize(
    "query", ["", "?updateMask=defaultCheckpointId", "?updateMask=default_checkpoint_id"]
)
def test_the_endpoint_of_a_model_follows_its_default_checkpoint(call: Client, query: str) -> None:
    spec = {"trainingDatasetUri": "gs://b/t.jsonl", "hyperParameters": {"epochCount": 3}}
    job = call.create(supervisedTuningSpec=spec)
    model = wait_for(call, job["name"], "JOB_STATE_SUCCEEDED")["tunedModel"]
    assert model["endpoint"] == model["checkpoints"][2]["endpoint"]
    patched = ok(call("PATCH", f"/v1/{model['model']}{query}", {"defaultCheckpointId": "1"}))
    assert_valid(patched, "Model")
    assert patched["defaultCheckpointId"] == "1"
    after = ok(call("GET", f"/v1/{job['name']}"))["tunedModel"]
    assert after["endpoint"] == model["checkpoints"][0]["endpoint"]
    assert call("PATCH", f"/v1/{model['model']}{query}", {"defaultCheckpointId": "4"}).status == 400


def test_what_cannot_be_patched_is_refused(call: Client) -> None:
    model = tuned(call)["model"]
    answer = call("PATCH", f"/v1/{model}?updateMask=versionAliases", {"versionAliases": ["x"]})
    assert answer.status == 400
    assert (
        ok(call("PATCH", f"/v1/{model}?updateMask=displayName", {"displayName": "x"}))["displayName"] == "x"
    )


def test_a_model_goes_only_when_nothing_serves_it(call: Client) -> None:
    model = tuned(call)
    name = model["model"].partition("@")[0]
    assert call("DELETE", f"/v1/{name}").error["status"] == "FAILED_PRECONDITION"
    assert call("DELETE", f"/v1/{model['endpoint']}").error["status"] == "FAILED_PRECONDITION"
    assert call("POST", f"/v1/{model['endpoint']}:generateContent", ASKED).status == 200
    take_down(call, model)
    assert call("POST", f"/v1/{model['endpoint']}:generateContent", ASKED).status == 404
    assert call("GET", f"/v1/{model['endpoint']}").status == 404
    assert "deployedModels" not in ok(call("GET", f"/v1/{name}"))
    assert call("DELETE", f"/v1/{model['model']}:deleteVersion").error["status"] == "FAILED_PRECONDITION"
    done(call, call("DELETE", f"/v1/{name}"))
    assert call("GET", f"/v1/{name}").status == 404
    assert ok(call("GET", f"{PLACE}/models")) == {}
    assert call("DELETE", f"/v1/{name}").status == 404


def test_a_version_goes_and_the_others_stay(call: Client) -> None:
    first = tuned(call)
    tuned(call, baseModel=None, preTunedModel={"tunedModelName": first["model"]})
    take_down(call, first)
    done(call, call("DELETE", f"/v1/{first['model']}:deleteVersion"))
    assert aliases(call, first["model"].partition("@")[0]) == {"2": {"default"}}
    assert call("GET", f"/v1/{first['model']}").status == 404


def test_an_undeployment_takes_a_while(storage_free: Emulator) -> None:
    call = Client(storage_free.url)
    (name,) = storage_free.seed({"state": "JOB_STATE_SUCCEEDED"})
    model = ok(call("GET", f"/v1/{name}"))["tunedModel"]
    (deployed,) = ok(call("GET", f"/v1/{model['endpoint']}"))["deployedModels"]
    body = {"deployedModelId": deployed["id"]}
    operation = ok(call("POST", f"/v1/{model['endpoint']}:undeployModel", body))
    assert "done" not in operation
    assert "done" not in ok(call("GET", f"/v1/{operation['name']}"))
    assert call("DELETE", f"/v1/{model['endpoint']}").status == 400
    assert call("POST", f"/v1/{model['endpoint']}:undeployModel", {"deployedModelId": "1"}).status == 404
    assert call("POST", f"/v1/{model['endpoint']}:undeployModel", {}).status == 400
    assert call("GET", f"/v1/{operation['name']}1").status == 404


@pytest.fixture
def storage_free() -> Iterator[Emulator]:
    with Emulator(speed=1, datasets="skip") as emulator:
        yield emulator


def test_the_registry_survives_a_restart(tmp_path: Any) -> None:
    with Emulator(speed=2000, datasets="skip", state=tmp_path / "state.db") as emulator:
        call = Client(emulator.url)
        model = tuned(call)["model"]
        ok(merge(call, model, "champion"))
        emulator.restart()
        call = Client(emulator.url)
        assert ok(call("GET", f"/v1/{model}"))["versionAliases"] == ["default", "champion"]


def test_tokens_are_counted(call: Client) -> None:
    endpoint = tuned(call)["endpoint"]
    model = "/v1/projects/p/locations/global/publishers/google/models/gemini-3.5-flash"
    for name in (f"/v1/{endpoint}", model):
        counted = ok(call("POST", f"{name}:countTokens", ASKED))
        assert_valid(counted, "CountTokensResponse")
        assert counted["totalTokens"] == 5
    assert call("POST", f"{PLACE}/endpoints/1:countTokens", ASKED).status == 404
    assert call("POST", f"{model}:countTokens", {}).status == 400


def test_a_base_model_that_there_is_not_answers_404(call: Client) -> None:
    path = "/v1/projects/p/locations/global/publishers/google/models/gemini-77-flash"
    for method in ("generateContent", "countTokens"):
        answer = call("POST", f"{path}:{method}", ASKED)
        assert (answer.status, answer.error["status"]) == (404, "NOT_FOUND")


def test_every_route_wants_credentials(call: Client) -> None:
    for method, path in (
        ("GET", "models"),
        ("GET", "models/1"),
        ("POST", "models/1@1:mergeVersionAliases"),
        ("DELETE", "models/1"),
        ("GET", "endpoints"),
        ("DELETE", "endpoints/1"),
        ("GET", "models/1/operations/1"),
    ):
        assert call(method, f"{PLACE}/{path}", token=None).status == 401


# --- Google's own clients


def gapic(emulator: Emulator, module: Any, service: str) -> Any:
    options = ClientOptions(api_endpoint=emulator.url)
    client = getattr(module, f"{service}ServiceClient")
    return client(transport="rest", credentials=Credentials(token="fake"), client_options=options)


@pytest.mark.parametrize("module", [aiplatform_v1, aiplatform_v1beta1], ids=["v1", "v1beta1"])
def test_gapic_promotes_and_cleans_up(emulator: Emulator, call: Client, module: Any) -> None:
    model = tuned(
        call,
        supervisedTuningSpec={
            "trainingDatasetUri": "gs://b/t.jsonl",
            "hyperParameters": {"epochCount": 2},
        },
    )
    models, endpoints = gapic(emulator, module, "Model"), gapic(emulator, module, "Endpoint")
    merged = models.merge_version_aliases(name=model["model"], version_aliases=["champion"])
    assert set(merged.version_aliases) == {"default", "champion"}
    name = model["model"].partition("@")[0]
    assert models.get_model(name=f"{name}@champion").version_id == "1"
    (listed,) = models.list_models(parent=PARENT)
    assert listed.name == name
    (version,) = models.list_model_versions(name=name)
    assert version.name == model["model"]
    found = models.list_model_version_checkpoints(name=model["model"])
    assert [checkpoint.epoch for checkpoint in found] == [1, 2]
    updated = models.update_model(
        model=module.Model(name=model["model"], default_checkpoint_id="1"),
        update_mask="defaultCheckpointId",
    )
    assert updated.default_checkpoint_id == "1"
    with pytest.raises(exceptions.BadRequest, match="deployed models"):
        models.delete_model(name=name)
    place = model["endpoint"].partition("/endpoints/")[0]
    for endpoint in list(endpoints.list_endpoints(parent=place)):
        (deployed,) = endpoint.deployed_models
        endpoints.undeploy_model(endpoint=endpoint.name, deployed_model_id=deployed.id).result(timeout=10)
        endpoints.delete_endpoint(name=endpoint.name).result(timeout=10)
    models.delete_model(name=name).result(timeout=10)
    with pytest.raises(exceptions.NotFound):
        models.get_model(name=name)


def test_genai_gets_changes_and_deletes_a_model(emulator: Emulator, call: Client) -> None:
    model = tuned(
        call,
        supervisedTuningSpec={
            "trainingDatasetUri": "gs://b/t.jsonl",
            "hyperParameters": {"epochCount": 2},
        },
    )
    client = genai_client(emulator, "v1")
    assert client.models.get(model=model["model"]).display_name == "router"
    config = types.UpdateModelConfig(default_checkpoint_id="1")
    assert client.models.update(model=model["model"], config=config).default_checkpoint_id == "1"
    with pytest.raises(errors.ClientError, match="deployed models"):
        client.models.delete(model=model["model"].partition("@")[0])
    counted = client.models.count_tokens(model=model["endpoint"], contents="Hello, how are you?")
    assert counted.total_tokens == 5
    assert len(emulator.jobs()) == 1
    assert JOBS.startswith(PLACE)
