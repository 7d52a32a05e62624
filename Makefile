# Each target says what it does: `make` alone lists them.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
# what the images are built from: any Debian 12 or newer; a file with certificates for a proxy that opens TLS
BASE_IMAGE ?= debian:bookworm-slim
CA_BUNDLE ?= deploy/no-ca-bundle.pem
BUILD := docker build --quiet --build-arg BASE=$(BASE_IMAGE) --build-arg CA_BUNDLE=$(CA_BUNDLE) --build-arg PIP_INDEX_URL=$(PIP_INDEX_URL)
.PHONY: help setup demo test attacks containers check bench soak serve images lock clean

PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check
COMPILE := CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url \
    --no-emit-trusted-host --no-emit-find-links --no-emit-options

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.installed .runtime/.installed ## Create .venv and .runtime from the lock files (again only when these changed)

.venv/.installed: requirements-dev.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed (or say which: make PYTHON=/path/to/python3 ...)" >&2; exit 1; }
	@echo "setup: .venv with $$($(PYTHON) --version), from requirements-dev.lock (one to two minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; \
	    echo "This Python cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(PIP) install --require-hashes --requirement requirements-dev.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.runtime/.installed: sandbox/requirements-runtime.lock | .venv/.installed
	@echo "setup: .runtime/python, what candidates' Python programs may import"
	@rm -rf .runtime && mkdir .runtime
	@$(PIP) install --require-hashes --no-deps --target .runtime/python --requirement sandbox/requirements-runtime.lock
	@touch $@

demo: setup ## Start the service, grade examples/ through it, print a table of every rollout
	@$(BIN)/python examples/demo.py

test: setup ## Run the tests
	@echo "test: pytest"
	@$(BIN)/python -m pytest -m "not soak and not attacks and not containers" $(PYTEST_ARGS)

attacks: setup ## Run the hostile programs against the sandbox (three minutes; CI runs them, too)
	@echo "attacks: pytest tests/attacks"
	@$(BIN)/python -m pytest -m attacks $(PYTEST_ARGS)

containers: setup ## Run what needs a container engine: contract, deployment, attacks through docker, remote and compose (CI runs it, too)
	@echo "containers: pytest -m containers"
	@$(BIN)/python -m pytest -m containers $(PYTEST_ARGS)
	@for backend in $(if $(filter 0,$(shell id -u)),docker-cgroup,docker) composed; do echo "containers: pytest -m attacks --backend $$backend"; \
	    $(BIN)/python -m pytest -m attacks --backend $$backend $(PYTEST_ARGS); done
	@echo "containers: attacks that a connection could matter to, --backend remote (composed is the same over containers, with all of them)"
	@$(BIN)/python -m pytest -m attacks --backend remote tests/attacks/test_beyond_one_job.py tests/attacks/test_calls.py $(PYTEST_ARGS)

check: setup ## Check without running: format, lint, types, layers, sizes
	@echo "check: format";  $(BIN)/ruff format --check --quiet . || { echo "run: $(BIN)/ruff format ." >&2; exit 1; }
	@echo "check: lint";    $(BIN)/ruff check --quiet .
	@echo "check: types";   $(BIN)/mypy --no-error-summary
	@echo "check: layers";  $(BIN)/lint-imports --no-logo > .venv/layers.txt 2>&1 || { cat .venv/layers.txt; exit 1; }
	@echo "check: sizes";   $(BIN)/python .ci/check_sizes.py

bench: setup ## Run the benchmarks (bench/README.md says what each measures)
	@set -- bench/*.py; test -e "$$1" || { echo "bench: no benchmark yet (bench/README.md)"; exit 0; }; \
	for file in "$$@"; do echo "bench: $$file"; $(BIN)/python "$$file"; done

soak: setup ## Run the tests that take minutes: load, faults, leaks
	@echo "soak: pytest -m soak"
	@$(BIN)/python -m pytest -m soak $(PYTEST_ARGS) || { code=$$?; test $$code -eq 5 && echo "soak: no soak test yet" || exit $$code; }

serve: setup ## Start the service on this machine (settings: docs/settings.md)
	@exec $(BIN)/reward-service serve

images: ## Build the container images reward-sandbox and reward-service
	@echo "images: reward-sandbox"; $(BUILD) --file sandbox/Dockerfile --tag reward-sandbox .
	@echo "images: reward-service"; $(BUILD) --tag reward-service .

lock: ## Resolve the lock files anew from pyproject.toml (the newest versions that fit)
	@$(COMPILE) --upgrade --output-file requirements.lock pyproject.toml
	@$(COMPILE) --upgrade --extra dev --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml
	@$(COMPILE) --upgrade --output-file sandbox/requirements-runtime.lock sandbox/requirements-runtime.in

clean: ## Remove what setup and the tools made
	rm -rf .venv .runtime build dist ./*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
