# Each target is one line to the real tool. A fresh machine needs only Python >= 3.10 and make.

PYTHON ?= python3
BIN := .venv/bin

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test test-browser lint typing format chaos crash differential replay bench docs docs-serve integrations clean
.DEFAULT_GOAL := help

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

demo: .venv/.core ## Run the demo
	@$(BIN)/dbos demo

test: .venv/.installed ## Run the tests
	@$(BIN)/pytest -n 2 --dist loadfile --reruns 1 -rR

test-browser: .venv/.installed ## Run the tests of the console in a headless Chromium
	@$(BIN)/pytest tests/browser -rs

lint: .venv/.installed ## Check style, formatting, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

typing: .venv/.installed ## Check the types alone
	$(BIN)/mypy
	$(BIN)/pyright

format: .venv/.installed ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

crash: .venv/.installed ## Kill, stop and fail every commit of every crash-point program
	@CRASH=all $(BIN)/pytest tests/crashpoints

differential: .venv/.installed ## Compare the databases with the oracle [SECONDS=120] [SEED=...]
	@SECONDS=$(or $(SECONDS),120) $(BIN)/pytest tests/differential

replay: .venv/.installed ## Run the tests of the public API with every run replayed after each checkpoint
	@REPLAY=always $(BIN)/pytest -n 2 --dist loadfile tests/api tests/regress

chaos: .venv/.installed ## Kill, stop, cut off and restart everything [SECONDS=120] [SEED=...]
	@SECONDS=$(or $(SECONDS),120) $(BIN)/pytest tests/chaos

bench: .venv/.installed ## Run the benchmarks
	@$(BIN)/python benchmarks/run.py

docs: export NO_MKDOCS_2_WARNING := 1
docs: .venv/.installed ## Build the documentation site into site/
	@$(BIN)/mkdocs build --strict

docs-serve: .venv/.installed ## Show the documentation site while you write
	@$(BIN)/mkdocs serve

integrations: .venv/.installed ## Run agents of published integrations, killed and resumed
	@$(BIN)/python integrations/run.py

clean: ## Remove the environment and all caches
	rm -rf .venv site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "dbos needs Python 3.10 or newer; try: make PYTHON=python3.12")'
	@$(PYTHON) -m venv .venv

.venv/.core: pyproject.toml | $(BIN)/pip
	@echo "Installing dbos into .venv"
	@$(BIN)/pip install -q -e '.[demo]'
	@touch $@

.venv/.installed: pyproject.toml | $(BIN)/pip
	@echo "Installing dbos and the tools for its development into .venv (about 30 seconds)"
	@$(BIN)/pip install -q -e '.[demo,dev,docs]'
	@touch .venv/.core $@
