# `make` lists the targets. They install what they need into .venv and the cache folder.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CACHE := $(or $(REGISTRY_CACHE_DIR),$(HOME)/.cache/synapse-registry)
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help up test lint unit fuzz faults soak bench growth catalogue relevance screenshots containers lock sbom audit clean

help:
	@echo "make up          start PostgreSQL, Elasticsearch and the registry on port 8080; Ctrl-C stops them;"
	@echo "                 SEMANTIC=1 installs a sentence model and searches by meaning, too"
	@echo "make test        run every check and every test, on real servers"
	@echo "make lint        run the checks only: ruff, mypy, import rules"
	@echo "make unit        run the tests that start no server; under a minute"
	@echo "make fuzz        run the fuzz tests for longer; MINUTES=10 for each of the two longest"
	@echo "make faults      kill processes at every step, step clocks, stop servers, fill disks; needs root"
	@echo "make soak        use a registry for MINUTES=60 while processes are killed and servers stop; S3=1 for S3"
	@echo "make bench       measure speed as ratios to a baseline; TSV=FILE for other packages than Debian's, ONLY='package search', PEERS=verdaccio,devpi"
	@echo "make growth      measure how times grow from 1,000 to 1,000,000 packages; SIZES='1000 50000'; takes hours"
	@echo "make catalogue   load the packages of TSV=FILE into the running 'make up'"
	@echo "make relevance   measure whether the right package comes first; TSV=FILE for a catalogue, API=URL for a registry;"
	@echo "                 RECORD=FILE saves the answers and costs, FORMER=FILE compares with saved ones;"
	@echo "                 MODEL=DIR compares searches with and without a sentence model"
	@echo "make screenshots take pictures of all pages into build/screenshots; PAGES='home search' for some"
	@echo "make containers  follow the runbook on a real Docker engine: upgrade under load, backup, restore; about 10 minutes"
	@echo "make lock        update the image's lock files to the newest versions that setup.py allows"
	@echo "make sbom        write the image's packages as CycloneDX to build/sbom.json"
	@echo "make audit       look for known vulnerabilities of the image's packages; needs the network"
	@echo "make clean       remove the virtual environment and what the tools left; keeps data"

# The model stays in the cache folder. A search without it needs no option.
up: $(VENV)/.devstack $(if $(SEMANTIC),$(VENV)/.semantic)
	@$(if $(SEMANTIC),$(BIN)/synapse-registry search-model install "$(CACHE)/search-model" > /dev/null)
	@exec env $(if $(SEMANTIC),REGISTRY_SEARCH_MODEL="$${REGISTRY_SEARCH_MODEL:-$(CACHE)/search-model}") \
	    $(BIN)/synapse-registry up

test: lint
	@echo "== servers for the tests (downloaded once into $(CACHE))"
	@$(BIN)/python -m registry.devstack fetch --cache "$(CACHE)" --tests
	@$(BIN)/python -m tests.api_clients.node --cache "$(CACHE)"
	@$(BIN)/python -m tests.pages.browser.chromium
	@echo "== tests"
	@REGISTRY_CACHE_DIR="$(CACHE)" $(BIN)/python -m pytest -n 3 --dist worksteal --durations 20

lint: $(VENV)/.test
	@echo "== ruff"; $(BIN)/ruff check . && $(BIN)/ruff format --check .
	@echo "== mypy"; $(BIN)/mypy
	@echo "== import rules"; $(BIN)/lint-imports

unit: $(VENV)/.test
	@$(BIN)/python -m pytest --unit

fuzz: $(VENV)/.test
	@REGISTRY_CACHE_DIR="$(CACHE)" REGISTRY_FUZZ_EXAMPLES=300 REGISTRY_FUZZ_MINUTES=$(or $(MINUTES),10) $(BIN)/python -m pytest tests/fuzz

faults: $(VENV)/.test
	@REGISTRY_CACHE_DIR="$(CACHE)" REGISTRY_FAULTS=all $(BIN)/python -m pytest -n 2 --dist worksteal tests/faults

