# Everything that is needed is installed into .venv by the targets themselves.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
UV := $(BIN)/uv
PIP_INSTALL := $(UV) pip install --quiet --python $(BIN)/python --constraint constraints.txt
AIRFLOW_VERSIONS := 3.1 3.2 3.3
# What knows nothing of Airflow is not tried with each of its versions.
WITHOUT_AIRFLOW := tests/unit/api tests/unit/datasets tests/unit/evaluation tests/integration/hooks/test_hostile_input.py tests/integration/hooks/test_faults.py \
  tests/integration/hooks/test_sent.py tests/integration/tasks/test_one_live_job.py \
  tests/integration/tasks/test_every_path.py tests/integration/tasks/test_rows_whole_body.py
PYTEST := -m pytest --numprocesses 3
# Tests bring their own settings; a developer's own Airflow must not leak in.
# A fixed hash seed: the processes have to agree on the order of parametrised sets.
CLEAN_ENV := env --unset=AIRFLOW_HOME --unset=AIRFLOW__CORE__DAGS_FOLDER PYTHONHASHSEED=0

.PHONY: help
help: ## show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.venv/made:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 14) else \
	  f"Python 3.10 to 3.14 is needed, {sys.executable} is {v[0]}.{v[1]}: run make PYTHON=python3.12 ...")'
	@echo "Creating .venv ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

.venv/demo: .venv/made pyproject.toml constraints.txt
	@echo "Installing Airflow and the demo's packages ..."
	@$(PIP_INSTALL) --editable '.[demo]'
	@touch $@

.venv/test: .venv/made pyproject.toml constraints.txt
	@echo "Installing Airflow and the tests' packages ..."
	@$(PIP_INSTALL) --editable '.[test]'
	@touch $@

.PHONY: demo
demo: .venv/demo ## run the weekly retraining DAG on a real Airflow against the emulators
	@$(CLEAN_ENV) $(BIN)/python -m demo

.PHONY: test
test: test-fast test-e2e ## run all tests

.PHONY: test-e2e
test-e2e: .venv/test ## run the tests that talk to a whole Airflow
	@$(CLEAN_ENV) $(BIN)/python -m pytest -m e2e tests/e2e

.PHONY: test-fast
test-fast: .venv/test ## run the tests that need no Airflow processes
	@$(CLEAN_ENV) $(BIN)/python $(PYTEST) -m 'not e2e'

.PHONY: contract
contract: .venv/test ## ask the emulator whether it does what is expected of Google
	@$(CLEAN_ENV) $(BIN)/python -m pytest -q tests/contract

# Asks before it spends. It sees the connection AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT, else application default credentials.
.PHONY: contract-live
contract-live: .venv/test ## ask Google the same, for less than 2 USD (PROJECT=... LOCATION=... BUCKET=... TO_THE_END=1)
	@$(CLEAN_ENV) $(BIN)/python -m tests.contract live --project '$(PROJECT)' --location '$(LOCATION)' \
	  --bucket '$(BUCKET)' $(if $(MODEL),--model '$(MODEL)') $(if $(TO_THE_END),--to-the-end)

.PHONY: test-matrix
test-matrix: $(AIRFLOW_VERSIONS:%=test-airflow-%) ## run the tests that Airflow's version matters to on 3.1, 3.2 and 3.3

.PHONY: $(AIRFLOW_VERSIONS:%=test-airflow-%)
$(AIRFLOW_VERSIONS:%=test-airflow-%): test-airflow-%: .venv/made
	@echo "Airflow $*:"
	@$(UV) venv --quiet --allow-existing --python $(BIN)/python .venvs/airflow-$*
	@$(UV) pip install --quiet --python .venvs/airflow-$*/bin/python \
	  --constraint $(or $(wildcard tests/matrix/constraints-airflow-$*.txt),constraints.txt) --editable '.[test]'
	@$(CLEAN_ENV) .venvs/airflow-$*/bin/python $(PYTEST) -q tests/unit tests/integration $(WITHOUT_AIRFLOW:%=--ignore=%)
	@$(CLEAN_ENV) .venvs/airflow-$*/bin/python -m pytest -q -m matrix tests/e2e

WWW := airflow_tuning_provider/plugin/www

.PHONY: www
www: ## build the page's bundle from its sources (needs Node)
	@cd $(WWW) && npm ci --silent --no-audit --no-fund && npm run --silent build

.PHONY: www-check
www-check: www ## fail if the bundle in the repository is not what its sources give
	@git diff --exit-code --stat -- airflow_tuning_provider/plugin/static || \
	  { echo "The bundle is not up to date: commit what make www has built."; exit 1; }

.PHONY: browser
browser: ## install Chromium for the browser tests, where there is none (Debian, as root)
	@command -v chromium > /dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } > /dev/null

.PHONY: lint
lint: .venv/test ## check style, spelling, imports and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@git ls-files 2> /dev/null | xargs --no-run-if-empty $(BIN)/codespell
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/mypy

