"""The request that re-tunes a tuned model."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.rebase import rebase_body

P = "projects/acme-ml/locations/us-central1"


class TestRebase:
    MODEL = f"{P}/models/1@1"
    JOB = f"{P}/tuningJobs/1"

    def test_bodies(self) -> None:
        assert rebase_body(tuned_model=self.MODEL) == {"tunedModelRef": {"tunedModel": self.MODEL}}
        assert rebase_body(
            tuning_job=self.JOB,
            job={"base_model": "g", "labels": {"a": "b"}},
            artifact_destination="gs://bucket/out",
            deploy_to_same_endpoint=False,
        ) == {
            "tunedModelRef": {"tuningJob": self.JOB},
            "tuningJob": {"baseModel": "g", "labels": {"a": "b"}},
            "artifactDestination": {"outputUriPrefix": "gs://bucket/out"},
            "deployToSameEndpoint": False,
        }

    @pytest.mark.parametrize(
        ("arguments", "field"),
        [
            ({}, "tuned_model"),
            ({"tuned_model": MODEL, "tuning_job": JOB}, "tuned_model"),
            ({"tuned_model": JOB}, "tuned_model"),
            ({"tuning_job": "1"}, "tuning_job_name"),
            ({"tuning_job": MODEL}, "tuning_job_name"),
            ({"tuned_model": MODEL, "artifact_destination": "/tmp"}, "artifact_destination"),
            ({"tuned_model": MODEL, "artifact_destination": "gs://"}, "artifact_destination"),
            ({"tuned_model": MODEL, "artifact_destination": b"gs://bucket"}, "artifact_destination"),
            ({"tuned_model": MODEL, "artifact_destination": ""}, "artifact_destination"),
            ({"tuned_model": MODEL, "job": {"labels": {"A": "b"}}}, "tuning_job.labels key"),
            ({"tuned_model": MODEL, "job": "x"}, "tuning_job"),
        ],
    )
    def test_refusals(self, arguments: dict[str, Any], field: str) -> None:
        with pytest.raises(InvalidInputError) as caught:
            rebase_body(**arguments)
        assert caught.value.field == field

    @pytest.mark.parametrize("prefix", ["gs://bucket", "gs://bucket/", "gs://bucket/a/b"])
    def test_prefixes(self, prefix: str) -> None:
        body = rebase_body(tuned_model=self.MODEL, artifact_destination=prefix)
        assert body["artifactDestination"] == {"outputUriPrefix": prefix}