soak: $(VENV)/.test
	@REGISTRY_CACHE_DIR="$(CACHE)" $(BIN)/python -m tests.faults.soak --minutes $(or $(MINUTES),60) $(if $(SEED),--seed $(SEED)) $(if $(S3),--s3)

catalogue: $(VENV)/.test
	@$(BIN)/python -m tests.bench.catalogue load --tsv "$(TSV)"

bench: $(VENV)/.test
	@REGISTRY_CACHE_DIR="$(CACHE)" $(BIN)/python -m tests.bench $(if $(TSV),--tsv "$(TSV)") $(if $(PEERS),--peers "$(PEERS)") $(ONLY)

growth: $(VENV)/.test
	@REGISTRY_CACHE_DIR="$(CACHE)" $(BIN)/python -m tests.bench.growth $(if $(TSV),--tsv "$(TSV)") $(SIZES)

relevance: $(VENV)/.test
	@REGISTRY_CACHE_DIR="$(CACHE)" $(BIN)/python -m tests.bench.relevance $(if $(TSV),--tsv "$(TSV)") $(if $(API),--api "$(API)") \
	    $(if $(MODEL),--model "$(MODEL)") $(if $(FORMER),--former "$(FORMER)") $(if $(RECORD),--record "$(RECORD)")

screenshots: $(VENV)/.test
	@$(BIN)/python -m tests.pages.browser.chromium
	@REGISTRY_CACHE_DIR="$(CACHE)" $(BIN)/python -m tests.pages.screenshots $(PAGES)

containers: $(VENV)/.test
	@REGISTRY_CACHE_DIR="$(CACHE)" $(BIN)/python -m tests.deploy.containers

# Resolves for the Python and the system of the image.
COMPILE := $(BIN)/uv pip compile --quiet --upgrade --generate-hashes --python-version 3.11 --python-platform linux \
    --custom-compile-command "make lock"

lock: $(VENV)/.supply
	@$(COMPILE) setup.py --extra server --output-file deploy/requirements.lock
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	    | $(COMPILE) - --output-file deploy/build.lock

# Lists a virtual environment that is built the same way as the image's.
sbom: $(VENV)/.supply
	@rm -rf build/image && $(BIN)/python -m venv --without-pip build/image
	@$(BIN)/pip --python build/image/bin/python install --quiet --require-hashes --only-binary :all: -r deploy/requirements.lock
	@$(BIN)/pip --python build/image/bin/python install --quiet --no-deps .
	@$(BIN)/cyclonedx-py environment --output-file build/sbom.json build/image/bin/python

# --strict: a package that can't be looked up is a failure.
audit: $(VENV)/.supply
	@$(BIN)/pip-audit --strict --require-hashes --disable-pip --progress-spinner off -r deploy/requirements.lock

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	    || { echo "Python 3.11 or newer is needed. Install it, or name it: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	    || { rm -rf $(VENV); echo "Python's venv module is missing. Install it (Debian: python3-venv)." >&2; exit 1; }

$(VENV)/.devstack: $(BIN)/python setup.py
	@echo "== installing into $(VENV)"
	@$(BIN)/python -m pip install --disable-pip-version-check -e '.[devstack]' \
	    || { echo "Installing failed; is the network there? The lines above say what was wanted." >&2; exit 1; }
	@touch $@

$(VENV)/.semantic: $(BIN)/python setup.py
	@echo "== installing the sentence model"
	@$(BIN)/python -m pip install --disable-pip-version-check -e '.[devstack,semantic]' \
	    || { echo "Installing failed; is the network there? The lines above say what was wanted." >&2; exit 1; }
	@touch $@

$(VENV)/.test: $(BIN)/python setup.py
	@echo "== installing into $(VENV)"
	@$(BIN)/python -m pip install --disable-pip-version-check -e '.[test]' \
	    || { echo "Installing failed; is the network there? The lines above say what was wanted." >&2; exit 1; }
	@touch $@ $(VENV)/.devstack

$(VENV)/.supply: $(BIN)/python setup.py
	@echo "== installing into $(VENV)"
	@$(BIN)/python -m pip install --disable-pip-version-check -e '.[supply]' \
	    || { echo "Installing failed; is the network there? The lines above say what was wanted." >&2; exit 1; }
	@touch $@
