"""CleanUpTunedModelsOperator against the emulator: what serves, or may serve again, is never deleted."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_tuning_provider import exceptions as errors
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
from airflow_tuning_provider.operators.cleanup import CleanUpTunedModelsOperator
from airflow_tuning_provider.operators.promotion import PromoteTunedModelOperator, RollbackTunedModelOperator
from tests.integration.tasks.champions import MODEL, Airflow, later, tuned, tuned_further, written
from tests.integration.tasks.conftest import Lost

Manifest = dict[str, Any]


@pytest.fixture
def airflow() -> Airflow:
    return Airflow()


@pytest.fixture
def line(server: Emulator, airflow: Airflow) -> list[Manifest]:
    """Five models: the last is the champion, the second was it before."""
    models = []
    for _ in range(5):
        later()
        models.append(tuned(server))
    for model in (models[1], models[4]):
        promote(airflow, model)
    return models


def promote(airflow: Airflow, model: Manifest, **kwargs: Any) -> None:
    airflow.run(
        PromoteTunedModelOperator(
            **{"task_id": "promote", "outlets": [MODEL], "tuned_model": model, **kwargs}
        )
    )


def clean_up(airflow: Airflow, **kwargs: Any) -> dict[str, Any]:
    given = {
        "task_id": "clean_up",
        "tuned_model_display_name": "router",
        "inlets": [MODEL],
        "poll_interval": 0.1,
    }
    given |= {"keep_latest": 0, "min_age": 0, "dry_run": False, **kwargs}
    result: dict[str, Any] = airflow.run(CleanUpTunedModelsOperator(**given))
    return result


def names(*models: Manifest) -> set[str]:
    return {model["tuned_model"] for model in models}


def endpoints(*models: Manifest) -> set[str]:
    return {checkpoint["endpoint"] for model in models for checkpoint in model["checkpoints"]}


def existing() -> tuple[set[str], set[str]]:
    """Return the versions and the endpoints that there are."""
    with TuningJobHook() as hook:
        models = [model["name"] for model in hook.list_models()]
        versions = {version["name"] for name in models for version in hook.list_model_versions(name)}
        return versions, {endpoint["name"] for endpoint in hook.list_endpoints(location="us")}


def test_a_dry_run_only_tells(server: Emulator, airflow: Airflow, line: list[Manifest]) -> None:
    before = written(server)
    result = clean_up(airflow, dry_run=True)
    assert set(result["models"]) == names(line[0], line[2], line[3])
    assert set(result["endpoints"]) == endpoints(line[0], line[2], line[3])
    assert result["deleted"] == []
    assert set(result["left_alone"]) == names(line[1], line[4])
    assert written(server) == before


def test_what_has_lost_goes_with_its_endpoints(airflow: Airflow, line: list[Manifest]) -> None:
    result = clean_up(airflow)
    lost = (line[0], line[2], line[3])
    assert set(result["deleted"]) == names(*lost) | endpoints(*lost)
    assert existing() == (names(line[1], line[4]), endpoints(line[1], line[4]))
    again = clean_up(airflow)
    assert (again["models"], again["deleted"]) == ([], [])


def test_a_roll_back_is_possible_after_it(airflow: Airflow, line: list[Manifest]) -> None:
    clean_up(airflow)
    roll_back = RollbackTunedModelOperator(task_id="roll_back", outlets=[MODEL])
    assert airflow.run(roll_back)["model"] == line[1]["tuned_model"]
    clean_up(airflow)
    assert existing()[0] == names(line[1]), "what was rolled back has lost"


@pytest.mark.parametrize("alias", [None, "champion"])
def test_the_event_protects_too(server: Emulator, airflow: Airflow, alias: str | None) -> None:
    first, second, third = (tuned(server) for _ in range(3))
    promote(airflow, first, alias=None)
    promote(airflow, second, alias=None)
    clean_up(airflow, alias=alias)
    assert existing()[0] == names(first, second), third


def test_what_a_person_has_named_stays(airflow: Airflow, line: list[Manifest]) -> None:
    with TuningJobHook() as hook:
        hook.merge_version_aliases(line[2]["tuned_model"], add=["golden"])
    assert "golden" in clean_up(airflow)["left_alone"][line[2]["tuned_model"]]
    assert existing()[0] == names(line[1], line[2], line[4])


def test_newest_and_young_ones_stay(airflow: Airflow, line: list[Manifest]) -> None:
    assert set(clean_up(airflow, min_age=3600)["left_alone"]) == names(*line)
    result = clean_up(airflow, keep_latest="2")
    assert set(result["models"]) == names(line[0])
    assert "2 newest" in result["left_alone"][line[3]["tuned_model"]]


def test_a_line_without_a_champion_is_left_alone(server: Emulator, airflow: Airflow) -> None:
    model = tuned(server)
    result = clean_up(airflow)
    assert result["models"] == []
    assert "no champion" in result["left_alone"][model["tuned_model"]]


def test_other_lines_are_not_touched(server: Emulator, airflow: Airflow, line: list[Manifest]) -> None:
    other = tuned(server, "other")
    clean_up(airflow)
    assert other["tuned_model"] in existing()[0]


def test_what_a_job_goes_on_from_stays(server: Emulator, airflow: Airflow, line: list[Manifest]) -> None:
    job = tuned_further(server, line[2])
    server.set_state(job["tuning_job_name"], "JOB_STATE_RUNNING")
    assert "goes on from" in clean_up(airflow)["left_alone"][line[2]["tuned_model"]]


def test_versions_of_one_model(server: Emulator, airflow: Airflow) -> None:
    first = tuned(server)
    second = tuned_further(server, first)
    third = tuned_further(server, second)
    promote(airflow, second)
    promote(airflow, third)
    clean_up(airflow)
    assert existing() == (names(second, third), endpoints(second, third))


def test_what_is_promoted_meanwhile_stays(
    airflow: Airflow, line: list[Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = CleanUpTunedModelsOperator._report

    def promoted(self: Any, *args: Any) -> None:
        report(self, *args)
        promote(airflow, line[2])

    monkeypatch.setattr(CleanUpTunedModelsOperator, "_report", promoted)
    result = clean_up(airflow)
    assert "champion" in result["left_alone"][line[2]["tuned_model"]]
    assert {line[2]["tuned_model"], line[4]["tuned_model"]} <= existing()[0]


@pytest.mark.parametrize("lost_at", range(1, 10))
def test_an_attempt_that_is_lost_anywhere_is_completed_by_the_next(
    airflow: Airflow, line: list[Manifest], monkeypatch: pytest.MonkeyPatch, lost_at: int
) -> None:
    wait, waits = CleanUpTunedModelsOperator._wait, []

    def lose(self: Any, hook: Any, operation: Any) -> None:
        waits.append(operation)
        if len(waits) == lost_at:
            raise Lost
        wait(self, hook, operation)

    with monkeypatch.context() as patch, pytest.raises(Lost):
        patch.setattr(CleanUpTunedModelsOperator, "_wait", lose)
        clean_up(airflow)
    clean_up(airflow)
    assert existing() == (names(line[1], line[4]), endpoints(line[1], line[4]))


def test_what_cannot_be_deleted_keeps_nothing_else(
    server: Emulator, airflow: Airflow, line: list[Manifest]
) -> None:
    broken = line[2]["tuned_model"].rpartition("/")[2].partition("@")[0]
    refused = {"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "Permission denied."}}
    server.fault(method="DELETE", path_regex=f"/models/{broken}$", times=-1, status=403, body=refused)
    with pytest.raises(errors.TuningError, match=r"Permission denied\.") as caught:
        clean_up(airflow)
    assert line[2]["tuned_model"] in str(caught.value)
    assert existing()[0] == names(line[1], line[2], line[4])
    server.clear_faults()
    clean_up(airflow)
    assert existing()[0] == names(line[1], line[4])


def test_spare_checkpoints_of_what_is_kept(server: Emulator, airflow: Airflow) -> None:
    first, second = tuned(server), tuned(server)
    promote(airflow, first, checkpoint_id=1)
    promote(airflow, second)
    assert clean_up(airflow)["endpoints"] == []
    spare = {first["checkpoints"][1]["endpoint"], second["checkpoints"][0]["endpoint"]}
    result = clean_up(airflow, checkpoints=True)
    assert set(result["deleted"]) == spare
    assert existing() == (names(first, second), endpoints(first, second) - spare)


def test_an_endpoint_that_serves_another_model_too_is_left_alone(
    server: Emulator, airflow: Airflow, line: list[Manifest]
) -> None:
    """As after a rebase with ``deploy_to_same_endpoint``."""
    server.overlay(
        line[0]["tuning_job_name"],
        {
            "tunedModel": {
                "model": line[0]["tuned_model"],
                "endpoint": line[4]["endpoint"],
                "checkpoints": None,
            }
        },
    )
    clean_up(airflow)
    assert endpoints(line[4]) <= existing()[1]


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"tuned_model_display_name": ""}, "tuned_model_display_name"),
        ({"keep_latest": -1}, "keep_latest"),
        ({"keep_latest": "many"}, "keep_latest"),
        ({"min_age": -5}, "min_age"),
        ({"dry_run": "perhaps"}, "dry_run"),
        ({"checkpoints": "some"}, "checkpoints"),
        ({"timeout": 0}, "timeout"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(
    server: Emulator, airflow: Airflow, parameters: dict[str, Any], field: str
) -> None:
    with pytest.raises(errors.TuningInvalidInputError, match=f"^{field}="):
        clean_up(airflow, **parameters)
    assert server.requests() == []
