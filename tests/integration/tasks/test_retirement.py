"""RetirementWatchOperator against the emulator: which tuned models are told of, and which not."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_tuning_provider import exceptions as errors
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
from airflow_tuning_provider.operators.cleanup import CleanUpTunedModelsOperator
from airflow_tuning_provider.operators.promotion import PromoteTunedModelOperator
from airflow_tuning_provider.operators.retirement import RetirementWatchOperator
from tests.integration.tasks.champions import MODEL, Airflow, tuned, tuned_further

FLASH = "gemini-3.5-flash"  # until 2027-05-19


@pytest.fixture
def airflow() -> Airflow:
    return Airflow()


def watch(airflow: Airflow, **kwargs: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = airflow.run(RetirementWatchOperator(**{"task_id": "watch", **kwargs}))
    return found


def told(found: list[dict[str, Any]]) -> list[str]:
    return [one["tuned_model"] for one in found]


@pytest.mark.parametrize(
    ("today", "days_left"),
    [("2027-03-19", None), ("2027-03-20", 60), ("2027-05-19", 0), ("2027-06-01", -13)],
)
def test_sixty_days_ahead(server: Emulator, airflow: Airflow, today: str, days_left: int | None) -> None:
    model = tuned(server)
    found = watch(airflow, today=today)
    if days_left is None:
        assert found == []
        return
    assert found == [
        {
            "tuned_model": model["tuned_model"],
            "display_name": "router",
            "aliases": [],
            "tuning_job_name": model["tuning_job_name"],
            "endpoint": model["endpoint"],
            "base_model": FLASH,
            "retires": "2027-05-19",
            "days_left": days_left,
            "rebase_to": FLASH,
        }
    ]


def test_what_is_said(server: Emulator, airflow: Airflow, caplog: Any, capsys: Any) -> None:
    model = tuned(server)
    watch(airflow, today="2027-05-01", table={FLASH: {"retires": "2027-05-19", "rebase_to": "gemini-9"}})
    text = caplog.text + capsys.readouterr().out
    for part in (model["tuned_model"], "2027-05-19", "in 18 days", "blocked", "gemini-9"):
        assert part in text


def test_the_most_urgent_come_first(server: Emulator, airflow: Airflow) -> None:
    one = tuned(server)
    two = tuned(server, baseModel="publishers/google/models/gemini-3.1-flash-lite")
    three = tuned_further(server, one)
    found = watch(airflow, today="2027-05-01")
    assert told(found)[0] == two["tuned_model"]
    assert set(told(found)[1:]) == {one["tuned_model"], three["tuned_model"]}
    assert found[0]["rebase_to"] == "gemini-3.5-flash-lite"


def test_only_what_still_exists_and_is_wanted(server: Emulator, airflow: Airflow) -> None:
    lost, other, serves = tuned(server), tuned(server, "other"), tuned(server)
    with TuningJobHook() as hook:
        failed = hook.create_tuning_job(
            {"baseModel": FLASH, "supervisedTuningSpec": {"trainingDatasetUri": "gs://b/t.jsonl"}}
        )
    server.set_state(failed["name"], "JOB_STATE_FAILED")
    airflow.run(PromoteTunedModelOperator(task_id="promote", outlets=[MODEL], tuned_model=serves))
    everything = {"today": "2027-05-01"}
    assert set(told(watch(airflow, **everything))) == {
        model["tuned_model"] for model in (lost, other, serves)
    }
    (found,) = watch(airflow, **everything, aliases=["champion"])
    assert (found["tuned_model"], found["aliases"]) == (serves["tuned_model"], ["champion"])
    assert told(watch(airflow, **everything, aliases="previous, champion")) == [serves["tuned_model"]]
    assert told(watch(airflow, **everything, tuned_model_display_name="other")) == [other["tuned_model"]]
    airflow.run(
        CleanUpTunedModelsOperator(
            task_id="clean_up",
            tuned_model_display_name="router",
            keep_latest=0,
            min_age=0,
            poll_interval=0.1,
            dry_run=False,
        )
    )
    assert set(told(watch(airflow, **everything))) == {other["tuned_model"], serves["tuned_model"]}


def test_a_base_model_that_the_table_does_not_have(
    server: Emulator, airflow: Airflow, caplog: Any, capsys: Any
) -> None:
    model = tuned(server, baseModel="gemini-9-new")
    assert watch(airflow, today="2027-05-01") == []
    assert "does not have the base model gemini-9-new" in caplog.text + capsys.readouterr().out
    assert told(watch(airflow, today="2027-05-01", table={"gemini-9-new": "2027-05-02"})) == [
        model["tuned_model"]
    ]


def test_an_old_table_says_so(airflow: Airflow, caplog: Any, capsys: Any) -> None:
    watch(airflow, today="2028-01-01")
    assert "model-versions for newer dates" in caplog.text + capsys.readouterr().out


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"warn_days": "soon"}, "warn_days"),
        ({"warn_days": -1}, "warn_days"),
        ({"today": "tomorrow"}, "today"),
        ({"table": {"m": "soon"}}, "table"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(
    server: Emulator, airflow: Airflow, parameters: dict[str, Any], field: str
) -> None:
    with pytest.raises(errors.TuningInvalidInputError, match=f"^{field}"):
        watch(airflow, **parameters)
    assert server.requests() == []
