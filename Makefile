# One self-describing command: `make` alone lists what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.DELETE_ON_ERROR:

# Every process of a stack, and of a test, would compile all of the house anew.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
BIN := .venv/bin
# What runtime and dev packages stand in .venv: a stamp each, so that `make demo` does not wait for the test tools.
RUNTIME := .venv/.runtime-stamp
DEV := .venv/.dev-stamp
# Much of the tests' time is waiting for servers and processes of their own, so there are two workers a core. (With three
# the first minute, in which the slow tests start their stacks, is so crowded that some wait in vain.)
# ARGS="-n 0" runs them in one process, for a debugger.
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
PYTEST := $(BIN)/python -m pytest -n $(shell expr 2 \* $(CORES)) --dist worksteal

##@ Try it
.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	     /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(RUNTIME) ## Play a generated store at embedded servers and keep serving (ONCE=1: exit after the table)
	$(BIN)/loyalnest demo $(if $(filter-out 0,$(ONCE)),--once)

##@ Work on it
.PHONY: venv
venv: $(DEV) ## Make .venv with everything the tests need, from the hash-pinned lock

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "LoyalNest needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -n 1). Try: make PYTHON=python3.13 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv

$(RUNTIME): requirements.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

$(DEV): requirements-dev.txt $(RUNTIME)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

.PHONY: test
test: $(DEV) ## Run every test that needs no real server (CI=true: those too)
ifeq ($(CI),true)
	set -a; [ ! -f .servers/env ] || . .servers/env; set +a; $(PYTEST) $(ARGS)
else
	$(PYTEST) -m "not server" $(ARGS)
	@echo
	@echo "Left out: the tests marked 'server' (deselected above), which want a real Kafka and PostgreSQL with TimescaleDB."
	@echo "To run them: make servers && make test-servers && make servers-down"
endif

.PHONY: test-fast
test-fast: $(DEV) ## Run the quick tests only
	$(PYTEST) -m "not server and not slow" $(ARGS)

.PHONY: test-servers
test-servers: $(DEV) ## Run the tests that want real servers, on those of `make servers`
	@[ -f .servers/env ] || { echo "No servers are up: run 'make servers' first." >&2; exit 1; }
	set -a; . .servers/env; set +a; $(PYTEST) -m server $(ARGS)

.PHONY: check
check: $(DEV) ## Lint, format check, types, and the floors of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

.PHONY: fmt
fmt: $(DEV) ## Format, and mend what the linter can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: fuzz
fuzz: $(DEV) ## Send signed webhooks that nobody would send (COUNT=100000 SEED=7)
	LOYALNEST_FUZZ_COUNT=$(or $(COUNT),5000) LOYALNEST_FUZZ_SEED=$(or $(SEED),1) \
	  $(PYTEST) -q -n 0 tests/integration/test_fuzz.py

.PHONY: mutants
mutants: $(DEV) ## Break the code in known ways; the tests must notice each (a few of them on the servers of `make servers`)
	set -a; [ ! -f .servers/env ] || . .servers/env; set +a; $(BIN)/python -m scripts.mutants $(ARGS)

.PHONY: chaos
chaos: $(DEV) ## Move partitions at random under load, on the servers of `make servers`; nothing may be lost
	@[ -f .servers/env ] || { echo "No servers are up: run 'make servers' first." >&2; exit 1; }
	set -a; . .servers/env; set +a; $(BIN)/python -m scripts.chaos $(ARGS)

.PHONY: docs
docs: $(DEV) ## Write what in docs/ comes from the code: schemas, topics, settings, metrics
	$(BIN)/python scripts/docs.py

.PHONY: screenshots
screenshots: $(DEV) ## Make the pictures in docs/ (needs Chromium: make browser)
	$(BIN)/python -m scripts.screenshots

.PHONY: messages
messages: $(DEV) ## Gather the dashboard's words into the catalogue of each language
	$(BIN)/python scripts/messages.py

.PHONY: bench
bench: $(DEV) ## Measure, beside plain Faust and Quix Streams, and write docs/benchmarks.md
	$(BIN)/python -m scripts.bench $(ARGS)

.PHONY: lock
lock: ## Pin every package anew by hash, for Python 3.11 and newer (needs uv on PATH; UPGRADE=1: to the newest)
	@command -v uv >/dev/null || { echo "make lock needs uv on PATH (pip install uv)." >&2; exit 1; }
	uv pip compile $(LOCK) --group build pyproject.toml -o requirements.txt
	uv pip compile $(LOCK) --group build --group dev -c requirements.txt pyproject.toml -o requirements-dev.txt
	uv pip compile $(LOCK) scripts/bench/requirements-quix.in -o scripts/bench/requirements-quix.txt
	uv pip compile $(LOCK) scripts/bench/requirements-usual.in -o scripts/bench/requirements-usual.txt
	uv pip compile $(LOCK) scripts/bench/requirements-bytewax.in -o scripts/bench/requirements-bytewax.txt
	uv pip compile $(LOCK) scripts/bench/requirements-picture.in -o scripts/bench/requirements-picture.txt
# No header and no index or find-links line: they would name this machine.
LOCK := --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	--no-emit-find-links $(if $(filter-out 0,$(UPGRADE)),--upgrade)

##@ Real servers, without Docker
.PHONY: servers
servers: $(RUNTIME) ## Bring up Apache Kafka and PostgreSQL with TimescaleDB on free ports
	@$(BIN)/python scripts/servers.py up

.PHONY: servers-down
servers-down: ## End them; their data stays for the next time (make clean removes it)
	@[ ! -x $(BIN)/python ] || $(BIN)/python scripts/servers.py down

.PHONY: browser
browser: ## Install Debian's Chromium and its headless shell, which the tests of the dashboard drive (as root)
	@$(PYTHON) scripts/browser.py

.PHONY: topics
topics: $(RUNTIME) ## Create LoyalNest's topics on the Kafka of `make servers`
	@[ -f .servers/env ] || { echo "No servers are up: run 'make servers' first." >&2; exit 1; }
	set -a; . .servers/env; set +a; $(BIN)/loyalnest topics create --kafka "$$LOYALNEST_TEST_KAFKA"

.PHONY: clean
clean: ## Remove the servers' data, the virtual environment and the caches
	@[ ! -x $(BIN)/python ] || $(BIN)/python scripts/servers.py purge
	rm -rf .venv .bench-venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