.PHONY: format
format: .venv/test ## format the code
	@$(BIN)/ruff check --fix --exit-zero --quiet .
	@$(BIN)/ruff format .

.PHONY: package
package: .venv/test ## build the distributions and try the wheel in an empty environment
	@rm -rf dist
	@$(BIN)/python -m build --installer uv --outdir dist . > /dev/null
	@tests/packaging/try-wheel dist/*.whl

.venvs/audit/made: .venv/made
	@echo "Installing pip-audit and cyclonedx-bom ..."
	@$(UV) venv --quiet --allow-existing --python $(BIN)/python .venvs/audit
	@$(UV) pip install --quiet --python .venvs/audit/bin/python pip-audit cyclonedx-bom
	@touch $@

# The last step needs the network: advisories are those of PyPI. It fails where not every package could be looked up.
.PHONY: audit
audit: .venv/test .venvs/audit/made ## list licences, write a bill of materials to dist/sbom.json, look for vulnerabilities
	@mkdir -p dist
	@$(BIN)/python tests/packaging/licences.py
	@$(BIN)/python tests/packaging/licences.py --pins | .venvs/audit/bin/cyclonedx-py requirements - --output-file dist/sbom.json
	@.venvs/audit/bin/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip --progress-spinner off

# Airflow 3.2 does not start with FastAPI 0.137 or newer, which only 3.3 says.
.PHONY: constraints
constraints: .venv/made ## pin the newest versions of all dependencies
	@set -e; compile="$(UV) pip compile --quiet --upgrade --universal --python-version 3.10 --no-header --no-annotate \
	  --no-emit-package airflow-tuning-provider --extra test pyproject.toml"; \
	$$compile --output-file constraints.txt; \
	for version in 3.1 3.2; do \
	  $$compile --output-file tests/matrix/constraints-airflow-$$version.txt \
	    <(printf '%s\n' "apache-airflow==$$version.*" "fastapi<0.137"); \
	done

.PHONY: clean
clean: ## remove everything that was installed or built
	@rm -rf .venv .venvs .demo .mutants dist build .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venvs/peers/made: .venv/made
	@echo "Installing the peers ..."
	@$(UV) venv --quiet --allow-existing --python $(BIN)/python .venvs/peers
	@$(UV) pip install --quiet --python .venvs/peers/bin/python --requirement benchmarks/peers.txt --editable .
	@touch $@

.PHONY: bench
bench: .venv/test .venvs/peers/made ## measure beside other ways, and write benchmarks/results.md (about 75 min)
	@$(CLEAN_ENV) $(BIN)/python -m benchmarks --peers .venvs/peers/bin/python

.PHONY: chaos
chaos: .venv/test ## kill processes at every point of a job's life (about 40 min; RUNS=1 for 5 min)
	@$(CLEAN_ENV) $(BIN)/python -m tests.proofs.chaos $(if $(RUNS),--runs $(RUNS))

.PHONY: kill
kill: .venv/test ## show what each user action does to the job
	@$(CLEAN_ENV) $(BIN)/python -m tests.proofs.kill

.PHONY: soak
soak: .venv/test ## run 200 tasks while 30 % of all calls misbehave (TASKS=20 for a quick look)
	@$(CLEAN_ENV) $(BIN)/python -m tests.proofs.soak $(if $(TASKS),--tasks $(TASKS))

.PHONY: mutants
mutants: .venv/test ## show which of 100 mutants the fast tests notice (SEED=1 SAMPLE=100; goes on where it was stopped)
	@$(CLEAN_ENV) $(BIN)/python -m tests.proofs.mutants $(if $(SEED),--seed $(SEED)) $(if $(SAMPLE),--sample $(SAMPLE))

.PHONY: bench-quick
bench-quick: .venv/test ## run a small version of each row of the benchmark
	@$(CLEAN_ENV) $(BIN)/python -m benchmarks --quick

.PHONY: test-compose
test-compose: .venv/test ## bring docker-compose.yaml up, hurt it and take it down (INSTALL=1 installs an engine)
	@$(CLEAN_ENV) $(BIN)/python -m tests.proofs.compose $(if $(INSTALL),--install)

.venvs/distributed/made: .venv/made constraints.txt tests/proofs/distributed/requirements.txt
	@echo "Installing Airflow with Celery ..."
	@$(UV) venv --quiet --allow-existing --python $(BIN)/python .venvs/distributed
	@$(UV) pip install --quiet --python .venvs/distributed/bin/python --constraint constraints.txt \
	  --editable '.[demo]' --requirement tests/proofs/distributed/requirements.txt
	@touch $@

.PHONY: test-distributed
test-distributed: .venvs/distributed/made ## break a distributed Airflow part by part (TASKS=200; ROWS="worker load"; INSTALL=1)
	@$(CLEAN_ENV) .venvs/distributed/bin/python -m tests.proofs.distributed --tasks $(or $(TASKS),200) \
	  $(if $(INSTALL),--install) $(ROWS)
