# `make` lists the targets. Everything they need is installed into .venv and the cache folder; nothing needs root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CACHE := $(or $(REGISTRY_CACHE_DIR),$(HOME)/.cache/synapse-registry)
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help up test lint unit fuzz faults soak bench growth catalogue relevance containers lock sbom audit clean

help:
	@echo "make up      bring up PostgreSQL, Elasticsearch and the registry on port 8080; Ctrl-C stops them"
	@echo "make test    every check and test: lint, types, import rules, then the tests on real servers"
	@echo "make lint    the checks alone"
	@echo "make unit    the tests that start no server, for a quick loop"
	@echo "make fuzz    generated requests, orders of calls and bytes, longer than in make test (MINUTES=10 of the latter two each)"
	@echo "make faults  processes killed at every step, clocks stepped, servers away, disks full; wants root"
	@echo "make soak MINUTES=60   users at work for long while processes are killed and servers go away; S3=1 on an S3 server"
	@echo "make bench   how fast: each figure beside a baseline of the same run, on packages of Debian's index, or TSV=FILE"
	@echo "make growth  how the figures grow from 1,000 to 1,000,000 packages, or SIZES='1000 50000'; loading takes long"
	@echo "make catalogue TSV=FILE   load a catalogue of packages into what make up runs, for measuring"
	@echo "make relevance   does the right package come first? on packages of Debian's index, or TSV=FILE, or API=URL"
	@echo "make containers   follow the runbook on a real Docker engine: upgrades under load, backup, restore; about 10 minutes"
	@echo "make lock    renew what the image is made of: the newest versions within setup.py's bounds, each file by its hash"
	@echo "make sbom    list what the image is made of as CycloneDX, in build/sbom.json"
	@echo "make audit   known vulnerabilities of what the image is made of; needs the network"
	@echo "make clean   remove the virtual environment and what the tools left (no data)"

up: $(VENV)/.devstack
	@exec $(BIN)/synapse-registry up

test: lint
	@echo "== servers for the tests (downloaded once into $(CACHE))"
	@$(BIN)/python -m registry.devstack fetch --cache "$(CACHE)" --tests
	@echo "== tests"
	@REGISTRY_CACHE_DIR="$(CACHE)" $(BIN)/python -m pytest -n 2 --dist loadfile --durations 20

lint: $(VENV)/.test
	@echo "== ruff"; $(BIN)/ruff check . && $(BIN)/ruff format --check .
	@echo "== mypy"; $(BIN)/mypy
	@echo "== import rules"; $(BIN)/lint-imports

unit: $(VENV)/.test
	@$(BIN)/python -m pytest --unit

fuzz: $(VENV)/.test
	@REGISTRY_CACHE_DIR="$(CACHE)" REGISTRY_FUZZ_EXAMPLES=300 REGISTRY_FUZZ_MINUTES=$(or $(MINUTES),10) $(BIN)/python -m pytest tests/fuzz

faults: $(VENV)/.test
	@REGISTRY_CACHE_DIR="$(CACHE)" REGISTRY_FAULTS=all $(BIN)/python -m pytest -n 2 --dist loadfile tests/faults

soak: $(VENV)/.test
	@REGISTRY_CACHE_DIR="$(CACHE)" $(BIN)/python -m tests.faults.soak --minutes $(or $(MINUTES),60) $(if $(SEED),--seed $(SEED)) $(if $(S3),--s3)

catalogue: $(VENV)/.test
	@$(BIN)/python -m tests.bench.catalogue load --tsv "$(TSV)"

bench: $(VENV)/.test
	@REGISTRY_CACHE_DIR="$(CACHE)" $(BIN)/python -m tests.bench $(if $(TSV),--tsv "$(TSV)") $(ONLY)

growth: $(VENV)/.test
	@REGISTRY_CACHE_DIR="$(CACHE)" $(BIN)/python -m tests.bench.growth $(if $(TSV),--tsv "$(TSV)") $(SIZES)

relevance: $(VENV)/.test
	@REGISTRY_CACHE_DIR="$(CACHE)" $(BIN)/python -m tests.bench.relevance $(if $(TSV),--tsv "$(TSV)") $(if $(API),--api "$(API)")

containers: $(VENV)/.test
	@REGISTRY_CACHE_DIR="$(CACHE)" $(BIN)/python -m tests.deploy.containers

# The image's Python and system. The build's own requirement is setuptools.
COMPILE := $(BIN)/uv pip compile --quiet --upgrade --generate-hashes --python-version 3.11 --python-platform linux \
    --custom-compile-command "make lock"

lock: $(VENV)/.supply
	@$(COMPILE) setup.py --output-file deploy/requirements.lock
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	    | $(COMPILE) - --output-file deploy/build.lock

# Of a virtual environment that is made as the image's.
sbom: $(VENV)/.supply
	@rm -rf build/image && $(BIN)/python -m venv --without-pip build/image
	@$(BIN)/pip --python build/image/bin/python install --quiet --require-hashes --only-binary :all: -r deploy/requirements.lock
	@$(BIN)/pip --python build/image/bin/python install --quiet --no-deps .
	@$(BIN)/cyclonedx-py environment --output-file build/sbom.json build/image/bin/python

# Strict: what can't be looked up is a failure.
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
