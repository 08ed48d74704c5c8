"""What a contributor's tools are told: workflows, hooks and forms agree with what is in the repository."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
GITHUB = REPOSITORY / ".github"
WORKFLOWS = sorted(GITHUB.glob("workflows/*.yaml"))
MAKEFILE = (REPOSITORY / "Makefile").read_text()
TARGETS = {
    *re.findall(r"^([a-z0-9-]+):", MAKEFILE, re.MULTILINE),
    *(f"test-airflow-{version}" for version in ("3.1", "3.2", "3.3")),
    ".venv/test",
}
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *(f"docs/{p.name}" for p in (REPOSITORY / "docs").glob("*.md")),
]


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def commands(path: Path) -> list[str]:
    """Return what the steps of a workflow run, each matrix written out."""
    found = []
    for job in load(path)["jobs"].values():
        matrix = job.get("strategy", {}).get("matrix", {})
        for step in job["steps"]:
            lines = [step.get("run", "")]
            for name, values in matrix.items():
                mark = f"${{{{ matrix.{name} }}}}"
                lines = [line.replace(mark, value) for line in lines for value in values]
            found += [line for line in dict.fromkeys(lines) if line]
    return found


def made(text: str) -> set[str]:
    return set(re.findall(r"\bmake (?:PYTHON=\S+ )?([a-z.][a-z0-9./-]*)", text))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_makes_what_there_is(path: Path) -> None:
    assert made("\n".join(commands(path))) <= TARGETS


def test_the_workflow_does_what_the_check_before_a_release_does() -> None:
    check = made("\n".join(commands(GITHUB / "workflows" / "check.yaml")))
    release = made((REPOSITORY / ".ci" / "run").read_text())
    assert release - {"test"} <= check
    assert {"test-fast", "test-e2e"} <= check  # what "test" is


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_read_and_no_more_unless_it_says_so(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    may_more = {name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job}
    assert may_more in ({}, {"publish": {"id-token": "write"}})
    assert all(job["timeout-minutes"] for job in workflow["jobs"].values())


def test_the_workflow_tries_every_python_that_is_permitted() -> None:
    tried = load(GITHUB / "workflows" / "check.yaml")["jobs"]["test"]["strategy"]["matrix"]["python-version"]
    project = (REPOSITORY / "pyproject.toml").read_text()
    assert tried == re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project)
    last = int(tried[-1].split(".")[1])
    assert f'requires-python = ">={tried[0]},<3.{last + 1}"' in project


def test_a_hook_runs_what_is_installed() -> None:
    hooks = load(REPOSITORY / ".pre-commit-config.yaml")["repos"][0]["hooks"]
    assert {hook["id"] for hook in hooks} == {"ruff", "ruff-format", "mypy", "imports", "codespell"}
    for hook in hooks:
        program = Path(hook["entry"].split()[0])
        assert program.parts[:2] == (".venv", "bin")
        assert program.name in re.findall(r"\$\(BIN\)/([a-z-]+)", MAKEFILE)


@pytest.mark.parametrize("path", sorted(GITHUB.glob("ISSUE_TEMPLATE/[bi]*.yaml")), ids=lambda path: path.name)
def test_a_form_can_be_shown(path: Path) -> None:
    form = load(path)
    assert {"name", "description", "body"} <= set(form)
    identifiers = [field["id"] for field in form["body"] if field["type"] != "markdown"]
    assert len(set(identifiers)) == len(identifiers)
    for field in form["body"]:
        assert field["type"] in ("markdown", "textarea", "input", "dropdown")
        assert field["attributes"].get("label") or field["type"] == "markdown"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_targets_and_files_that_there_are(page: str) -> None:
    text = (REPOSITORY / page).read_text()
    code = "\n".join(
        [*re.findall(r"`([^`\n]+)`", text), *re.findall(r"```console\n(.*?)```", text, re.DOTALL)]
    )
    assert made(code) <= TARGETS
    for link in re.findall(r"\]\((?!https?://)([^)#]+)", text):
        assert (REPOSITORY / page).parent.joinpath(link).exists(), link
    for path in re.findall(r"`((?:tests|docs|airflow_tuning_provider|example_dags)/[\w/.-]+)`", text):
        assert (REPOSITORY / path).exists(), path


def licences(*arguments: str) -> list[str]:
    command = [sys.executable, str(Path(__file__).with_name("licences.py")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_every_dependency_may_be_depended_on() -> None:
    listed = [line.split()[0] for line in licences()]
    pinned = [line.split("==")[0] for line in licences("--pins")]
    assert listed == pinned
    assert {"airflow-tuning-provider", "apache-airflow", "google-auth", "pendulum", "requests"} <= set(listed)
    assert not {"google-cloud-storage", "pytest", "ruff"} & set(listed)
