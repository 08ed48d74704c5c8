"""What is sent for each call on models and endpoints, checked against Google's discovery document."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from airflow_tuning_provider.api.calls import Call
from airflow_tuning_provider.api.errors import ApiError
from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.model_calls import ModelCalls
from tests.emulator.discovery import _DOCUMENTS, assert_valid

P = "projects/example.com:app/locations/us-central1"
MODEL, VERSION = f"{P}/models/7", f"{P}/models/7@2"
ENDPOINT = "projects/1/locations/eu/endpoints/3"
SCOPED = ModelCalls("example.com:app", "us-central1")
OPERATION = {"name": f"{MODEL}/operations/5"}

# The call, its URL, its body, and the discovery document's id, request and success.
CALLS: list[tuple[Call[Any], str, Any, str, Any]] = [
    (SCOPED.model(MODEL), MODEL, None, "models.get", {"name": MODEL}),
    (SCOPED.model(f"{MODEL}@golden"), f"{MODEL}@golden", None, "models.get", {"name": MODEL}),
    (SCOPED.models(), f"{P}/models", None, "models.list", {"models": [{"name": MODEL}]}),
    (
        SCOPED.models("eu", filter='display_name="a b"', page_size=5, page_token="t"),
        "projects/example.com:app/locations/eu/models?filter=display_name%3D%22a+b%22&pageSize=5&pageToken=t",
        None,
        "models.list",
        {},
    ),
    (SCOPED.versions(VERSION), f"{MODEL}:listVersions", None, "models.listVersions", {}),
    (
        SCOPED.checkpoints(VERSION),
        f"{VERSION}:listCheckpoints",
        None,
        "models.listCheckpoints",
        {"checkpoints": [{"checkpointId": "1"}]},
    ),
    (
        SCOPED.merge_aliases(VERSION, ["champion"], ["previous"]),
        f"{VERSION}:mergeVersionAliases",
        {"versionAliases": ["champion", "-previous"]},
        "models.mergeVersionAliases",
        {"name": MODEL},
    ),
    (
        SCOPED.set_default_checkpoint(VERSION, 1),
        f"{VERSION}?updateMask=defaultCheckpointId",
        {"defaultCheckpointId": "1"},
        "models.patch",
        {"name": MODEL},
    ),
    (SCOPED.delete_model(MODEL), MODEL, None, "models.delete", OPERATION),
    (SCOPED.delete_version(VERSION), f"{VERSION}:deleteVersion", None, "models.deleteVersion", OPERATION),
    (SCOPED.endpoint(ENDPOINT), ENDPOINT, None, "endpoints.get", {"name": ENDPOINT}),
    (
        SCOPED.endpoints("eu"),
        "projects/example.com:app/locations/eu/endpoints",
        None,
        "endpoints.list",
        {"endpoints": [{"name": ENDPOINT}]},
    ),
    (
        SCOPED.undeploy(ENDPOINT, "11"),
        f"{ENDPOINT}:undeployModel",
        {"deployedModelId": "11"},
        "endpoints.undeployModel",
        OPERATION,
    ),
    (SCOPED.delete_endpoint(ENDPOINT), ENDPOINT, None, "endpoints.delete", OPERATION),
]


def methods(version: str) -> dict[str, dict[str, Any]]:
    document = json.loads((_DOCUMENTS / f"aiplatform.{version}.json").read_text())
    resources = document["resources"]["projects"]["resources"]["locations"]["resources"]
    return {
        f"{collection}.{name}": method
        for collection in ("models", "endpoints")
        for name, method in resources[collection]["methods"].items()
    }


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
@pytest.mark.parametrize(
    ("call", "path", "body", "method", "success"), CALLS, ids=lambda value: str(value)[:30]
)
def test_calls(call: Call[Any], path: str, body: Any, method: str, success: Any, version: str) -> None:
    known = methods(version)[method]
    assert call.url("https://h", version) == f"https://h/{version}/{path}"
    assert (call.method, call.body, call.repeatable) == (known["httpMethod"], body, True)
    flat = re.sub(r"\{[^}]+\}", "[^/]+", known["flatPath"])
    assert re.fullmatch(flat, f"{version}/{path.partition('?')[0]}")
    assert set(call.query) <= set(known["parameters"])
    if body is not None:
        assert_valid(body, known["request"]["$ref"], version)
    else:
        assert "request" not in known
    assert not isinstance(call.read(success), ApiError)
    assert call.location == path.split("/")[3]
    assert call.what


@pytest.mark.parametrize(
    "name", [None, 7, "", "7", "models/7", f"{P}/models/../x", f"{P}/tuningJobs/1", f"{MODEL}@"]
)
@pytest.mark.parametrize("call", ["model", "versions", "checkpoints", "delete_model", "delete_version"])
def test_what_names_no_model_is_refused(call: str, name: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"^model="):
        getattr(SCOPED, call)(name)


@pytest.mark.parametrize("name", [MODEL, f"{MODEL}@golden"])
def test_a_version_is_needed_where_one_changes(name: str) -> None:
    for call in (
        lambda: SCOPED.merge_aliases(name, ["a"], []),
        lambda: SCOPED.set_default_checkpoint(name, "1"),
        lambda: SCOPED.delete_version(name),
    ):
        with pytest.raises(InvalidInputError, match="with its version"):
            call()


def test_a_model_is_not_deleted_by_the_name_of_a_version() -> None:
    with pytest.raises(InvalidInputError, match="all of them are deleted"):
        SCOPED.delete_model(VERSION)


@pytest.mark.parametrize(
    ("add", "remove"), [([], []), (["a"], ["a"]), (["A"], []), (["default"], []), ([], ["-a"]), (["a/b"], [])]
)
def test_aliases_that_are_refused(add: list[str], remove: list[str]) -> None:
    with pytest.raises(InvalidInputError, match=r"^alias"):
        SCOPED.merge_aliases(VERSION, add, remove)


@pytest.mark.parametrize("value", ["x", "-1", None, "", 1.5, True])
def test_checkpoints_that_are_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"^checkpoint_id="):
        SCOPED.set_default_checkpoint(VERSION, value)


@pytest.mark.parametrize("name", [None, "3", MODEL, f"{ENDPOINT}/x"])
@pytest.mark.parametrize("call", ["endpoint", "delete_endpoint"])
def test_what_names_no_endpoint_is_refused(call: str, name: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"^endpoint="):
        getattr(SCOPED, call)(name)
    with pytest.raises(InvalidInputError):
        SCOPED.undeploy(name, "1")


def test_a_deployed_model_needs_an_id() -> None:
    for value in (None, "", 5):
        with pytest.raises(InvalidInputError, match=r"^deployed_model_id="):
            SCOPED.undeploy(ENDPOINT, value)


@pytest.mark.parametrize("value", [0, 1001, "many", True])
def test_page_sizes_that_are_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"^page_size="):
        SCOPED.models(page_size=value)


def test_project_and_location_are_checked() -> None:
    for calls, field in ((ModelCalls(None, "eu"), "project_id"), (ModelCalls("p", "evil.com/"), "location")):
        for call in (calls.models, calls.endpoints):
            with pytest.raises(InvalidInputError, match=f"^{field}="):
                call()


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (SCOPED.model(MODEL), {"name": ENDPOINT}),
        (SCOPED.model(MODEL), {}),
        (SCOPED.models(), {"models": [{"name": "x"}]}),
        (SCOPED.models(), {"models": {}}),
        (SCOPED.models(), {"models": ["x"]}),
        (SCOPED.models(page_token="t"), {"nextPageToken": "t"}),
        (SCOPED.endpoint(ENDPOINT), {"name": MODEL}),
        (SCOPED.delete_model(MODEL), {"name": MODEL}),
        (SCOPED.undeploy(ENDPOINT, "1"), {}),
    ],
)
def test_an_answer_of_another_shape_is_an_error(call: Call[Any], answer: Any) -> None:
    assert isinstance(call.read(answer), ApiError)
