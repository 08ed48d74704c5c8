"""Which base models are accepted, and where they answer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import pytest

from airflow_tuning_provider.emulator.models import MODELS, rebase_target
from airflow_tuning_provider.emulator.testing import Emulator

from .conftest import BODY, JOBS, Client
from .test_jobs import wait_for

# The models that the page on the tuning API of autumn 2024 prints.
PRINTED = ("gemini-1.5-pro-002", "gemini-1.5-flash-002", "gemini-1.0-pro-002")
TODAY = ("gemini-3.5-flash", "gemini-3.1-flash-lite")
ASKED = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}


@pytest.fixture(scope="module")
def strict_emulator() -> Iterator[Emulator]:
    with Emulator(speed=2000, datasets="skip", retired_models="refuse") as emulator:
        yield emulator


@pytest.fixture
def strict(strict_emulator: Emulator) -> Client:
    strict_emulator.reset()
    return Client(strict_emulator.url)


def body(model: str, size: str | None = None) -> dict[str, object]:
    spec: dict[str, object] = dict(BODY["supervisedTuningSpec"])  # type: ignore[arg-type]
    if size:
        spec["hyperParameters"] = {"adapterSize": f"ADAPTER_SIZE_{size}"}
    return {"baseModel": model, "supervisedTuningSpec": spec}


def model_path(model: str, location: str) -> str:
    return f"/v1/projects/my-project/locations/{location}/publishers/google/models/{model}:generateContent"


def test_the_days_of_a_model() -> None:
    model = MODELS["gemini-2.5-flash"]
    assert model.until == date(2026, 10, 20)
    assert [model.retired(model.until + timedelta(days)) for days in (-1, 0, 1)] == [False, True, True]
    assert not any(MODELS[name].retired(date(2027, 1, 1)) for name in TODAY)
    assert all(model.since < (model.until or date.max) for model in MODELS.values())


def test_a_rebase_ends_on_a_model_of_today() -> None:
    assert {MODELS[rebase_target(name)].until for name in MODELS} == {None}
    assert rebase_target("gemini-2.5-flash-lite") == "gemini-3.1-flash-lite"
    assert rebase_target("gemini-3.5-flash") == "gemini-3.5-flash"
    assert rebase_target("gemini-9-new") == "gemini-9-new"


@pytest.mark.parametrize("model", PRINTED)
def test_what_an_old_page_prints_works_and_is_said_once_to_be_retired(
    emulator: Emulator, call: Client, model: str
) -> None:
    for name in (model, f"publishers/google/models/{model}"):
        assert call("POST", JOBS, body(name)).status == 200
    (line,) = [line for line in emulator.log.splitlines() if model in line]
    assert f"Google has retired {model}" in line
    assert str(MODELS[model].until) in line
    assert "--retired-models refuse" in line


def test_a_model_of_today_is_accepted_without_a_word(
    emulator: Emulator, call: Client, strict: Client
) -> None:
    before = emulator.log
    for model in (*TODAY, "gemini-9-new", "llama-4-scout"):
        assert call("POST", JOBS, body(model)).status == 200
        assert strict("POST", JOBS, body(model)).status == 200
    assert emulator.log == before


@pytest.mark.parametrize("model", [*PRINTED, "gemini-2.0-flash", "gemini-2.5-pro"])
def test_a_retired_model_is_refused_as_google_does(strict: Client, model: str) -> None:
    for name in (model, f"publishers/google/models/{model}"):
        answer = strict("POST", JOBS, body(name))
        assert (answer.status, answer.error["status"]) == (400, "INVALID_ARGUMENT")
        assert answer.error["message"] == f"Base model {model} is not supported"
    assert strict("POST", model_path(model, "us-central1"), ASKED).status == 404
    assert strict("GET", JOBS).json == {}


@pytest.mark.parametrize("model", ["text-bison@002", "gemini-pro", "gemini-1.5-flash-8b", "gemini-ultra"])
def test_what_could_never_be_tuned(call: Client, model: str) -> None:
    assert call("POST", JOBS, body(model)).error["message"] == f"Base model {model} is not supported"


@pytest.mark.parametrize(
    ("model", "good", "bad"),
    [
        ("gemini-3.5-flash", "SIXTEEN", "THIRTY_TWO"),
        ("gemini-2.5-pro", "EIGHT", "SIXTEEN"),
        ("gemini-1.5-pro-002", "FOUR", "EIGHT"),
        ("gemini-1.5-flash-002", "SIXTEEN", "TWO"),
    ],
)
def test_adapter_sizes(call: Client, model: str, good: str, bad: str) -> None:
    assert call("POST", JOBS, body(model, good)).status == 200
    refused = call("POST", JOBS, body(model, bad))
    assert refused.error["message"] == "The adapter size is not supported for this base model."


def test_a_refused_model_takes_no_place() -> None:
    with Emulator(
        datasets="skip", retired_models="refuse", concurrent_jobs=1, over_quota="reject"
    ) as emulator:
        call = Client(emulator.url)
        assert call("POST", JOBS, body("gemini-2.5-flash")).status == 400
        assert call("POST", JOBS, body("gemini-3.5-flash")).status == 200


@pytest.mark.parametrize(
    ("model", "location", "status"),
    [
        ("gemini-3.5-flash", "global", 200),
        ("gemini-3.5-flash", "us", 200),
        ("gemini-3.1-flash-lite", "eu", 200),
        ("gemini-3.5-flash", "us-central1", 404),
        ("gemini-3.1-flash-lite", "europe-west4", 404),
        ("gemini-2.5-flash", "us-central1", 200),
        ("gemini-2.5-flash", "global", 200),
    ],
)
def test_where_an_untuned_model_answers(call: Client, model: str, location: str, status: int) -> None:
    answer = call("POST", model_path(model, location), ASKED)
    assert answer.status == status
    if status == 404:
        assert answer.error["status"] == "NOT_FOUND"
        name = f"projects/my-project/locations/{location}/publishers/google/models/{model}"
        assert answer.error["message"].startswith(f"Publisher Model `{name}` was not found or your project")


def test_a_tuned_model_answers_in_its_multi_region_only(call: Client) -> None:
    endpoint = wait_for(call, call.create()["name"], "JOB_STATE_SUCCEEDED")["tunedModel"]["endpoint"]
    assert "/locations/us/" in endpoint
    assert call("POST", f"/v1/{endpoint}:generateContent", ASKED).status == 200
    elsewhere = endpoint.replace("/locations/us/", "/locations/us-central1/")
    assert call("POST", f"/v1/{elsewhere}:generateContent", ASKED).status == 404
