"""What goes into a tuning job and comes out of it, as OpenLineage names it."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_tuning_provider._tasks.lineage import lineage
from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator, RebaseTunedModelOperator

MODEL = "projects/p/locations/us-central1/models/7"


def names(datasets: list[Any]) -> list[tuple[str, str]]:
    return [(one.namespace, one.name) for one in datasets]


def test_a_model_that_is_tuned_further_goes_in_by_its_version() -> None:
    found = lineage(
        {
            "preTunedModel": {"tunedModelName": f"{MODEL}@3"},
            "supervisedTuningSpec": {"trainingDatasetUri": "gs://b/t"},
        }
    )
    assert names(found.inputs) == [("gs://b", "t"), ("vertexai", MODEL)]
    assert found.inputs[1].facets["version"].datasetVersion == "3"


def test_a_dataset_of_vertex_ai_goes_by_its_resource_name() -> None:
    name = "projects/p/locations/us-central1/datasets/5"
    assert names(lineage({"supervisedTuningSpec": {"trainingDatasetUri": name}}).inputs) == [
        ("vertexai", name)
    ]


@pytest.mark.parametrize(
    "job", [{}, {"tunedModel": None}, {"tunedModel": {"model": 3}}, {"supervisedTuningSpec": {}}]
)
def test_what_is_not_there_is_not_told(job: dict[str, Any]) -> None:
    found = lineage(job)
    assert (found.inputs, found.outputs) == ([], [])


def test_operators_tell_what_they_are_about_to_send() -> None:
    create = CreateTuningJobOperator(
        task_id="a", base_model="gemini-3.5-flash", training_dataset_uri="gs://bucket/t.jsonl", epoch_count=2
    )
    found = create.get_openlineage_facets_on_start()
    assert names(found.inputs) == [("gs://bucket", "t.jsonl")]
    assert found.run_facets["vertexAiTuning_tuningJob"].hyperParameters == {"epoch_count": 2}
    rebase = RebaseTunedModelOperator(
        task_id="b", tuned_model=f"{MODEL}@1", tuning_job={"baseModel": "gemini-3.5-flash"}
    )
    assert (
        rebase.get_openlineage_facets_on_start().run_facets["vertexAiTuning_tuningJob"].baseModel
        == "gemini-3.5-flash"
    )
