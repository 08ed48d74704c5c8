"""What OpenLineage is told of a tuning job: the data sets and the model that go in, the model that comes out.

OpenLineage has no standard for the training of models yet (https://github.com/OpenLineage/OpenLineage/issues/4035), so
what it has no name for stands in facets of our own. Imported only where Airflow's OpenLineage provider asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attr
from airflow.providers.openlineage.extractors import OperatorLineage
from openlineage.client.event_v2 import Dataset, InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    DatasetFacet,
    RunFacet,
    dataset_version_dataset,
    input_statistics_input_dataset,
)

from airflow_tuning_provider.api.console import tuning_job_url
from airflow_tuning_provider.api.inputs import as_mapping, as_text
from airflow_tuning_provider.api.manifest import manifest
from airflow_tuning_provider.api.tuning_job import specs

MODELS = "vertexai"
"""The namespace of models: they are known by their resource names."""

_DATA = ("trainingDatasetUri", "promptDatasetUri", "validationDatasetUri")


@attr.define
class TuningJobRunFacet(RunFacet):
    """The tuning job of a task's run."""

    tuningJob: str | None  # noqa: N815 - OpenLineage's convention
    state: str | None
    baseModel: str | None  # noqa: N815
    hyperParameters: dict[str, Any]  # noqa: N815
    billableTokenCount: int | None  # noqa: N815
    url: str | None


def lineage(job: Mapping[str, Any]) -> OperatorLineage[Any, Any]:
    """Return what goes into a job and comes out of it, as far as it is known.

    :param job: a TuningJob, or the body of the request that is to create it.
    """
    result = manifest(job)
    name = result["tuning_job_name"]
    facet = TuningJobRunFacet(
        tuningJob=name,
        state=result["state"],
        baseModel=result["base_model"],
        hyperParameters=result["hyper_parameters"],
        billableTokenCount=result["billable_token_count"],
        url=None if name is None else tuning_job_url(name),
    )
    return OperatorLineage(
        inputs=[*_data(job, result["example_count"]), *_models(as_mapping(job.get("preTunedModel")))],
        outputs=list(_models(as_mapping(job.get("tunedModel")), "model")),
        run_facets={"vertexAiTuning_tuningJob": facet},
    )


def _data(job: Mapping[str, Any], examples: int | None) -> Iterator[Dataset]:
    for _, spec in specs(job):
        for field in _DATA:
            uri = as_text(spec.get(field))
            if not uri:
                continue
            scheme, _, rest = uri.partition("://")
            bucket, _, path = rest.partition("/")
            dataset = InputDataset(f"{scheme}://{bucket}", path) if rest else InputDataset(MODELS, uri)
            if field != "validationDatasetUri" and examples is not None:
                rows = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(rowCount=examples)
                dataset.inputFacets = {"inputStatistics": rows}
            yield dataset


def _models(source: Mapping[str, Any], field: str = "tunedModelName") -> Iterator[Dataset]:
    name = as_text(source.get(field))
    if name:
        model, _, version = name.partition("@")
        facets: dict[str, DatasetFacet] = {}
        if version:
            facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(version)
        kind = OutputDataset if field == "model" else InputDataset
        yield kind(MODELS, model, facets=facets)
