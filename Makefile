# Everything a person or CI does with this repository. Tools live in .venv, installed from the lock files.

PYTHON ?= python3
ARGS ?=
# Files of tests in turn: most of a run waits for real processes. make test WORKERS= runs them one by one.
WORKERS ?= --numprocesses 3 --dist loadfile --no-loadscope-reorder
SEEDS ?= 50
SEED_BASE ?= 1
BIN := .venv/bin
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header
RUNTIME := .venv/runtime.stamp
DEV := .venv/dev.stamp
BENCH := .venv/bench.stamp
# Ctrl-C is how a person ends these: the shell outlives it and make has nothing to complain about.
UNTIL_INTERRUPTED = @trap : INT; $(1) || { code=$$?; [ $$code -eq 130 ] || exit $$code; }

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-faults lint format types kafka bench bench-throughput bench-latency bench-recovery lock clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(RUNTIME)  ## the whole product on simulated days; ARGS=--once ends by itself
	$(call UNTIL_INTERRUPTED,$(BIN)/steward demo $(ARGS))

test: lint types $(DEV)  ## lint, types, imports and every test; ARGS go to pytest
	$(BIN)/python -m pytest -p tests.kafka_floor $(WORKERS) $(ARGS)

test-faults: $(DEV)  ## fifty seeds of faults on Apache Kafka; SEEDS=50 SEED_BASE=1, ARGS="--only 7" replays one
	$(call UNTIL_INTERRUPTED,$(BIN)/python -m tests.fault --seeds $(SEEDS) --base $(SEED_BASE) $(ARGS))

lint: $(DEV)  ## ruff, import contracts, declared dependencies
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry .

format: $(DEV)  ## rewrite the code the way `make lint` wants it
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(DEV)  ## mypy, strict
	$(BIN)/mypy

kafka: $(RUNTIME)  ## start an Apache Kafka (Java and, the first time, Maven)
	$(call UNTIL_INTERRUPTED,$(BIN)/python -m services.runtime.embedded.apache $(ARGS))

bench: $(RUNTIME)  ## measure the handoff and the health step; ARGS=latency measures that
	$(call UNTIL_INTERRUPTED,$(BIN)/python -m bench $(ARGS))

bench-throughput: $(RUNTIME) $(BENCH)  ## the engine beside Kafka Streams, confluent-kafka and stock Faust
	$(call UNTIL_INTERRUPTED,$(BIN)/python -m bench throughput --json bench/results/throughput.json $(ARGS))

bench-latency: $(RUNTIME)  ## to committed outputs, scores, breaches, deliveries; ARGS="--part due --timers 50000"
	$(call UNTIL_INTERRUPTED,$(BIN)/python -m bench latency --json bench/results/latency.json $(ARGS))

bench-recovery: $(RUNTIME)  ## restores and failovers; ARGS="--sizes 50000 --repetitions 2" is a short run
	$(call UNTIL_INTERRUPTED,$(BIN)/python -m bench recovery --json bench/results/recovery.json $(ARGS))

lock: $(DEV)  ## make the lock files again; ARGS=--upgrade takes newer versions
	$(LOCK) pyproject.toml --extra embedded --group build --output-file requirements.lock $(ARGS)
	$(LOCK) --group dev --constraint requirements.lock --output-file requirements-dev.lock $(ARGS)
	$(LOCK) --group bench --constraint requirements.lock --output-file requirements-bench.lock $(ARGS)

clean:  ## remove .venv, caches and build results
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Steward needs Python 3.11 or newer, and '$(PYTHON)' is not. Name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
	  echo "'$(PYTHON)' cannot make a virtual environment; on Debian, install python3-venv." >&2; exit 1; }

$(RUNTIME): requirements.lock pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): requirements-dev.lock $(RUNTIME)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

$(BENCH): requirements-bench.lock $(RUNTIME)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@touch $@
