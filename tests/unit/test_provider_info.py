"""The metadata that Airflow discovers the provider by is valid, and everything it names is there."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import airflow
import pytest
from airflow.sdk import BaseHook, BaseOperator, BaseOperatorLink, BaseSensorOperator
from airflow.triggers.base import BaseTrigger
from jsonschema import Draft7Validator

from airflow_tuning_provider import __version__
from airflow_tuning_provider.hooks.connection import settings_from
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
from airflow_tuning_provider.provider_info import CONFIG_SECTION, CONNECTION_TYPE, get_provider_info

INFO = get_provider_info()
(CONNECTION,) = INFO["connection-types"]
DISTRIBUTION = "airflow-tuning-provider"
# Keys of provider.yaml that only Airflow's own release tools read.
RELEASE_KEYS = {"state", "source-date-epoch"}


def schema(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((Path(airflow.__file__).parent / name).read_text(encoding="utf-8"))
    Draft7Validator.check_schema(loaded)
    return loaded


STRICT = schema("provider.yaml.schema.json")


def test_the_schema_that_airflow_validates_with_at_run_time() -> None:
    Draft7Validator(schema("provider_info.schema.json")).validate(INFO)


@pytest.mark.parametrize("key", INFO)
def test_each_part_is_valid_in_the_strict_schema_of_airflows_own_providers(key: str) -> None:
    if key == "cli" and airflow.__version__.startswith("3.1."):
        pytest.skip("Airflow 3.1 knows no commands of providers, and does not mind them")
    assert key in STRICT["properties"], "an unknown key would be ignored silently"
    part = {**STRICT["properties"][key], "definitions": STRICT["definitions"]}
    Draft7Validator(part).validate(INFO[key])


def test_nothing_is_missing_but_what_airflows_release_tools_need() -> None:
    assert set(STRICT["required"]) - set(INFO) <= RELEASE_KEYS


@pytest.mark.skipif(
    "conn-fields" not in STRICT["properties"]["connection-types"]["items"]["properties"],
    reason="this Airflow's schema does not know conn-fields",
)
def test_the_strict_schema_does_catch_mistakes() -> None:
    part = {**STRICT["properties"]["connection-types"], "definitions": STRICT["definitions"]}
    wrong = [{**CONNECTION, "conn-fields": {"project": {"label": "Project"}}}]
    assert not Draft7Validator(part).is_valid(wrong)


def test_airflow_finds_the_provider_by_its_entry_point() -> None:
    found = {
        entry.dist.name
        for entry in metadata.entry_points(group="apache_airflow_provider")
        if entry.dist is not None and entry.value == "airflow_tuning_provider.provider_info:get_provider_info"
    }
    assert found == {DISTRIBUTION}


def test_the_package_name_is_the_distributions_canonical_name() -> None:
    """Airflow refuses a provider of which these differ."""
    name = metadata.metadata(DISTRIBUTION)["Name"]
    assert INFO["package-name"] == re.sub(r"[-_.]+", "-", name).lower() == DISTRIBUTION


def test_the_first_version_is_this_one() -> None:
    assert INFO["versions"][0] == __version__ == metadata.version(DISTRIBUTION)


def test_the_dict_is_made_anew_and_is_json() -> None:
    assert json.loads(json.dumps(INFO)) == INFO == get_provider_info()
    assert get_provider_info() is not INFO


# -- what it names ----------------------------------------------------------------------------------

BASES: dict[str, Any] = {
    "operators": BaseOperator,
    "sensors": BaseSensorOperator,
    "hooks": BaseHook,
    "triggers": BaseTrigger,
}


def classes(module: ModuleType, base: type) -> list[type]:
    """Return the public classes that a module defines."""
    return [
        item
        for name, item in vars(module).items()
        if isinstance(item, type) and item.__module__ == module.__name__ and issubclass(item, base)
        if not name.startswith("_")
    ]


def named_modules() -> Iterator[tuple[str, str]]:
    for kind in BASES:
        for entry in INFO[kind]:
            yield from ((kind, module) for module in entry["python-modules"])


@pytest.mark.parametrize(("kind", "name"), list(named_modules()))
def test_each_module_holds_what_it_is_listed_for(kind: str, name: str) -> None:
    assert classes(importlib.import_module(name), BASES[kind])


@pytest.mark.parametrize("kind", BASES)
def test_each_module_that_holds_such_a_class_is_listed(kind: str) -> None:
    package = Path(importlib.import_module(f"airflow_tuning_provider.{kind}").__file__ or "").parent
    modules = [f"airflow_tuning_provider.{kind}.{path.stem}" for path in package.glob("[!_]*.py")]
    holding = {name for name in modules if classes(importlib.import_module(name), BASES[kind])}
    assert holding == {name for listed, name in named_modules() if listed == kind}


def test_each_entry_belongs_to_a_known_integration() -> None:
    known = {item["integration-name"] for item in INFO["integrations"]}
    used = {entry["integration-name"] for kind in BASES for entry in INFO[kind]}
    assert used == known


@pytest.mark.parametrize("path", INFO["extra-links"])
def test_links_can_be_made_without_arguments_as_airflow_does(path: str) -> None:
    link = load(path)()
    assert isinstance(link, BaseOperatorLink)
    assert link.name


def load(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_every_link_that_a_task_shows_is_registered() -> None:
    """The API server shows a link only if it knows its class."""
    shown = {
        f"{type(link).__module__}.{type(link).__qualname__}"
        for kind, name in named_modules()
        if kind in ("operators", "sensors")
        for task in classes(importlib.import_module(name), BASES[kind])
        for link in task.operator_extra_links  # type: ignore[attr-defined]
    }
    assert shown == set(INFO["extra-links"])


# -- the connection type ----------------------------------------------------------------------------

FIELDS = {
    "project",
    "location",
    "api_endpoint",
    "key_path",
    "keyfile_dict",
    "credential_config_file",
    "scope",
    "impersonation_chain",
    "quota_project_id",
    "universe_domain",
    "num_retries",
    "is_anonymous",
}


def test_the_connection_type_is_the_hooks() -> None:
    assert load(CONNECTION["hook-class-name"]) is TuningJobHook
    assert CONNECTION["connection-type"] == CONNECTION_TYPE == TuningJobHook.conn_type
    assert CONNECTION["hook-name"] == TuningJobHook.hook_name
    assert "__" not in CONNECTION_TYPE, "Airflow's form splits its field names there"
    assert callable(TuningJobHook.test_connection)


def test_the_keys_of_the_connection_are_known_ones() -> None:
    """The schema would let a misspelt key pass."""
    assert set(CONNECTION) == {
        "connection-type",
        "hook-class-name",
        "hook-name",
        "ui-field-behaviour",
        "conn-fields",
    }
    assert set(CONNECTION["ui-field-behaviour"]) == {"hidden-fields", "relabeling", "placeholders"}
    assert set(CONNECTION["conn-fields"]) == FIELDS


def test_hidden_fields_are_neither_relabelled_nor_filled() -> None:
    ui = CONNECTION["ui-field-behaviour"]
    standard = {"description", "host", "port", "login", "password", "schema"}
    assert set(ui["hidden-fields"]) <= standard
    for shown in (set(ui["relabeling"]), set(ui["placeholders"])):
        assert shown <= standard - set(ui["hidden-fields"])


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_each_field_can_be_left_empty_and_says_what_it_is_for(name: str) -> None:
    field = CONNECTION["conn-fields"][name]
    assert field["label"]
    assert field["description"]
    assert "null" in field["schema"]["type"], "the form sends null for an empty field"
    if "default" in field["schema"]:
        Draft7Validator(field["schema"]).validate(field["schema"]["default"])


def test_secrets_are_shown_as_dots() -> None:
    hidden = {
        name
        for name, field in CONNECTION["conn-fields"].items()
        if field["schema"].get("format") == "password"
    }
    assert hidden == {"keyfile_dict"}


class _Connection:
    """What the hook reads of a connection."""

    conn_id = "test"
    conn_type = "vertex_ai_tuning"
    password = None

    def __init__(self, **extras: Any) -> None:
        self.extra = json.dumps(extras)


VALUES = {
    "project": "acme-ml",
    "location": "us-central1",
    "api_endpoint": "http://localhost:8080",
    "key_path": "/etc/key.json",
    "keyfile_dict": {"type": "service_account"},
    "credential_config_file": "/etc/config.json",
    "scope": "https://www.googleapis.com/auth/aiplatform",
    "impersonation_chain": "tuner@acme-ml.iam.gserviceaccount.com",
    "quota_project_id": "acme-billing",
    "universe_domain": "apis-berlin-build0.goog",
    "num_retries": 7,
    "is_anonymous": True,
}


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_each_field_of_the_form_is_read_by_the_hook(name: str) -> None:
    empty = settings_from(_Connection(**dict.fromkeys(FIELDS)))  # type: ignore[arg-type]
    filled = settings_from(_Connection(**{name: VALUES[name]}))  # type: ignore[arg-type]
    assert empty == settings_from(_Connection()), "a form that was saved empty changes nothing"  # type: ignore[arg-type]
    assert filled != empty


# -- configuration ----------------------------------------------------------------------------------


def test_the_configuration_is_read_by_the_operators() -> None:
    assert set(INFO["config"]) == {CONFIG_SECTION}
    for option in INFO["config"][CONFIG_SECTION]["options"].values():
        assert {"description", "version_added", "type", "example", "default"} <= set(option)
        added, current = (tuple(map(int, text.split("."))) for text in (option["version_added"], __version__))
        assert added <= current
