"""The rules of the code's structure that import-linter cannot tell (see pyproject.toml for those that it can).

They are read from syntax trees and fresh interpreters, so that no module has to be trusted to keep them.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import BaseOperator

from airflow_tuning_provider.api.parameters import BodyParameters, table

PACKAGE = "airflow_tuning_provider"
ROOT = Path(__file__).parents[2] / PACKAGE
FILES = sorted(path for path in ROOT.rglob("*.py") if "example_dags" not in path.parts)

# What may be imported besides the standard library: what pyproject.toml names, and what comes with that.
# urllib3 comes with requests, fsspec, jinja2 and msgspec with Airflow.
DEPENDENCIES = {"airflow", "pendulum", "google", "requests", "urllib3", "jinja2", "msgspec", "fsspec"}
# What else may be imported where: Airflow brings it for its own commands, or its OpenLineage provider is what asks.
# The extra ``eval`` brings sacrebleu; a pytest plugin runs DAGs in an Airflow of its own; the API server has FastAPI.
ELSEWHERE = {
    "cli": {"sqlalchemy", "yaml"},
    "_tasks.lineage": {"attr", "openlineage"},
    "evaluation": {"sacrebleu"},
    "testing": {"gcp_storage_emulator", "pytest", "sqlalchemy"},
    "plugin": {"fastapi", "pydantic", "sqlalchemy"},
}
# The page lives in the API server, tests and the command line where Airflow's own commands run.
WITH_DATABASE = ("testing", "plugin", "cli.database")
# What works without Airflow's database: tasks have none, wherever it is and whatever it runs on.
WITHOUT_DATABASE = (
    "airflow.sdk.",
    "airflow.triggers.base.",
    "airflow.exceptions.",
    "airflow.configuration.",  # for 3.1, whose SDK has none
    "airflow.providers.standard.triggers.temporal.",
    "airflow.providers.openlineage.",
)
HEAVY = ("requests", "google.auth", "fastapi", "uvicorn")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part(module: str) -> str:
    """``airflow_tuning_provider.api.names`` belongs to ``api``."""
    return [*module.split("."), ""][1]


def imports(path: Path) -> Iterator[str]:
    """Yield every module that a file imports anywhere, also inside functions and for type checkers only."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def ids(path: Path) -> str:
    return module_name(path).removeprefix(f"{PACKAGE}.")


def test_the_files_are_found() -> None:
    assert len(FILES) > 40


@pytest.mark.parametrize("path", [path for path in FILES if part(module_name(path)) != "emulator"], ids=ids)
def test_what_is_imported_is_declared(path: Path) -> None:
    foreign = {imported.split(".")[0] for imported in imports(path)} - {PACKAGE}
    here = ELSEWHERE.get(part(module_name(path)), set()) | ELSEWHERE.get(ids(path), set())
    assert foreign <= sys.stdlib_module_names | DEPENDENCIES | here


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if not {ids(path), part(module_name(path))} & set(WITH_DATABASE)],
    ids=ids,
)
def test_nothing_touches_airflow_s_database(path: Path) -> None:
    of_airflow = {imported for imported in imports(path) if imported.split(".")[0] == "airflow"}
    if ids(path) == "cli.definition":
        of_airflow = {
            imported for imported in of_airflow if not imported.startswith("airflow.cli.cli_config.")
        }
    assert not [imported for imported in of_airflow if not f"{imported}.".startswith(WITHOUT_DATABASE)]


@pytest.mark.parametrize("path", [path for path in FILES if part(module_name(path)) == "api"], ids=ids)
def test_the_core_reads_no_clock_and_does_no_io(path: Path) -> None:
    assert not {
        imported for imported in imports(path) if imported.startswith(("urllib.request", "urllib.error"))
    }
    called = {
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
    }
    assert not called & {
        "open",
        "input",
        "print",
        "now",
        "utcnow",
        "today",
        "getLogger",
        "sleep",
        "eval",
        "exec",
    }


# -- what importing costs ---------------------------------------------------------------------------


