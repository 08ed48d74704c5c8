"""Tune three settings on labelled reviews, keep the best, and roll it out if it is better than the base model.

The reviews are a CSV file with the columns ``text`` and ``label``. ``prepare`` names each broken row, leaves duplicates
out and splits the rest. A setting that fails stops nothing: ``select`` takes the best of the others, the cheapest among
equals; its XCom ``table`` holds all settings with their scores. ``serve_sentiment`` runs when a model was promoted.
"""

from airflow.sdk import DAG, Asset, task

from airflow_tuning_provider.evaluation.metrics import one_of
from airflow_tuning_provider.operators import evaluation as evaluations
from airflow_tuning_provider.operators.datasets import PrepareTuningDatasetOperator
from airflow_tuning_provider.operators.promotion import PromoteTunedModelOperator
from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator

MODEL = Asset("sentiment", uri="x-vertex-tuned-model://sentiment")
LABELS = ["positive", "neutral", "negative"]
SETTINGS = [{"epoch_count": 2}, {"epoch_count": 4}, {"epoch_count": 4, "learning_rate_multiplier": 0.5}]
GATE = {"verdict": "better", "macro_f1": 0.6, "recall:negative": 0.5}
PARAMS = {"source": "gs://my-tuning-data/reviews.csv", "bucket": "my-tuning-data", "poll_interval": 60}
SHARED = {"catchup": False, "max_active_runs": 1, "tags": ["tuning", "example"], "doc_md": __doc__}

with DAG("sweep_sentiment", schedule=None, params=PARAMS, **SHARED):
    data = PrepareTuningDatasetOperator(
        task_id="prepare",
        source="{{ params.source }}",
        destination="gs://{{ params.bucket }}/sentiment",
        system_instruction=f"Say what the review's sentiment is: {', '.join(LABELS)}.",
        split={"train": 0.7, "validation": 0.1, "held_out": 0.2},
    ).output
    tune = CreateTuningJobOperator.partial(
        task_id="tune",
        base_model="gemini-3.1-flash-lite",
        training_dataset_uri=data["training_dataset_uri"],
        validation_dataset_uri=data["validation_dataset_uri"],
        tuned_model_display_name="sentiment",
        dataset_manifest=data,
        max_cost=2.0,  # US dollars, for each setting
        poll_interval="{{ params.poll_interval }}",
    ).expand_kwargs(SETTINGS)
    evaluate = evaluations.EvaluateTunedModelOperator.partial(
        task_id="evaluate",
        held_out_uri=data["held_out_dataset_uri"],
        parse=one_of(LABELS),
        trigger_rule="all_done",
    ).expand(candidate=tune.output)
    best = evaluations.SelectTunedModelOperator(
        task_id="select", evaluations=evaluate.output, metric="macro_f1", trigger_rule="all_done"
    ).output
    gate = evaluations.EvaluationGateOperator(task_id="gate", evaluation=best["evaluation"], gate=GATE)
    PromoteTunedModelOperator(
        task_id="promote", tuned_model=best, evaluation=gate.output, dataset=data, outlets=[MODEL]
    )

with DAG("serve_sentiment", schedule=[MODEL], **SHARED):

    @task
    def roll_out(triggering_asset_events):
        """Return the endpoint that serves from now on: put it where your application reads it."""
        return triggering_asset_events[MODEL][-1].extra["endpoint"]

    roll_out()
