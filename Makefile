# Two commands matter: `make run` and `make test`. Both set up what they need on a machine that has only Python 3.11+.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
PARALLEL ?= -n auto --dist loadfile
SEEDS ?= 5000
FIRST ?= 0

.PHONY: help run demo test test-fast check cost simulate bench faults fuzz docs footprint clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/.run ## Set up and start the gateway on embedded defaults (ARGS="--port 8080")
	@exec $(BIN)/penstock serve $(ARGS)

demo: $(VENV)/.run ## Start the gateway and send it a few minutes of mixed traffic (ARGS="--seconds 60")
	@exec $(BIN)/penstock demo $(ARGS)

test: $(VENV)/.dev .peers/.tests .peers/minilm/.built ## Set up and run all tests, real servers and official SDKs included
	$(BIN)/pytest $(PARALLEL) $(ARGS)

test-fast: $(VENV)/.dev ## Run the tests that need no other project's server
	$(BIN)/pytest $(PARALLEL) -m 'not peer' $(ARGS)

check: $(VENV)/.dev ## Lint, types, import rules, formatting, documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --config .importlinter.toml
	$(BIN)/mkdocs build --strict --quiet

cost: $(VENV)/.dev ## Compare the instructions a request takes with those recorded (needs valgrind)
	@scripts/valgrind
	@$(BIN)/python -m benchmarks.profile --check

simulate: $(VENV)/.dev ## Put the pipeline through storms of faults (SEEDS=5000 FIRST=0)
	@$(BIN)/python -m penstock.testing.simulation --seeds $(SEEDS) --first $(FIRST)

bench: $(VENV)/.dev ## Measure the gateway beside six others (needs wrk, nginx, haproxy and npm)
	$(BIN)/python -m benchmarks.gateway --json $(ARGS)

faults: $(VENV)/.dev ## Play the fault matrix, dead providers and hang-ups; writes docs/reference/faults.md
	$(BIN)/python -m benchmarks.faults --write $(ARGS)

fuzz: ## Fuzz parsers, protocols and the API (SECONDS=10 for each; needs about 300 MB once)
	@scripts/fuzz $(PYTHON) $(or $(SECONDS),10)

docs: $(VENV)/.dev ## Serve the documentation on a loopback address
	$(BIN)/mkdocs serve

footprint: $(VENV)/.dev ## Measure start-up, size and memory of the default install, in an environment of its own
	@$(BIN)/python -m benchmarks.startup --json --check $(ARGS)

clean: ## Remove environments and what the tools left
	rm -rf $(VENV) .peers build dist site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@scripts/environment $(PYTHON) $(VENV)

$(VENV)/.run: $(VENV)/bin/python pyproject.toml
	@[ -e $(VENV)/.dev ] || $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[prompts]'
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@ $(VENV)/.run

.peers/.tests: scripts/peers
	@scripts/peers $(PYTHON)
	@touch $@

.peers/minilm/.built: benchmarks/minilm.py | $(VENV)/.dev
	@echo "building a model of sentences in .peers/minilm (90 MB, once)" >&2
	@$(BIN)/python -m benchmarks.minilm >/dev/null && touch $@ \
		|| echo "it could not be built; its tests will be skipped" >&2
