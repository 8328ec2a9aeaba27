# `make demo` and `make test` need only make and Python 3.11 or later.
PYTHON ?= python3
BIN := .venv/bin
ONCE ?=
MODE ?=
PORT ?=
ROWS ?=
ROUNDS ?=
PARTS ?=
ifdef PORT
export UI_PORT := $(PORT)
endif

.PHONY: demo up test test-long e2e docs screenshots lint bench install clean
.DEFAULT_GOAL := help

help:
	@echo "make demo            sync an embedded sandbox, then serve the Dagster UI (PORT=3000)"
	@echo "make demo ONCE=1     sync once and exit"
	@echo "make demo MODE=kind  kind of Redshift: provisioned, single-node, serverless or multi-az"
	@echo "make up              webserver, daemon and schedule for the databases of .env"
	@echo "make test            run the tests;  make lint  run the linters"
	@echo "make test-long       tests that kill processes and sync 500 times"
	@echo "make e2e             tests in a browser; they need Chromium"
	@echo "make docs            generate parts of the documents;  make screenshots  their pictures"
	@echo "make bench           compare with other tools in half an hour; short: ROWS=20000 ROUNDS=1 PARTS=loads"

install: .venv/installed

.venv/installed: pyproject.toml deploy/constraints.txt
	@test -w . || { echo "This folder is read-only; QuperSync keeps .venv and .qupersync in it."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "QuperSync needs Python 3.11 or later; name it with PYTHON=python3.x."; exit 1; }
	@echo "Installing into .venv (a minute or two, once)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check -c deploy/constraints.txt -e '.[dev]'
	@touch $@

demo: install
	@$(BIN)/python -m qupersync_assets.sandbox.demo $(if $(ONCE),--once) $(if $(MODE),--mode='$(MODE)')

up: install
	@test -e .env || { echo "Copy .env.example to .env and fill it in first."; exit 1; }
	@$(BIN)/python -m qupersync_assets.serve

test: install
	$(BIN)/pytest

test-long: install
	$(BIN)/pytest -m long -n0

e2e: .venv/browser
	$(BIN)/pytest -m e2e -n0 qupersync_assets_tests/e2e

docs: install
	$(BIN)/python -m tools.generate_docs

screenshots: .venv/browser
	$(BIN)/python -m tools.screenshots

.venv/browser: .venv/installed
	@$(BIN)/pip install --quiet --disable-pip-version-check -c deploy/constraints.txt -e '.[e2e]'
	@touch $@

bench: install
	$(BIN)/python -m benchmarks $(if $(ROWS),--rows=$(ROWS)) $(if $(ROUNDS),--rounds=$(ROUNDS)) \
		$(if $(PARTS),--parts $(PARTS))

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_words.py
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml
	@# With a temporary instance: that of dagster.yaml needs its PostgreSQL.
	@set -a; . ./.env.example; set +a; export DAGSTER_HOME=$$(mktemp -d); \
		$(BIN)/dagster definitions validate -w workspace.yaml; status=$$?; rm -rf $$DAGSTER_HOME; exit $$status

clean:
	rm -rf .venv .qupersync .bench build *.egg-info
