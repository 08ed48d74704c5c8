"""One DAG for each row of the kill table."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, get_parsing_context

from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
from airflow_tuning_provider.sensors.tuning_job import TuningJobSensor
from tests.proofs.kill.rows import ROWS, Action, Row, Task
from tests.proofs.kill.slow import SlowCreate, SlowSensor

SECONDS = 40
"""For the timeouts: longer than the task takes to get where it shall be, on a busy machine."""


def settings_of(row: Row) -> dict[str, Any]:
    """Return the task's arguments, but for what it works on."""
    owns = row.task is not Task.SENSOR
    settings: dict[str, Any] = {
        "task_id": "task",
        "deferrable": row.where.deferred,
        "poll_interval": 1,
        "request_timeout": 20,
        "cancel_on_kill": owns,
        "cancel_on_timeout": owns and row.action is not Action.SLOW_TRIGGER,
    }
    if row.action in (Action.OWN_TIMEOUT, Action.SLOW_TRIGGER):
        settings["timeout"] = SECONDS
    if row.action is Action.EXECUTION_TIMEOUT:
        settings["execution_timeout"] = timedelta(seconds=SECONDS)
    return settings


def add_task(row: Row) -> None:
    """Add the row's task to the DAG that is being built."""
    slow = row.action is Action.SLOW_TRIGGER
    each: dict[str, list[str]]
    operator: Any
    if row.task is Task.CREATE:
        operator = SlowCreate if slow else CreateTuningJobOperator
        settings = {**settings_of(row), "base_model": "gemini-3.5-flash"}
        each = {"training_dataset_uri": [f"gs://bucket/{index}.jsonl" for index in range(row.instances)]}
    else:
        operator = SlowSensor if slow else TuningJobSensor
        settings = settings_of(row)
        if row.task is Task.TRIGGERED:
            settings["start_from_trigger"] = True
        names = [f"{{{{ dag_run.conf['jobs'][{index}] }}}}" for index in range(row.instances)]
        each = {"tuning_job_name": names}
    if row.where.mapped:
        operator.partial(**settings).expand(**each)
    else:
        operator(**settings, **{field: values[0] for field, values in each.items()})


wanted = get_parsing_context().dag_id
for row in ROWS:
    if wanted in (None, row.dag_id):
        with DAG(row.dag_id, schedule=None, catchup=False) as dag:
            add_task(row)
        globals()[row.dag_id] = dag
