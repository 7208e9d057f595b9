# Every target creates what it needs and does nothing twice. `make` alone lists them.
#   PYTHON=python3.12 make test    another interpreter
#   make test ARGS=--slow          also the slow tests
#   make test ARGS='-k threat'     any other option of pytest

PYTHON  ?= python3
VENV    ?= .venv
WORKERS ?= 2
ARGS    ?=
RUN     ?= runs/bench

BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip --disable-pip-version-check --no-input
PINS := constraints.txt

# One thread a worker: two workers on two cores are faster than two workers with two threads each. The default job has
# networks so small that a second thread only waits: one is faster, and many times faster while the machine is busy.
THREADS := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.SUFFIXES:
.PHONY: help bench test lint format docs benchmarks-setup constraints clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

bench: $(VENV)/.installed ## measure the embedded digits, write a page, print its path
	@echo "==> atodds bench: two small networks on the embedded digits, results in $(RUN)"
	$(THREADS) $(BIN)/atodds bench --out $(RUN)

test: lint ## lint, then the whole suite (ARGS=--slow for the slow tests too)
	@echo "==> pytest with $(WORKERS) workers"
	$(THREADS) $(BIN)/python -m pytest -n $(WORKERS) -rs --durations=8 $(ARGS)

lint: $(VENV)/.installed-dev ## ruff, ruff format, mypy strict, import-linter
	@echo "==> ruff check"
	$(BIN)/ruff check .
	@echo "==> ruff format --check"
	$(BIN)/ruff format --check .
	@echo "==> mypy (strict)"
	$(BIN)/mypy
	@echo "==> lint-imports (the floors)"
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev ## rewrite the code the way ruff wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-docs ## build the documentation into site/
	@echo "==> mkdocs build --strict"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "==> Open $(CURDIR)/site/index.html"

benchmarks-setup: $(VENV)/.installed-benchmarks ## install foolbox and torchattacks, to measure against

constraints: ## write constraints.txt anew from a fresh environment with the newest allowed versions
	@.ci/renew-constraints $(PYTHON)

clean: ## remove the environment, caches and built pages (never runs/)
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "atodds needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.11 ..." >&2; exit 1; }
	@echo "==> creating $(VENV) with $$($(PYTHON) --version)"
	$(PYTHON) -m venv $(VENV)

# torch goes first and alone: its pin decides between a CPU and a CUDA build before anything else asks for it.
$(VENV)/.installed: pyproject.toml $(PINS) | $(BIN)/python
	@echo "==> installing torch (the pinned version; the largest download)"
	$(PIP) install -q -c $(PINS) torch
	@echo "==> installing atodds and what it imports"
	$(PIP) install -q -c $(PINS) hatchling editables
	$(PIP) install -q -c $(PINS) --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "==> installing the tools for tests and lint"
	$(PIP) install -q -c $(PINS) --no-build-isolation -e '.[dev]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	@echo "==> installing the tools for the documentation"
	$(PIP) install -q -c $(PINS) --no-build-isolation -e '.[docs]'
	@touch $@

# torchattacks asks for torchvision in its metadata and never imports it; without its dependencies it runs beside any torch.
# ART's metadata asks for more than CLEVER needs: six is all.
$(VENV)/.installed-benchmarks: $(VENV)/.installed-dev
	@echo "==> installing the libraries to compare with"
	$(PIP) install -q -c $(PINS) foolbox tqdm
	$(PIP) install -q -c $(PINS) --no-deps torchattacks adversarial-robustness-toolbox six adv-lib
	@touch $@
