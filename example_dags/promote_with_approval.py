"""Promote a tuned model after a person has said yes.

The gate of an evaluation is a rule; some teams want a person's word as well. Airflow's own ``ApprovalOperator`` stands
between the evaluation and the promotion: its page (*Browse > Required Actions*) shows the verdict and the numbers.
While it waits, it holds no worker. *Approve* promotes, *Reject* skips the promotion, and no answer within a day counts
as *Reject*.

Give the name of a tuning job that has succeeded. The evaluation here is a smoke test: does the tuned model answer
at all? In a pipeline, the result of an evaluation on held-out data takes its place.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, Asset, Param, task

from airflow_tuning_provider.operators.promotion import PromoteTunedModelOperator
from airflow_tuning_provider.sensors.tuning_job import TuningJobSensor

MODEL = Asset(name="support-router", uri="x-vertex-tuned-model://support-router")

with DAG(
    dag_id="promote_with_approval",
    description="Ask a person, then promote a tuned model.",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    # Promotions and roll-backs of one line of models run one at a time.
    max_active_runs=1,
    params={
        "tuning_job_name": Param("", type="string", description="A tuning job that has succeeded."),
        "prompts": Param(
            ["Where is my parcel?", "I want my money back."],
            type="array",
            description="Asked in the smoke test.",
        ),
        "poll_interval": Param(60, type="number", description="Seconds between two looks at the job."),
    },
    tags=["tuning", "example"],
):
    job = TuningJobSensor(
        task_id="job",
        tuning_job_name="{{ params.tuning_job_name }}",
        poll_interval="{{ params.poll_interval }}",
        timeout=timedelta(hours=12).total_seconds(),
    )

    @task
    def evaluate(job: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
        """Ask the tuned model, and see that it answers."""
        from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

        with TuningJobHook() as hook:
            answers = [hook.generate_content(job["endpoint"], prompt) for prompt in params["prompts"]]
        answered = sum(bool(answer.get("candidates")) for answer in answers)
        passed = answered == len(answers)
        return {
            "passed": passed,
            "verdict": "answers" if passed else "does not answer",
            "metrics": {"asked": len(answers), "answered": answered},
        }

    evaluation = evaluate(job.output)

    approve = ApprovalOperator(
        task_id="approve",
        subject="Promote {{ ti.xcom_pull(task_ids='job')['tuned_model_display_name'] }}?",
        body="""\
{% set job = ti.xcom_pull(task_ids='job') %}{% set evaluation = ti.xcom_pull(task_ids='evaluate') %}
**{{ evaluation['verdict'] }}**

{% for name, value in evaluation['metrics'].items() %}- {{ name }}: {{ value }}
{% endfor %}
Model `{{ job['tuned_model'] }}`, tuned from `{{ job['base_model'] }}` on {{ job['example_count'] }} examples.
""",
        defaults="Reject",
        response_timeout=timedelta(days=1),
    )

    promote = PromoteTunedModelOperator(
        task_id="promote",
        tuned_model=job.output,
        evaluation=evaluation,
        outlets=[MODEL],
        retries=3,
        retry_delay=timedelta(seconds=10),
    )

    evaluation >> approve >> promote
