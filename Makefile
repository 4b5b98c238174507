# The verbs of this repository; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-stamp
WORKERS ?= auto
RUN ?=
MODEL ?=
DATA ?=
SUBJECTS ?= 400
HOSPITAL := runs/demo-hospital

.PHONY: help setup apt demo test check format audit governance-check bench docs clean

help:  ## This list.
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Build .venv and install CliniMM with everything that it can use.

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "CliniMM needs Python 3.11 or later, and $(PYTHON) is $$($(PYTHON) --version 2>&1): make setup PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@

apt:
	@scripts/apt.sh

demo: setup  ## Simulate a hospital and run the whole pipeline on it, offline, within minutes.
	@test -f $(HOSPITAL)/truth.json || $(BIN)/clinimm simulate $(HOSPITAL) --subjects $(SUBJECTS) --seed 7 --scenario synergy
	@$(BIN)/clinimm run pipelines/demo.yaml

test: setup apt  ## Run every test; those that need licensed data skip where it is absent.
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

check: setup  ## Format, lint, types, import contracts, spelling: what CI runs first.
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/codespell clinimm tests pipelines docs governance benchmarks notebooks scripts Makefile *.md *.toml

format: setup  ## Let ruff put every file into its form.
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

audit: setup  ## Audit the last candidate, RUN=runs/NAME, or MODEL=runs/NAME DATA=export; fails where the policy is broken.
	@$(BIN)/clinimm audit $(or $(MODEL),$(RUN)) $(if $(DATA),--data $(DATA))

governance-check: setup  ## Trace each hazard to a control, a test and evidence; fails on an empty cell.
	@$(BIN)/clinimm governance check --collect --out build/governance

bench: setup  ## Run every benchmark behind a claim of the README.
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

docs: setup  ## Build the documentation into site/.
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "documentation: site/index.html"

clean:  ## Remove what was built, never runs/ and never .venv.
	@rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage
	@find clinimm tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
