"""Links to Google's console."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_tuning_provider.api.console import endpoint_url, tuned_model_url, tuning_job_url

P = "projects/example.com:app/locations/us-central1"
CONSOLE = "https://console.cloud.google.com/vertex-ai"


def test_pages() -> None:
    assert tuning_job_url(f"{P}/tuningJobs/1") == (
        f"{CONSOLE}/generative/language/locations/us-central1/tuning/tuningJob/1?project=example.com%3Aapp"
    )
    assert tuned_model_url(f"{P}/models/2@3") == (
        f"{CONSOLE}/models/locations/us-central1/models/2/versions/3?project=example.com%3Aapp"
    )
    assert tuned_model_url(f"{P}/models/2") == (
        f"{CONSOLE}/models/locations/us-central1/models/2?project=example.com%3Aapp"
    )
    assert endpoint_url(f"{P}/endpoints/4") == (
        f"{CONSOLE}/online-prediction/locations/us-central1/endpoints/4?project=example.com%3Aapp"
    )


@pytest.mark.parametrize(
    "name", [None, "", 1, "123", f"{P}/x/1", f"{P}/tuningJobs/1/..", "javascript:alert(1)"]
)
def test_no_name_no_page(name: Any) -> None:
    assert tuning_job_url(name) is None
    assert tuned_model_url(name) is None
    assert endpoint_url(name) is None
