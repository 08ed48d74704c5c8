"""What docs/concepts.md says about the hook."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest

from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.exceptions import TuningInvalidInputError, TuningNotFoundError
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
from tests.integration.conftest import BODY

PAGE = (Path(__file__).parents[3] / "docs" / "concepts.md").read_text()
QUESTION = "How do I reset my password?"


def test_an_untuned_model_answers_in_multi_regions_only(hook: TuningJobHook) -> None:
    shown = re.search(r'"(projects/my-project/locations/global/\S+)"', PAGE)
    assert shown
    name = shown[1].replace("my-project", "test-project")
    for location in ("global", "us", "eu"):
        assert hook.generate_content(name.replace("global", location), QUESTION)["candidates"]
    with pytest.raises(TuningNotFoundError):
        hook.generate_content(name.replace("global", "us-central1"), QUESTION)
    with pytest.raises(TuningNotFoundError):
        hook.generate_content("gemini-3.5-flash", QUESTION)  # the hook is in us-central1


def test_a_tuned_model_answers_at_its_endpoint_and_not_by_its_name(
    hook: TuningJobHook, emulator: Emulator
) -> None:
    job = hook.wait_for_tuning_job(hook.create_tuning_job(BODY)["name"], poll_interval=0.1)
    endpoint = job["tunedModel"]["endpoint"]
    assert endpoint.split("/")[3] in ("us", "eu")
    assert hook.generate_content(endpoint, QUESTION)["candidates"]
    sent = emulator.last_request()
    with pytest.raises(TuningInvalidInputError, match="called through its endpoint"):
        hook.generate_content(job["tunedModel"]["model"], QUESTION)
    assert emulator.last_request() == sent


def test_threads_share_an_open_hook_and_one_may_close_it_meanwhile(
    hook: TuningJobHook, emulator: Emulator
) -> None:
    name = emulator.seed({"state": "JOB_STATE_RUNNING"})[0]
    hook.open()
    answers: list[Any] = []

    def ask() -> None:
        for _ in range(20):
            answers.append(hook.get_tuning_job(name)["name"])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    hook.close()
    for thread in threads:
        thread.join()
    assert answers == [name] * 160
