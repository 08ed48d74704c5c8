"""Retrain a model every week and publish it only where it is better.

The case: a web shop for coffee and tea routes the messages of its customers to eight queues. The messages
that its staff have sorted so far are the training data (``data/support_messages.jsonl``).

    prepare_data -> tune -> evaluate -> decide -> publish | keep_current -> report

* ``prepare_data`` uploads the messages, split into training, validation and held-out sets.
* ``tune`` creates the job and waits for its model, without holding a worker while the job runs. Marked failed, it
  cancels the job.
* ``evaluate`` asks the base model and the tuned one about the held-out messages.
* ``publish`` puts the tuned endpoint on record as an event of the asset ``support-router``, with its metrics.
  Whatever serves the model is scheduled by that asset. ``keep_current`` leaves everything as it is.

To make it yours: change the defaults of ``params``, and ``read_messages`` to read from your own source.
"""

from __future__ import annotations

import hashlib
import json
import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, Param, task
from airflow.timetables.trigger import CronTriggerTimetable

from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator

log = logging.getLogger(__name__)

MESSAGES = Path(__file__).parent / "data" / "support_messages.jsonl"
SUPPORT_ROUTER = Asset(name="support-router", uri="x-vertex-tuned-model://support-router")

INSTRUCTION = (
    "You route messages that customers send to a web shop for coffee and tea. Answer with the name of one "
    "queue and nothing else: account, billing, business, damaged, order_status, product_advice, returns, "
    "subscription."
)


def read_messages() -> list[dict[str, str]]:
    """Return every sorted message as ``{"message": ..., "queue": ...}``."""
    return [json.loads(line) for line in MESSAGES.read_text(encoding="utf-8").splitlines()]


def split_of(message: str) -> str:
    """Return the set that a message belongs to: always the same one, however many messages there are.

    A random split would move messages from the held-out set to the training set from one week to the next,
    and the evaluation would then test what the model has learnt by heart.
    """
    bucket = hashlib.sha256(message.encode()).digest()[0] % 10
    return "held_out" if bucket < 2 else "validation" if bucket == 2 else "train"


def question(message: str) -> dict[str, Any]:
    """Return what the model is asked; the same in training, in the evaluation and in production."""
    return {
        "systemInstruction": {"role": "system", "parts": [{"text": INSTRUCTION}]},
        "contents": [{"role": "user", "parts": [{"text": message}]}],
    }


def training_example(message: str, queue: str) -> dict[str, Any]:
    """Return one line of the data set: the question and the answer that the model has to learn."""
    example = question(message)
    example["contents"].append({"role": "model", "parts": [{"text": queue}]})
    return example


