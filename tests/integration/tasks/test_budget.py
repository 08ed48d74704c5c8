"""max_cost and monthly_budget of CreateTuningJobOperator, against the emulator."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from airflow_tuning_provider import exceptions as errors
from airflow_tuning_provider._compat import AirflowSkipException
from airflow_tuning_provider._tasks.budget import TOKENS_LABEL
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
from tests.integration.tasks.conftest import BODY, LONG, TaskInstance, creates, is_permanent, lists

# gemini-3.5-flash: $10 a million tokens, so an epoch of these costs $5.
MANIFEST = {"tokens": {"estimate": 500_000, "low": 400_000, "high": 700_000}}
MODES = pytest.mark.parametrize("deferrable", [True, False], ids=["deferrable", "blocking"])


def operator(**kwargs: Any) -> CreateTuningJobOperator:
    given = {"task_id": "tune", "poll_interval": 0.2, "epoch_count": 2, "dataset_manifest": MANIFEST}
    return CreateTuningJobOperator(**{**BODY, **given, **kwargs})


@MODES
def test_a_job_within_its_cost_is_created(server: Emulator, ti: TaskInstance, deferrable: bool) -> None:
    assert ti.run(operator(max_cost="10", deferrable=deferrable))["state"] == "JOB_STATE_SUCCEEDED"
    (job,) = server.jobs()
    assert job["labels"][TOKENS_LABEL] == "500000"


@pytest.mark.parametrize(
    "given",
    [
        {"max_cost": 9.99},
        {"max_cost": 9.99, "dataset_manifest": str(MANIFEST)},
        {"max_cost": 9.99, "dataset_manifest": json.dumps(MANIFEST)},
        {"max_cost": 9.99, "dataset_manifest": None, "billable_tokens_per_epoch": "500000"},
        {"max_cost": 19, "prices": {"gemini-3.5-flash": 20}},
        {"monthly_budget": 9.99},
    ],
)
def test_a_job_beyond_its_cost_is_refused_for_good(
    server: Emulator, ti: TaskInstance, given: dict[str, Any]
) -> None:
    with pytest.raises(errors.TuningBudgetError, match=r"\$\d+\.\d\d.*Nothing was created") as refused:
        ti.run(operator(**given))
    assert is_permanent(refused.value)
    assert creates(server) == []


def test_a_whole_body_is_looked_at_too(server: Emulator, ti: TaskInstance) -> None:
    body = {
        "base_model": "gemini-3.5-flash",
        "supervised_tuning_spec": {
            "training_dataset_uri": "gs://b/t.jsonl",
            "hyper_parameters": {"epoch_count": 3},
        },
    }
    whole = CreateTuningJobOperator(
        task_id="tune", tuning_job=body, dataset_manifest=MANIFEST, max_cost=14.99, poll_interval=0.2
    )
    with pytest.raises(errors.TuningBudgetError, match="3 epochs"):
        ti.run(whole)
    whole.max_cost = 15
    assert ti.retry().run(whole)["state"] == "JOB_STATE_SUCCEEDED"


@pytest.mark.parametrize("limit", ["max_cost", "monthly_budget"])
@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"epoch_count": None}, "Set epoch_count"),
        ({"dataset_manifest": None}, "Give dataset_manifest"),
        ({"base_model": "gemini-9-unheard"}, "Give prices"),
        (
            {"base_model": None, "pre_tuned_model": "projects/p/locations/us-central1/models/7@1"},
            "Give prices",
        ),
    ],
)
def test_a_cost_that_cannot_be_known_is_refused(
    server: Emulator, ti: TaskInstance, limit: str, given: dict[str, Any], what: str
) -> None:
    with pytest.raises(errors.TuningBudgetError, match=what):
        ti.run(operator(**{limit: 1e6, **given}))
    assert creates(server) == []


def test_skip_instead_of_fail(server: Emulator, ti: TaskInstance) -> None:
    with pytest.raises(AirflowSkipException, match="more than max_cost"):
        ti.run(operator(max_cost=1, on_over_budget="skip"))
    assert creates(server) == []


@MODES
def test_a_retry_joins_its_job_whatever_it_costs(server: Emulator, deferrable: bool) -> None:
    ti = TaskInstance(retries=3)
    long = {**LONG, "dataset_manifest": MANIFEST, "deferrable": deferrable}
    ti.lose(operator(**{**long, "max_cost": 1e9}))
    (job,) = server.jobs()
    server.set_state(job["name"], "JOB_STATE_SUCCEEDED")
    result = ti.retry().run(operator(**{**long, "max_cost": 0.01, "monthly_budget": 0.01}))
    assert result["tuning_job_name"] == job["name"]
    # So does a clear of what succeeded.
    assert ti.clear().run(operator(**{**long, "max_cost": 0.01}))["tuning_job_name"] == job["name"]
    assert len(creates(server)) == 1


def of_the_month(tokens: int | None, epochs: int = 2, **more: Any) -> dict[str, Any]:
    stats = {"supervisedTuningDataStats": {"totalBillableTokenCount": str(tokens)}} if tokens else {}
    return {
        "state": "JOB_STATE_SUCCEEDED",
        "baseModel": "gemini-3.5-flash",
        "supervisedTuningSpec": {
            "trainingDatasetUri": "gs://b/t.jsonl",
            "hyperParameters": {"epochCount": str(epochs)},
        },
        **({"tuningDataStats": stats} if stats else {}),
        **more,
    }


def test_a_month_adds_up_what_all_jobs_cost(server: Emulator, ti: TaskInstance) -> None:
    last_month = time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(time.time() - 40 * 86400))
    names = server.seed(of_the_month(1_000_000)) + server.seed(of_the_month(500_000))  # $20 and $10
    old = server.seed(of_the_month(9_000_000))
    server.overlay(old[0], {"createTime": last_month})
    assert len(names) == 2
    with pytest.raises(errors.TuningBudgetError, match=r"2 jobs .* \$30\.00; with this one's \$10\.00"):
        ti.run(operator(monthly_budget=39.99))
    assert creates(server) == []
    assert ti.retry().run(operator(monthly_budget=40))["state"] == "JOB_STATE_SUCCEEDED"
    # No whole jobs, which hold samples of their data.
    assert all("fields" in request["query"] for request in lists(server))


def test_what_other_jobs_cost_is_estimated_until_it_is_known(server: Emulator, ti: TaskInstance) -> None:
    running = of_the_month(None, state="JOB_STATE_RUNNING", labels={TOKENS_LABEL: "1000000"})
    (name,) = server.seed(running)
    server.overlay(name, {"tuningDataStats": None})
    with pytest.raises(errors.TuningBudgetError, match=r"\$20\.00"):
        ti.run(operator(monthly_budget=29))
    assert ti.retry().run(operator(monthly_budget=30))


def test_what_cannot_be_known_yet_is_looked_at_by_a_retry(server: Emulator, ti: TaskInstance) -> None:
    (name,) = server.seed(of_the_month(None, state="JOB_STATE_PENDING"))
    server.overlay(name, {"tuningDataStats": None})
    with pytest.raises(errors.TuningQuotaError, match="cannot be known yet") as refused:
        ti.run(operator(monthly_budget=1000))
    assert not is_permanent(refused.value)
    server.overlay(name, {"tuningDataStats": None, "state": "JOB_STATE_FAILED"})
    assert ti.retry().run(operator(monthly_budget=1000))


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"max_cost": "much"}, "max_cost"),
        ({"max_cost": 0}, "max_cost"),
        ({"monthly_budget": float("nan")}, "monthly_budget"),
        ({"on_over_budget": "ask"}, "on_over_budget"),
        ({"dataset_manifest": "nothing"}, "dataset_manifest"),
        ({"billable_tokens_per_epoch": 0}, "billable_tokens_per_epoch"),
        ({"prices": {"m": "cheap"}}, "prices.m"),
    ],
)
def test_limits_that_cannot_be_right(
    server: Emulator, ti: TaskInstance, given: dict[str, Any], field: str
) -> None:
    with pytest.raises(errors.TuningInvalidInputError) as refused:
        ti.run(operator(**given))
    assert refused.value.field == field
    assert server.requests() == []
