"""What the service adds to a job: the values where the user says nothing, and what its data tell."""

from __future__ import annotations

import uuid
from typing import Any

from airflow_tuning_provider.emulator import datasets
from airflow_tuning_provider.emulator.datasets import Dataset
from airflow_tuning_provider.emulator.lifecycle import JobRecord
from airflow_tuning_provider.emulator.stats import default_epochs, step_count, tuning_data_stats
from airflow_tuning_provider.emulator.validation import tuning_spec

# Their data have formats of their own, which are not checked.
UNREAD_SPECS = ("veoTuningSpec", "veoLoraTuningSpec", "partnerModelTuningSpec")
_DEFAULT_ADAPTER = "ADAPTER_SIZE_FOUR"
_ADAPTER_SPECS = ("supervisedTuningSpec", "preferenceOptimizationSpec")
_KINDS = {
    "preferenceOptimizationSpec": datasets.PREFERENCE,
    "distillationSpec": datasets.PROMPTS,
    "reinforcementTuningSpec": datasets.PROMPTS,
}


def back_fill(job: JobRecord) -> None:
    """Set what the service sets where the user says nothing; the epoch count needs the data first."""
    body = job.body
    body.setdefault("tunedModelDisplayName", f"{job.base_model}-{uuid.uuid4()}")
    name, spec = tuning_spec(body)
    if name in _ADAPTER_SPECS:
        hyper = spec.setdefault("hyperParameters", {})
        hyper.setdefault("learningRateMultiplier", 1)
        hyper.setdefault("adapterSize", _DEFAULT_ADAPTER)


def data_kind(job: JobRecord) -> str:
    """Return which form the job's data have."""
    return _KINDS.get(tuning_spec(job.body)[0], datasets.SUPERVISED)


def training_uri(job: JobRecord) -> str:
    """Return where the job's training data are; an empty text where it names none."""
    spec = tuning_spec(job.body)[1]
    return str(spec.get("trainingDatasetUri") or spec.get("promptDatasetUri") or "")


def made_up_data(job: JobRecord) -> Dataset:
    """Return data for a job whose own are not read."""
    return datasets.synthetic(training_uri(job), data_kind(job))


def accept_data(job: JobRecord, dataset: Dataset, time: float) -> None:
    """Set what follows from the job's data, known from the given time (epoch seconds) on."""
    name, spec = tuning_spec(job.body)
    if name not in UNREAD_SPECS:
        hyper = spec.setdefault("hyperParameters", {})
        hyper.setdefault("epochCount", str(default_epochs(len(dataset))))
    hyper = spec.get("hyperParameters", {})
    job.examples = len(dataset)
    job.epochs = _count(hyper.get("epochCount"), 1)
    job.steps = _count(hyper.get("stepCount"), step_count(job.examples, job.epochs))
    job.stats = tuning_data_stats(name, dataset, job.steps)
    job.corpus = dataset.digest
    job.dataset_ready = time


def _count(value: Any, default: int) -> int:
    """Read a count; a partner model's parameters may be anything."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return default
