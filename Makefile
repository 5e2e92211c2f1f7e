# The whole of the project's routine. `make` alone lists the targets.
# Needs Python 3.11 or later, make, and a package index for pip; nothing else.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The first Python on the PATH that is new enough; say `make PYTHON=/path/to/python test` for another.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin

# Handed to pytest as they are: `make test PYTEST_ARGS="-k scheduler -x"`.
PYTEST_ARGS ?=
# Least branch coverage, in percent: of what is pure (core and protocol), and of the rest.
COVERAGE_PURE ?= 100
COVERAGE_REST ?= 90
PURE_FILES := paramserver/core/*,paramserver/protocol/*
# What covers the pure code: in this process, without any other.
PURE_TESTS := tests/unit/core tests/unit/protocol tests/property
PURE_COVERAGE := --rcfile=/dev/null --data-file=.coverage-pure

.PHONY: help
help: ## list the targets (what you read now)
	@echo "make TARGET, where TARGET is one of:"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "Whatever a target needs is installed into $(VENV) first. Variables: PYTHON (which one to use),"
	@echo "VENV (where to install), PYTEST_ARGS and BENCH_ARGS (options handed on)."

# Hundreds of processes are started by the tests: what Python compiles is kept, whatever the
# environment says.
export PYTHONDONTWRITEBYTECODE :=

# --- set-up -----------------------------------------------------------------------------------------
# A stamp is younger than pyproject.toml when what it stands for is installed as pyproject.toml says.

.PHONY: venv
venv: $(VENV)/.stamp-test ## make .venv with everything the tests need

$(VENV)/.stamp-venv:
	@test -n "$(PYTHON)" || { echo "paramserver needs Python 3.11 or later and found none on the" \
	  "PATH; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.stamp-base: pyproject.toml | $(VENV)/.stamp-venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.stamp-test: pyproject.toml | $(VENV)/.stamp-venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $(VENV)/.stamp-base $@

# --- use --------------------------------------------------------------------------------------------

.PHONY: demo
demo: $(VENV)/.stamp-base ## count words with 10 workers, killing one; then train in both modes
	@stdlib=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))'); \
	echo "+ python examples/wordcount.py $$stdlib/*.py $$stdlib/*/*.py --kill-worker"; \
	$(BIN)/python examples/wordcount.py "$$stdlib"/*.py "$$stdlib"/*/*.py --kill-worker
	@for mode in avg async; do \
	  echo; echo "+ python -m paramserver.train --mode $$mode"; \
	  $(BIN)/python -m paramserver.train --mode $$mode; \
	done

# --- checks -----------------------------------------------------------------------------------------

.PHONY: check
check: lint types ## lint, format, layers and types; changes nothing

.PHONY: lint
lint: $(VENV)/.stamp-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache --no-logo

.PHONY: types
types: $(VENV)/.stamp-test
	$(BIN)/mypy

.PHONY: format
format: $(VENV)/.stamp-test ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

NOT_FULL := -m "not full" --hypothesis-profile=ci

.PHONY: test
test: lint ## check, and all tests that a bare machine can run (within 10 minutes)
ifeq ($(PYTEST_ARGS),)
	@echo "Two runs share the tests, module by module; the lines of the first one come last."
	$(BIN)/python tests/side_by_side.py $(MAKE) --no-print-directory -k types test-pure test-rest \
	  --- $(MAKE) --no-print-directory test-rest
else # a part of the tests: their coverage says nothing
	$(BIN)/mypy
	$(BIN)/python -m pytest $(NOT_FULL) $(PYTEST_ARGS)
endif

.PHONY: test-rest
test-rest: $(VENV)/.stamp-test
	$(BIN)/python -m pytest -p tests.sharing $(NOT_FULL) $(PURE_TESTS:%=--ignore=%)

.PHONY: test-pure
test-pure: $(VENV)/.stamp-test ## the tests of the pure code alone, and whether they cover all of it
	$(BIN)/coverage run $(PURE_COVERAGE) --branch --source=paramserver.core,paramserver.protocol \
	  -m pytest $(PURE_TESTS) $(NOT_FULL)
	@echo "Branch coverage of the pure code and the protocol by these (at least $(COVERAGE_PURE) %):"
	$(BIN)/coverage report $(PURE_COVERAGE) --skip-covered --show-missing --precision=2 \
	  --fail-under=$(COVERAGE_PURE)

COVERED := $(BIN)/coverage run -m pytest -p tests.sharing $(NOT_FULL) $(PYTEST_ARGS)

.PHONY: coverage
coverage: check ## all tests of `make test`, and which branches none has taken, in workers too (slower)
	$(BIN)/coverage erase
	$(BIN)/python tests/side_by_side.py $(COVERED) --- $(COVERED)
	$(BIN)/coverage combine --quiet
	@rm -f .coverage.*  # what a worker was writing when a test killed it
	$(BIN)/coverage report --include='$(PURE_FILES)' --fail-under=$(COVERAGE_PURE)
	@echo "Branch coverage of the rest (at least $(COVERAGE_REST) %):"
	$(BIN)/coverage report --omit='$(PURE_FILES)' --fail-under=$(COVERAGE_REST)

FULL := $(BIN)/python -m pytest -p tests.sharing --hypothesis-profile=full --timeout=600 $(PYTEST_ARGS)

.PHONY: test-full
test-full: check ## check, then every test (some 40 minutes); fails where something they need is missing
	$(BIN)/python tests/prerequisites.py
	$(BIN)/python tests/side_by_side.py $(FULL) --- $(FULL)

.PHONY: mutants
mutants: $(VENV)/.stamp-test ## put known bugs into the scheduler, show which the tests catch
	$(BIN)/python tests/simulation/mutants.py

# --- speed ------------------------------------------------------------------------------------------

BENCH_VENV ?= .venv-bench
# `make bench-core BENCH_ARGS="--rows 1 2 --quick"`; `--help` tells the rest.
BENCH_ARGS ?=

$(BENCH_VENV)/.stamp: pyproject.toml tests/benchmarks/requirements-bench.txt
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e . \
	  -r tests/benchmarks/requirements-bench.txt
	@touch $@

.PHONY: bench-core
bench-core: $(BENCH_VENV)/.stamp ## time the job core and its peers side by side (some 15 minutes)
	$(BENCH_VENV)/bin/python -m tests.benchmarks.bench_core $(BENCH_ARGS)

.PHONY: bench-training
bench-training: $(BENCH_VENV)/.stamp ## time both training modes and their peers side by side (some 15 minutes)
	$(BENCH_VENV)/bin/python -m tests.benchmarks.bench_training $(BENCH_ARGS)

.PHONY: bench-first-minutes
bench-first-minutes: $(VENV)/.stamp-base ## time what a new user meets first (some two minutes)
	$(BIN)/python -m tests.benchmarks.first_minutes $(BENCH_ARGS)

# --- tidy -------------------------------------------------------------------------------------------

.PHONY: clean
clean: ## remove .venv and all that tools have left here
	rm -rf .venv .venv-ci .venv-bench build dist *.egg-info htmlcov .coverage .coverage.* .coverage-pure \
	  .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
