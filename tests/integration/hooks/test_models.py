"""The hook's methods for models and endpoints, against the emulator."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_tuning_provider import exceptions as errors
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
from tests.integration.conftest import PARENT

MODEL = f"{PARENT}/models/1"


@pytest.fixture
def tuned(hook: TuningJobHook, emulator: Emulator) -> list[dict[str, Any]]:
    """The tunedModel of three jobs that have succeeded, oldest first."""
    names = [
        emulator.seed({"state": "JOB_STATE_SUCCEEDED", "tunedModelDisplayName": name})[0]
        for name in ("router", "other", "router")
    ]
    return [hook.get_tuning_job(name)["tunedModel"] for name in names]


def bare(tuned: dict[str, Any]) -> str:
    return str(tuned["model"]).partition("@")[0]


def test_models_are_listed_over_pages_and_by_name(
    hook: TuningJobHook, emulator: Emulator, tuned: list[dict[str, Any]]
) -> None:
    assert [model["name"] for model in hook.list_models(page_size=2)] == [bare(one) for one in tuned[::-1]]
    assert sum(r["path"].endswith("/models") for r in emulator.requests()) == 2
    found = hook.list_models(filter='display_name="router"')
    assert [model["name"] for model in found] == [bare(tuned[2]), bare(tuned[0])]
    assert list(hook.list_models(location="europe-west4")) == []


def test_a_list_asks_only_when_it_is_read(
    hook: TuningJobHook, emulator: Emulator, tuned: list[dict[str, Any]]
) -> None:
    before = emulator.last_request()
    models = hook.list_models(page_size=1)
    assert emulator.requests(before) == []
    next(models)
    assert len(emulator.requests(before)) == 1


def test_aliases_checkpoints_and_versions(hook: TuningJobHook, tuned: list[dict[str, Any]]) -> None:
    name = tuned[0]["model"]
    assert set(hook.merge_version_aliases(name, add=["champion"])["versionAliases"]) == {
        "default",
        "champion",
    }
    assert hook.get_model(f"{bare(tuned[0])}@champion")["versionId"] == "1"
    assert hook.merge_version_aliases(name, remove=["champion"])["versionAliases"] == ["default"]
    checkpoints = [one["checkpointId"] for one in hook.list_model_checkpoints(name)]
    assert checkpoints == [one["checkpointId"] for one in tuned[0]["checkpoints"]]
    assert hook.set_default_checkpoint(name, checkpoints[0])["defaultCheckpointId"] == checkpoints[0]
    assert [version["name"] for version in hook.list_model_versions(name)] == [name]


def test_endpoints_and_models_are_taken_down(hook: TuningJobHook, tuned: list[dict[str, Any]]) -> None:
    names = {endpoint["name"] for endpoint in hook.list_endpoints(location="us", page_size=2)}
    assert names == {checkpoint["endpoint"] for one in tuned for checkpoint in one["checkpoints"]}
    with pytest.raises(errors.TuningBadRequestError, match="deployed models"):
        hook.delete_model(bare(tuned[0]))
    with pytest.raises(errors.TuningBadRequestError, match="only version"):
        hook.delete_model_version(tuned[0]["model"])
    for checkpoint in tuned[0]["checkpoints"]:
        (deployed,) = hook.get_endpoint(checkpoint["endpoint"])["deployedModels"]
        for operation in (
            lambda: hook.undeploy_model(checkpoint["endpoint"], deployed["id"]),  # noqa: B023
            lambda: hook.delete_endpoint(checkpoint["endpoint"]),  # noqa: B023
        ):
            ended = hook.wait_until_ended(operation()["name"], poll_interval=0.1, deadline=None)
            assert ended["done"] is True
            assert "error" not in ended
    hook.wait_until_ended(hook.delete_model(bare(tuned[0]))["name"], poll_interval=0.1, deadline=None)
    with pytest.raises(errors.TuningNotFoundError):
        hook.get_model(tuned[0]["model"])


def test_what_is_repeatable_is_sent_again(
    hook: TuningJobHook, emulator: Emulator, tuned: list[dict[str, Any]]
) -> None:
    emulator.fault(method="POST", path_regex=":mergeVersionAliases$", times=1, drop="after_processing")
    emulator.fault(method="PATCH", times=1, status=503)
    hook.merge_version_aliases(tuned[0]["model"], add=["champion"])
    hook.set_default_checkpoint(tuned[0]["model"], "1")
    assert sum(r["method"] == "POST" for r in emulator.requests()) == 2


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("get_model", ["1"]),
        ("get_model", [f"{MODEL}/../2"]),
        ("list_models", {"page_size": 0}),
        ("list_models", {"location": "evil.example/"}),
        ("list_model_versions", ["models/1"]),
        ("list_model_checkpoints", [f"{MODEL}@a b"]),
        ("merge_version_aliases", {"name": MODEL, "add": ["champion"]}),
        ("merge_version_aliases", {"name": f"{MODEL}@1", "add": ["Champion"]}),
        ("merge_version_aliases", {"name": f"{MODEL}@1"}),
        ("set_default_checkpoint", [f"{MODEL}@1", "last"]),
        ("delete_model", [f"{MODEL}@1"]),
        ("delete_model_version", [MODEL]),
        ("get_endpoint", [MODEL]),
        ("list_endpoints", {"project_id": "../x"}),
        ("undeploy_model", [f"{PARENT}/endpoints/1", ""]),
        ("delete_endpoint", ["endpoints/1"]),
    ],
)
def test_input_that_cannot_be_right_is_refused_before_anything_is_sent(
    hook: TuningJobHook, emulator: Emulator, method: str, arguments: Any
) -> None:
    with pytest.raises(errors.TuningInvalidInputError, match="Nothing was sent"):
        getattr(hook, method)(**arguments) if isinstance(arguments, dict) else getattr(hook, method)(
            *arguments
        )
    assert emulator.requests() == []
