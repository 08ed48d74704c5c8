"""The XCom keys that docs/concepts.md names are those that are pushed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.operators.tuning_job import (
    CancelTuningJobOperator,
    CreateTuningJobOperator,
    RebaseTunedModelOperator,
)
from airflow_tuning_provider.sensors.tuning_job import TuningJobSensor

from .conftest import BODY, TaskInstance

PAGE = (Path(__file__).parents[3] / "docs" / "concepts.md").read_text()
XCOM = PAGE.split("## XCom")[1].split("## ")[0]
ROWS = {
    key: who
    for keys, who in re.findall(r"^\| (`[a-z_`, ]+`) \| ([^|]+) \|", XCOM, re.MULTILINE)
    for key in re.findall(r"`([a-z_]+)`", keys)
}
URLS = {"tuning_job_url", "tuned_model_url", "tuned_endpoint_url", "tuning_jobs_page_url"}


def run(operator: Any, task_id: str) -> tuple[Any, set[str]]:
    ti = TaskInstance(task_id=task_id)
    result = ti.run(operator)
    return result, set(ti.xcoms)


def test_the_keys_are_those_of_the_page(server: Emulator) -> None:
    create = CreateTuningJobOperator(task_id="tune", poll_interval=0.1, **BODY)
    result, created = run(create, "tune")
    assert created == {"tuning_job_name", *URLS}

    sensor = TuningJobSensor(task_id="wait", tuning_job_name=result["tuning_job_name"], poll_interval=0.1)
    again, looked = run(sensor, "wait")
    assert looked == URLS
    assert set(again) == set(result)

    cancel = CancelTuningJobOperator(task_id="cancel", tuning_job_name=result["tuning_job_name"])
    assert run(cancel, "cancel")[1] == URLS

    rebase = RebaseTunedModelOperator(
        task_id="rebase",
        tuned_model=result["tuned_model"],
        tuning_job={"base_model": "gemini-3.5-flash"},
        poll_interval=0.1,
    )
    _, rebased = run(rebase, "rebase")
    assert rebased == {"operation_name", "tuning_job_name", *URLS}

    assert set(ROWS) == {"return_value", *rebased}


def test_a_sensor_that_has_to_wait_tells_the_name(server: Emulator) -> None:
    name = server.seed({"state": "JOB_STATE_RUNNING"})[0]
    sensor = TuningJobSensor(task_id="wait", tuning_job_name=name, poll_interval=0.1)
    succeed = lambda _: server.set_state(name, "JOB_STATE_SUCCEEDED")  # noqa: E731
    ti = TaskInstance(task_id="wait", before_trigger=succeed)
    ti.run(sensor)
    assert set(ti.xcoms) == {"tuning_job_name", *URLS}


def test_without_the_wait_the_result_is_what_is_known(server: Emulator) -> None:
    create = CreateTuningJobOperator(task_id="tune", wait_for_completion=False, **BODY)
    result, keys = run(create, "tune")
    assert result["tuning_job_name"] == server.jobs()[0]["name"]
    assert result["tuned_model"] is None
    assert keys == {"tuning_job_name", "tuning_job_url", "tuning_jobs_page_url"}
