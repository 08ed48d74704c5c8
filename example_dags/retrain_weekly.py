"""Retrain a model every week and promote it only where it is better.

The case: a web shop for coffee and tea routes the messages of its customers to eight queues. The messages
that its staff have sorted so far are the training data (``data/support_messages.jsonl``).

    prepare -> tune -> evaluate -> decide -> [approve] -> promote

* ``prepare`` checks the messages, splits them by their text and uploads the sets, under a name made of their content.
* ``tune`` creates the job, unless it would cost more than ``max_cost``, and waits for its model without holding a
  worker. Marked failed, it cancels the job.
* ``evaluate`` asks the base model and the tuned one about the held-out messages, and writes a report. Its gate says
  whether the tuned model is good, and better.
* ``decide`` skips the rest if it is not. ``approve`` asks a person first, if ``approval`` is set.
* ``promote`` makes the model the champion of the asset ``support-router``. Whatever serves it is scheduled by that
  asset (``roll_out`` in ``roll_back.py``); ``roll_back`` returns to the model before.

To make it yours: change the defaults of ``params``, and ``source`` to where your examples are.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, Asset, Param, task
from airflow.timetables.trigger import CronTriggerTimetable

from airflow_tuning_provider.operators.datasets import PrepareTuningDatasetOperator
from airflow_tuning_provider.operators.evaluation import EvaluateTunedModelOperator
from airflow_tuning_provider.operators.promotion import PromoteTunedModelOperator
from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator

SUPPORT_ROUTER = Asset(name="support-router", uri="x-vertex-tuned-model://support-router")

with DAG(
    dag_id="retrain_weekly",
    description="Tune a support router every week; promote it if it is better.",
    doc_md=__doc__,
    # Mondays at five. Without start_date, and with run_immediately=0, the first scheduled run is the coming
    # one: unpausing this DAG costs nothing ("@weekly" would make up for a run that was due hours ago).
    schedule=CronTriggerTimetable("0 5 * * 1", timezone="UTC", run_immediately=timedelta(0)),
    catchup=False,
    max_active_runs=1,
    # A retry of `tune` finds the job that an earlier try created. Retries do not cost a second job.
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    params={
        "bucket": Param("my-tuning-data", type="string", description="A bucket in the region of the job."),
        "base_model": Param("gemini-3.5-flash", type="string"),
        "epochs": Param(4, type="integer", minimum=1),
        "max_cost": Param(5.0, type="number", description="US dollars that the tuning may cost."),
        "min_accuracy": Param(0.5, type="number", description="A floor: below it something is wrong."),
        "min_gain": Param(0.05, type="number", description="Promote only if it beats the base by this."),
        "approval": Param(False, type="boolean", description="Ask a person before the promotion."),
        "poll_interval": Param(60, type="number", description="Most seconds between two looks at the job."),
    },
    tags=["tuning", "example"],
):
    prepare = PrepareTuningDatasetOperator(
        task_id="prepare",
        source=(Path(__file__).parent / "data" / "support_messages.jsonl").as_uri(),
        question="{message}",
        answer="{queue}",
        system_instruction="You route messages that customers send to a web shop for coffee and tea. Answer with the "
        "name of one queue and nothing else: account, billing, business, damaged, order_status, product_advice, "
        "returns, subscription.",
        split={"train": 0.7, "validation": 0.1, "held_out": 0.2},
        destination="gs://{{ params.bucket }}/support-router",
        base_model="{{ params.base_model }}",
    )
    tune = CreateTuningJobOperator(
        task_id="tune",
        base_model="{{ params.base_model }}",
        training_dataset_uri=prepare.output["training_dataset_uri"],
        validation_dataset_uri=prepare.output["validation_dataset_uri"],
        epoch_count="{{ params.epochs }}",
        adapter_size=4,
        tuned_model_display_name="support-router",
        labels={"team": "support"},
        dataset_manifest=prepare.output,
        max_cost="{{ params.max_cost }}",
        poll_interval="{{ params.poll_interval }}",
        # Then the job is cancelled, and the task fails for good: a retry would only pay again.
        timeout=timedelta(hours=12).total_seconds(),
    )
    evaluate = EvaluateTunedModelOperator(
        task_id="evaluate",
        candidate=tune.output,
        held_out_uri=prepare.output["held_out_dataset_uri"],
        gate={
            "verdict": "better",
            "accuracy": {
                "threshold": "{{ params.min_accuracy }}",
                "min_absolute_change": "{{ params.min_gain }}",
            },
        },
        max_cost=1.0,
    )

    @task.branch
    def decide(evaluation: dict[str, Any], params: dict[str, Any]) -> str | None:
        """Return the task that comes next, ``None`` for no more."""
        if not evaluation["passed"]:
            return None
        return "approve" if params["approval"] else "promote"

    approve = ApprovalOperator(
        task_id="approve",
        subject="Promote the new support router?",
        body="{{ ti.xcom_pull(task_ids='evaluate')['sentence'] }}\n\n"
        "Report: `{{ ti.xcom_pull(task_ids='evaluate')['report_uri'] }}`",
        defaults="Reject",
        response_timeout=timedelta(days=1),
        retries=0,
    )
    promote = PromoteTunedModelOperator(
        task_id="promote",
        tuned_model=tune.output,
        evaluation=evaluate.output,
        dataset=prepare.output,
        outlets=[SUPPORT_ROUTER],
        trigger_rule="none_failed_min_one_success",
    )
    decide(evaluate.output) >> [approve, promote]
    approve >> promote