with DAG(
    dag_id="retrain_weekly",
    description="Tune a support router every week; publish it if it is better.",
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
        "min_accuracy": Param(0.5, type="number", description="A floor: below it something is wrong."),
        "min_gain": Param(0.05, type="number", description="Publish only if it beats the base by this."),
        "poll_interval": Param(60, type="number", description="Seconds between two looks at the job."),
    },
    tags=["tuning", "example"],
):

    @task
    def prepare_data(params: dict[str, Any]) -> dict[str, Any]:
        """Upload the three sets and return where they are (XCom is no place for a data set)."""
        from google.cloud import storage

        lines: dict[str, list[str]] = {"train": [], "validation": [], "held_out": []}
        for row in read_messages():
            split = split_of(row["message"])
            line = row if split == "held_out" else training_example(row["message"], row["queue"])
            lines[split].append(json.dumps(line, ensure_ascii=False))

        # The same messages make the same path: what a model was trained on stays there, unchanged.
        content = {split: "\n".join(sorted(some)) + "\n" for split, some in lines.items()}
        version = hashlib.sha256("".join(content.values()).encode()).hexdigest()[:12]
        bucket = storage.Client().bucket(params["bucket"])
        uris: dict[str, Any] = {}
        for split, text in content.items():
            blob = bucket.blob(f"support-router/{version}/{split}.jsonl")
            blob.upload_from_string(text.encode(), content_type="application/jsonl")
            uris[split] = f"gs://{bucket.name}/{blob.name}"
            log.info("%s: %d examples", uris[split], len(lines[split]))
        return uris

    data = prepare_data()

    tune = CreateTuningJobOperator(
        task_id="tune",
        base_model="{{ params.base_model }}",
        training_dataset_uri=data["train"],
        validation_dataset_uri=data["validation"],
        epoch_count="{{ params.epochs }}",
        adapter_size=4,
        tuned_model_display_name="support-router",
        labels={"team": "support"},
        poll_interval="{{ params.poll_interval }}",
        # Then the job is cancelled, and the task fails for good: a retry would only pay again.
        timeout=timedelta(hours=12).total_seconds(),
    )

    @task
    def evaluate(job: dict[str, Any], held_out: str) -> dict[str, Any]:
        """Ask both models about messages that neither has seen, and count the right answers."""
        from google.cloud import storage

        from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

        blob = storage.Blob.from_uri(held_out, client=storage.Client())
        rows = [json.loads(line) for line in blob.download_as_text().splitlines()]
        correct = {"base": 0, "tuned": 0}
        # Untuned models of Gemini 3 answer in "global", "us" and "eu", not in the region of the job. The tuned
        # endpoint's name has a location of its own.
        with TuningJobHook(location="global") as hook:
            for row in rows:
                asked = question(row["message"])
                for name, model in (("base", job["base_model"]), ("tuned", job["endpoint"])):
                    answer = hook.generate_content(model, **asked)
                    parts = answer["candidates"][0]["content"]["parts"]
                    text = "".join(part.get("text", "") for part in parts)
                    correct[name] += text.strip().lower() == row["queue"]
        return {
            "examples": len(rows),
            "correct": correct,
            "accuracy": {name: round(count / len(rows), 4) for name, count in correct.items()},
        }

    @task.branch
    def decide(metrics: dict[str, Any], params: dict[str, Any]) -> str:
        """Return the task that is to run: the tuned model has to be good, and better."""
        tuned, base = metrics["accuracy"]["tuned"], metrics["accuracy"]["base"]
        better = tuned >= params["min_accuracy"] and tuned - base >= params["min_gain"]
        log.info("base %.1f %%, tuned %.1f %%: %s", base * 100, tuned * 100, "publish" if better else "keep")
        return "publish" if better else "keep_current"

    @task(outlets=[SUPPORT_ROUTER])
    def publish(job: dict[str, Any], metrics: dict[str, Any], outlet_events: Any) -> str:
        """Put the new endpoint on record; DAGs that are scheduled by the asset start now."""
        outlet_events[SUPPORT_ROUTER].extra = {
            "endpoint": job["endpoint"],
            "model": job["tuned_model"],
            "tuning_job": job["tuning_job_name"],
            "base_model": job["base_model"],
            "metrics": metrics,
        }
        return "the tuned model is published"

    @task
    def keep_current() -> str:
        """Publish nothing: the last event of the asset still names the endpoint that serves."""
        return "the model that serves today stays"

    @task(trigger_rule="none_failed_min_one_success")
    def report(job: dict[str, Any], metrics: dict[str, Any], published: str | None, kept: str | None) -> str:
        """Write the result down where people look for it: the log and the XCom of the last task."""
        table = [f"{'model':<7}{'correct':>12}{'accuracy':>12}   name"]
        for name, model in (("base", job["base_model"]), ("tuned", job["endpoint"])):
            correct = f"{metrics['correct'][name]} of {metrics['examples']}"
            table.append(f"{name:<7}{correct:>12}{metrics['accuracy'][name] * 100:>10.1f} %   {model}")
        text = "\n".join([*table, f"Decision: {published or kept}."])
        log.info("\n%s", text)
        return text

    job = tune.output
    metrics = evaluate(job, data["held_out"])
    published, kept = publish(job, metrics), keep_current()
    decide(metrics) >> [published, kept]
    report(job, metrics, published, kept)
