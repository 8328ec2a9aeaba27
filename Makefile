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

.PHONY: demo up test test-long e2e docs site dist screenshots lint bench install lock sbom audit clean
.DEFAULT_GOAL := help

help:
	@echo "make demo            sync a simulated Redshift, then serve the Dagster UI (PORT=3000)"
	@echo "make demo ONCE=1     sync once and exit"
	@echo "make demo MODE=kind  kind of Redshift: provisioned, single-node, serverless or multi-az"
	@echo "make up              webserver, daemon and schedule for the databases of .env"
	@echo "make test            run the tests;  make lint  run the linters"
	@echo "make test-long       tests that kill processes and sync 500 times"
	@echo "make e2e             tests in a browser; they need Chromium"
	@echo "make docs            generate parts of the documents;  make screenshots  their pictures"
	@echo "make site            documentation as web pages;  make dist  wheel and source distribution, in build"
	@echo "make lock            pin the versions of deploy/constraints.txt with hashes;  make sbom  list them (CycloneDX)"
	@echo "make audit           look up known vulnerabilities of the packages"
	@echo "make bench           compare with other tools in half an hour; one part: PARTS=loads; short: ROWS=20000 ROUNDS=1"

install: .venv/installed

# All packages are pinned, with the hashes of their files: deploy/requirements/ is written by `make lock`. It is complete,
# hence --no-deps. uv installs in seconds what takes pip minutes; pip does it if uv does not reach the package index,
# because only pip reads pip's configuration.
PACKAGES := --no-deps --require-hashes --requirement deploy/requirements
PIP := $(BIN)/pip install --disable-pip-version-check
UV := $(BIN)/uv pip install --python $(BIN)/python
# The certificates of the system, as pip: a company's proxy may have one of its own.
export UV_SYSTEM_CERTS := true
ITSELF := --no-deps --no-build-isolation --editable .
# Before a command: show each second that it runs. The dots end with their shell, also after Ctrl-C.
DOTS := while kill -0 $$$$ 2> /dev/null; do printf .; sleep 1; done & trap "kill $$!; echo" EXIT;
INSTALLED = echo "Installed: $$(du -sm .venv | cut -f1) MB in .venv"

.venv/uv: deploy/requirements/uv.txt
	@test -w . || { echo "This folder is read-only; QuperSync keeps .venv and .qupersync in it."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "QuperSync needs Python 3.11 or later; name it with PYTHON=python3.x."; exit 1; }
	@printf "Creating .venv "; $(DOTS) $(PYTHON) -m venv .venv && $(PIP) --quiet $(PACKAGES)/uv.txt
	@touch $@

.venv/demo: .venv/uv pyproject.toml deploy/requirements/demo.txt
	@echo "Installing the packages of the demo: 130 MB to download unless they are cached, 520 MB in .venv"
	@$(UV) $(PACKAGES)/demo.txt || $(PIP) $(PACKAGES)/demo.txt
	@printf "Installing QuperSync "; $(DOTS) $(UV) --quiet $(ITSELF) || $(PIP) $(ITSELF)
	@$(INSTALLED)
	@touch $@

.venv/installed: .venv/demo deploy/requirements/dev.txt
	@echo "Installing the packages of development: 400 MB more in .venv"
	@$(UV) $(PACKAGES)/dev.txt || $(PIP) $(PACKAGES)/dev.txt
	@$(INSTALLED)
	@touch $@

# Readable by its user only.
.env:
	@install -m 600 .env.example $@
	@echo "Fill in $@: REDSHIFT_* and POSTGRES_*."

# The file of deploy/compose.yaml, with passwords for its own services.
deploy/.env:
	@umask 077; new() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }; redis=$$(new); { \
		sed '/^POSTGRES_/d' .env.example; \
		for name in POSTGRES_PASSWORD POSTGRES_OWNER_PASSWORD POSTGRES_ADMIN_PASSWORD; do echo "$$name=$$(new)"; done; \
		echo "REDIS_PASSWORD=$$redis"; \
		echo "CELERY_BROKER_URL=redis://:$$redis@redis:6379/0"; } > $@
	@echo "Fill in $@: REDSHIFT_*."

demo: .venv/demo
	@echo "Starting the demo"
	@$(BIN)/python -m qupersync_assets.sandbox.demo $(if $(ONCE),--once) $(if $(MODE),--mode='$(MODE)')

up: .venv/demo
	@test -e .env || { echo "Run 'make .env' and fill in the file first."; exit 1; }
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

.venv/browser: .venv/installed deploy/requirements/e2e.txt
	@$(UV) $(PACKAGES)/e2e.txt || $(PIP) $(PACKAGES)/e2e.txt
	@touch $@

# Resolve the versions of deploy/constraints.txt for Python 3.11 and later, on all platforms.
OWN := pyproject.toml --group build
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	--constraint deploy/constraints.txt

lock: .venv/uv
	@$(COMPILE) --group installer --output-file deploy/requirements/uv.txt
	@$(COMPILE) $(OWN) --extra report --extra sandbox --output-file deploy/requirements/demo.txt
	@$(COMPILE) $(OWN) --extra alerts --extra celery --extra k8s --output-file deploy/requirements/image.txt
	@$(COMPILE) $(OWN) --extra dev --output-file deploy/requirements/dev.txt
	@$(COMPILE) $(OWN) --extra e2e --output-file deploy/requirements/e2e.txt
	@$(COMPILE) --group docs --output-file deploy/requirements/docs.txt
	@$(COMPILE) deploy/requirements/audit.in --output-file deploy/requirements/audit.txt

.venv/audit: deploy/requirements/audit.txt .venv/installed
	@$(PYTHON) -m venv .venv/audit
	@.venv/audit/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement $<
	@touch $@

.venv/docs: deploy/requirements/docs.txt .venv/uv
	@$(PYTHON) -m venv .venv/docs
	@$(BIN)/uv pip install --quiet --python .venv/docs/bin/python $(PACKAGES)/docs.txt || \
		.venv/docs/bin/pip install --quiet --disable-pip-version-check $(PACKAGES)/docs.txt
	@touch $@

# The documentation as web pages, build/site; a broken link is an error.
site: .venv/docs
	@$(BIN)/python tools/site_pages.py
	@NO_MKDOCS_2_WARNING=1 .venv/docs/bin/mkdocs build --strict

# Wheel and source distribution, in build/dist.
dist: .venv/demo
	@$(BIN)/uv build --quiet --no-build-isolation --python $(BIN)/python --out-dir build/dist

# What is in the image, as CycloneDX: build/sbom.json.
sbom: .venv/audit
	@mkdir -p build
	@.venv/audit/bin/cyclonedx-py requirements deploy/requirements/image.txt --pyproject pyproject.toml \
		--output-reproducible --of JSON --output-file build/sbom.json
	@echo "build/sbom.json: $$(grep -c '"purl"' build/sbom.json) packages"

# Known vulnerabilities of these packages.
audit: .venv/audit
	@$(BIN)/python tools/audit.py

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