def loaded(code: str) -> set[str]:
    """Run ``code`` in a fresh interpreter; return what it puts into ``new``."""
    script = f"import json, sys\n{code}\nprint('\\n' + json.dumps(sorted(new)))"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=100
    )
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_parsing_a_dag_file_loads_no_http_library() -> None:
    new = loaded(
        "import airflow.sdk, airflow.triggers.base\n"
        "before = set(sys.modules)\n"
        f"import {PACKAGE}.operators.tuning_job, {PACKAGE}.operators.evaluation, {PACKAGE}.sensors.tuning_job\n"
        f"import {PACKAGE}.operators.datasets, {PACKAGE}.operators.promotion\n"
        f"import {PACKAGE}.triggers.tuning_job, {PACKAGE}.links.tuning_job\n"
        "new = set(sys.modules) - before"
    )
    assert f"{PACKAGE}.operators.tuning_job" in new
    assert not {name for name in new if name.startswith((*HEAVY, f"{PACKAGE}.emulator", "google"))}


def test_the_core_and_the_metadata_load_neither_airflow_nor_http() -> None:
    modules = [module_name(path) for path in FILES if part(module_name(path)) in ("api", "provider_info")]
    new = loaded(f"import {', '.join(modules)}\nnew = set(sys.modules)")
    assert set(modules) <= new
    assert not {name for name in new if name.split(".")[0] == "airflow" or name.startswith(HEAVY)}


def test_evaluation_works_without_airflow() -> None:
    modules = [module_name(path) for path in FILES if part(module_name(path)) == "evaluation"]
    new = loaded(f"import {', '.join(modules)}\nnew = set(sys.modules)")
    assert set(modules) <= new
    assert not {
        name for name in new if name.split(".")[0] in ("airflow", "jinja2", "numpy") or name.startswith(HEAVY)
    }


def test_the_metadata_loads_nothing_at_all() -> None:
    new = loaded(
        f"import typing\nbefore = set(sys.modules)\nimport {PACKAGE}.provider_info\nnew = set(sys.modules) - before"
    )
    assert new - {"__future__"} == {PACKAGE, f"{PACKAGE}.provider_info"}


# -- template fields --------------------------------------------------------------------------------


def task_classes() -> list[Any]:
    modules = [module_name(path) for path in FILES if part(module_name(path)) in ("operators", "sensors")]
    return [
        cls
        for module in map(importlib.import_module, modules)
        for cls in vars(module).values()
        if inspect.isclass(cls) and cls.__module__ == module.__name__ and issubclass(cls, BaseOperator)
        if not cls.__name__.startswith("_")
    ]


