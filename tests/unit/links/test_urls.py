"""The console URLs that a job gives."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_tuning_provider.links.tuning_job import urls

P = "projects/1/locations/us-central1"
JOB = {"name": f"{P}/tuningJobs/7"}


def test_urls() -> None:
    tuned = {"model": f"{P}/models/5@Production", "endpoint": f"{P}/endpoints/6"}
    found = urls({**JOB, "tunedModel": tuned})
    assert list(found) == ["tuning_job_url", "tuned_model_url", "tuned_endpoint_url", "tuning_jobs_page_url"]
    assert "/models/5/versions/Production?" in found["tuned_model_url"]


@pytest.mark.parametrize("odd", [None, "x", 7, ["x"], True, {"model": ["x"], "endpoint": {"x": 1}}])
def test_what_the_server_sends_of_another_type_gives_no_url(odd: Any) -> None:
    assert list(urls({**JOB, "tunedModel": odd})) == ["tuning_job_url", "tuning_jobs_page_url"]
    assert urls({"name": odd, "tunedModel": odd}) == {}


def test_the_page_is_asked_for_the_jobs_of_the_task_that_created_one() -> None:
    labels = {"airflow-dag-id": "weekly", "airflow-run-id": "manual__1", "airflow-task-id": "tune"}
    assert urls({**JOB, "labels": labels})["tuning_jobs_page_url"].endswith(
        "/plugin/tuning_jobs?dag=weekly&run=manual__1&task=tune"
    )
    for odd in (None, {}, {"airflow-dag-id": "weekly"}, ["x"]):
        url = urls({**JOB, "labels": odd})["tuning_jobs_page_url"]
        assert url.endswith("/plugin/tuning_jobs?text=7")
