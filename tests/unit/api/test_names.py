"""Resource names: what is accepted, what is refused, and what the parts are."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.names import (
    DatasetName,
    EndpointName,
    ModelName,
    OperationName,
    PublisherModelName,
    ResourceName,
    TuningJobName,
    model_to_call,
    parent,
    tuning_job_name,
    validate_location,
    validate_project,
)

P = "projects/acme-ml/locations/us-central1"
HOSTILE = [
    "", " ", "a b", "a\n", "\na", "a\x00", "a/b", "a\\b", "a@b", "a?b", "a#b", "a%2fb", "..", ".", "a..b/", "a&b",
    "\uff41", "a\u2024b", "\u0430cme", "A", "-a", "a-", "a;b", "a=b", "a,b", "a:b@c", "[::1]", "a" * 5000,
    None, 0, 1.5, True, b"acme", ["acme"], {"a": 1},
]  # fmt: skip


@pytest.mark.parametrize(
    "value", ["acme-ml", "a", "646763706049", "example.com:app", "a" * 63, "1-abc", "sub.example.com:app-1"]
)
def test_projects(value: str) -> None:
    assert validate_project(value) == value


@pytest.mark.parametrize("value", [*HOSTILE, "example.com", ":app", "example.com:", "a:b:c", "a" * 64])
def test_what_is_no_project(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"^project_id=.* give a project id"):
        validate_project(value)


@pytest.mark.parametrize(
    "value", ["us-central1", "europe-west4", "global", "us", "eu", "u-germany-northeast1", "me-central2"]
)
def test_locations(value: str) -> None:
    assert validate_location(value) == value


@pytest.mark.parametrize(
    "value", [*HOSTILE, "us_central1", "us.central1", "1us", "us--central1", "a-b-c-d-e", "a" * 41]
)
def test_what_is_no_location(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"^location=.* give a location such as"):
        validate_location(value)


def test_parent() -> None:
    assert parent("acme-ml", "us-central1") == P
    with pytest.raises(InvalidInputError, match=r"^project_id=None"):
        parent(None, "us-central1")
    with pytest.raises(InvalidInputError, match=r"^location=None"):
        parent("acme-ml", None)


NAMES: list[tuple[type[ResourceName], str, str]] = [
    (TuningJobName, f"{P}/tuningJobs/6284765961371254784", "6284765961371254784"),
    (TuningJobName, "projects/646763706049/locations/us/tuningJobs/a_B-1", "a_B-1"),
    (ModelName, f"{P}/models/1402067540926005248", "1402067540926005248"),
    (ModelName, f"{P}/models/1402067540926005248@1", "1402067540926005248"),
    (ModelName, f"{P}/models/m@production", "m"),
    (ModelName, f"{P}/models/m@Production-2", "m"),
    (EndpointName, f"{P}/endpoints/77", "77"),
    (DatasetName, f"{P}/datasets/5", "5"),
    (OperationName, f"{P}/operations/9", "9"),
    (OperationName, f"{P}/tuningJobs/1/operations/9", "9"),
    (OperationName, f"{P}/models/1/operations/9", "9"),
    (PublisherModelName, f"{P}/publishers/google/models/gemini-3.5-flash", "gemini-3.5-flash"),
    (PublisherModelName, f"{P}/publishers/google/models/gemini-3.5-flash@001", "gemini-3.5-flash"),
    (PublisherModelName, f"{P}/publishers/meta/models/llama_3.1-8B", "llama_3.1-8B"),
]


@pytest.mark.parametrize(("kind", "text", "resource_id"), NAMES)
def test_names_are_read_and_written(kind: type[ResourceName], text: str, resource_id: str) -> None:
    name = kind.parse(text, field="name")
    assert str(name) == text
    assert name.resource_id == resource_id
    assert text.startswith(name.parent + "/")
    assert name.parent == f"projects/{name.project}/locations/{name.location}"
    assert kind.parse(name, field="name") is name


@pytest.mark.parametrize(("kind", "text", "_id"), NAMES)
def test_one_wrong_character_anywhere_in_a_segment_is_refused(
    kind: type[ResourceName], text: str, _id: str
) -> None:
    for wrong in ("/", "\\", "?", "#", "%", " ", "\n", "\uff0f", "\u2024", "..", "\x00", "é"):
        for broken in (text + wrong, wrong + text, text.replace("acme", "ac" + wrong)):
            if broken != text:
                with pytest.raises(InvalidInputError, match=r"give a full resource name: projects/PROJECT"):
                    kind.parse(broken, field="name")


@pytest.mark.parametrize("kind", sorted({kind for kind, *_ in NAMES}, key=lambda kind: kind.__name__))
def test_other_shapes_are_refused(kind: type[ResourceName]) -> None:
    others = [text for other, text, _ in NAMES if other is not kind]
    too_long = [f"{P}/{collection}/{'a' * 129}" for collection in ("tuningJobs", "models", "endpoints")]
    for value in (
        *others,
        *too_long,
        *HOSTILE,
        "123",
        P,
        f"/{others[0]}",
        f"https://h/{others[0]}",
        f"{P}/x/1",
    ):
        with pytest.raises(InvalidInputError, match=r"^name=.*give a full resource name"):
            kind.parse(value, field="name")


def test_a_long_location_is_refused_in_a_name_too() -> None:
    with pytest.raises(InvalidInputError):
        TuningJobName.parse(f"projects/p/locations/{'a' * 41}/tuningJobs/1", field="name")


def test_model_versions() -> None:
    assert ModelName.parse(f"{P}/models/1@3", field="model").version == "3"
    assert ModelName.parse(f"{P}/models/1", field="model").version is None


def test_a_bare_job_id_needs_project_and_location() -> None:
    name = tuning_job_name("123", project="acme-ml", location="us-central1")
    assert str(name) == f"{P}/tuningJobs/123"
    for project, location in ((None, "us-central1"), ("acme-ml", None), ("", "")):
        with pytest.raises(InvalidInputError, match=r"a bare job id needs project_id and location"):
            tuning_job_name("123", project=project, location=location)


def test_a_full_job_name_keeps_its_own_project_and_location() -> None:
    name = tuning_job_name(f"{P}/tuningJobs/1", project="other", location="europe-west4")
    assert (name.project, name.location) == ("acme-ml", "us-central1")


@pytest.mark.parametrize("value", [*HOSTILE[:20], None, 123, f"{P}/models/1"])
def test_what_is_no_job_name(value: Any) -> None:
    if value == "A":
        return  # a fine job id
    with pytest.raises(InvalidInputError, match=r"^tuning_job_name="):
        tuning_job_name(value, project="acme-ml", location="us-central1")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("gemini-3.5-flash", f"{P}/publishers/google/models/gemini-3.5-flash"),
        ("publishers/meta/models/llama-3", f"{P}/publishers/meta/models/llama-3"),
        (
            "projects/o/locations/global/publishers/google/models/g",
            "projects/o/locations/global/publishers/google/models/g",
        ),
        ("projects/9/locations/eu/endpoints/77", "projects/9/locations/eu/endpoints/77"),
    ],
)
def test_what_can_be_called(value: str, expected: str) -> None:
    assert str(model_to_call(value, project="acme-ml", location="us-central1")) == expected


@pytest.mark.parametrize("version", ["", "@1", "@production", "@Production"])
def test_calling_a_registry_model_is_the_common_mistake(version: str) -> None:
    with pytest.raises(InvalidInputError, match=r"give tunedModel\.endpoint, not \.model"):
        model_to_call(f"{P}/models/123{version}", project=None, location=None)


@pytest.mark.parametrize(
    "value", ["endpoints/77", "models/1", "a/b", "/", "", " ", "..", None, 7, b"x", f"{P}/x/1"]
)
def test_what_cannot_be_called_gets_a_hint_at_endpoints(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"^model=.*endpoints/ID.* or a model id"):
        model_to_call(value, project="acme-ml", location="us-central1")


def test_a_bare_model_needs_project_and_location() -> None:
    with pytest.raises(InvalidInputError, match=r"^project_id=None"):
        model_to_call("gemini-3.5-flash", project=None, location="us-central1")
    with pytest.raises(InvalidInputError, match=r"^location=None"):
        model_to_call("gemini-3.5-flash", project="acme-ml", location=None)