def constructors(cls: type) -> list[ast.FunctionDef]:
    """The constructors of a task's class and of those of ours that it inherits from."""
    sources = [
        textwrap.dedent(inspect.getsource(base))
        for base in cls.__mro__
        if base.__module__.startswith(PACKAGE) and "__init__" in vars(base)
    ]
    bodies = [node for source in sources for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    return [
        item
        for node in bodies
        for item in node.body
        if isinstance(item, ast.FunctionDef) and item.name == "__init__"
    ]


def fields_of(cls: Any) -> set[str]:
    """The template fields, without those of the table of body parameters, which tests/unit/operators looks at."""
    return set(cls.template_fields) - set(table(BodyParameters))


def test_all_operators_and_sensors_are_looked_at() -> None:
    assert {cls.__name__ for cls in task_classes()} == {
        "CreateTuningJobOperator",
        "CancelTuningJobOperator",
        "RebaseTunedModelOperator",
        "CancelOrphanedTuningJobsOperator",
        "CleanUpTunedModelsOperator",
        "GetChampionOperator",
        "PromoteTunedModelOperator",
        "RetirementWatchOperator",
        "RollbackTunedModelOperator",
        "PrepareTuningDatasetOperator",
        "ValidateTuningDatasetOperator",
        "TuningJobSensor",
        "EvaluateTunedModelOperator",
        "EvaluationGateOperator",
        "SelectTunedModelOperator",
    }


@pytest.mark.parametrize("cls", task_classes())
def test_template_fields_are_stored_verbatim(cls: Any) -> None:
    """Airflow renders attributes after ``__init__``: what is changed or derived there would not be rendered."""
    stored: list[str] = []
    for init in constructors(cls):
        verbatim = {
            statement.targets[0].attr
            for statement in init.body
            if isinstance(statement, ast.Assign)
            and isinstance(statement.targets[0], ast.Attribute)
            and isinstance(statement.value, ast.Name)
            and statement.targets[0].attr == statement.value.id
        }
        handed_on = {
            keyword.arg
            for call in ast.walk(init)
            if isinstance(call, ast.Call)
            for keyword in call.keywords
            if isinstance(keyword.value, ast.Name) and keyword.arg == keyword.value.id
        }
        parameters = {argument.arg for argument in init.args.kwonlyargs}
        assert fields_of(cls) & parameters <= verbatim | handed_on
        stored += verbatim & fields_of(cls)
        used = [
            node.id for node in ast.walk(init) if isinstance(node, ast.Name) and node.id in fields_of(cls)
        ]
        assert len(used) == len(set(used)), "a template field is stored in __init__, and not looked at"
    assert sorted(stored) == sorted(fields_of(cls)), "every template field is a parameter, and stored once"
    assert len(set(cls.template_fields)) == len(cls.template_fields), "each once"
    assert set(getattr(cls, "template_fields_renderers", {})) <= set(cls.template_fields)


@pytest.mark.parametrize("cls", task_classes())
def test_every_parameter_that_can_be_a_template_is_one(cls: Any) -> None:
    """What is left is the policy of the task itself, which is plainly true or false, and code."""
    for init in constructors(cls):
        assert [argument.arg for argument in init.args.args] == ["self"], "parameters are given by name"
        for argument in init.args.kwonlyargs:
            annotation = ast.unparse(argument.annotation) if argument.annotation else ""
            # Airflow calls a template field that can be called.
            plain = annotation == "bool" or "Callable" in annotation
            assert (argument.arg in cls.template_fields) is not plain, argument.arg


# -- docstrings -------------------------------------------------------------------------------------

# Airflow's own, and those that say what they are by their name and place.
_KNOWN_PARAMETERS = {"self", "cls", "context", "event", "kwargs", "ti_key", "operator", "exc_info"}


def _refers(docstring: str) -> bool:
    return bool(re.search(r"See :meth:|are those of\s+:class:", docstring))


def public_functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef, str]]:
    """Yield name, function and the docstring that has to tell its parameters; ``__init__`` is told by its class."""
    for node in tree(path).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            yield node.name, node, ast.get_docstring(node) or ""
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for item in node.body:
                if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    owner: Any = node if item.name == "__init__" else item
                    if item.name == "__init__" or not item.name.startswith("_"):
                        yield f"{node.name}.{item.name}", item, ast.get_docstring(owner) or ""


DOCUMENTED = [
    path
    for path in FILES
    if part(module_name(path))
    in ("api", "datasets", "evaluation", "exceptions", "hooks", "links", "operators", "sensors", "triggers")
]


@pytest.mark.parametrize("path", DOCUMENTED, ids=ids)
def test_everything_public_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(tree(path)) or not tree(path).body
    for node in tree(path).body:
        if isinstance(
            node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        ) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


@pytest.mark.parametrize("path", DOCUMENTED, ids=ids)
def test_public_docstrings_name_every_parameter(path: Path) -> None:
    """Of the core, everything; of the shells, what a user's DAG file can give."""
    core = part(module_name(path)) in ("api", "exceptions")
    missing = {}
    for name, function, docstring in public_functions(path):
        if not core and not re.fullmatch(r"\w+(Operator|Sensor|Hook)\.__init__", name):
            continue
        arguments = function.args
        given = {item.arg for item in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
        untold = {item for item in given - _KNOWN_PARAMETERS if not re.search(rf"\b{item}\b", docstring)}
        if untold and not _refers(docstring):
            missing[name] = sorted(untold)
    assert not missing
