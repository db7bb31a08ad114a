# Every target works alone; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
SOAK := tests/agentfs/reliability tests/agentfs/test_transfer.py tests/adapters/test_saver_crash.py tests/core/test_ledger_model.py tests/core/test_ledger_processes.py

.PHONY: help demo test soak lint types imports bench clean

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "FMOS needs Python 3.11 or newer; run `make PYTHON=/path/to/python3.11 ...`")'
	@echo "installing FMOS into $(VENV) (once, a minute or two)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' 2>&1 | grep -v '^WARNING: Location' || true
	@$(BIN)/python -c 'import agentfs, fmos, mcp, langgraph' && touch $@

demo: $(STAMP)  ## run one governed agent through every layer (no model, no network)
	@$(BIN)/fmos demo $(ARGS)

test: $(STAMP)  ## everything that CI runs: lint, imports, types, tests
	@$(MAKE) --no-print-directory lint imports types
	$(BIN)/python -m pytest -n 2 $(ARGS)

soak: $(STAMP)  ## the long runs: kills, power cuts, damage, the model (a quarter of an hour)
	AGENTFS_SOAK=1 $(BIN)/python -m pytest $(SOAK) $(ARGS)

lint: $(STAMP)  ## ruff: format and rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python benchmarks/tables.py --check

types: $(STAMP)  ## pyright
	$(BIN)/pyright --pythonpath $(BIN)/python

imports: $(STAMP)  ## imports go one way (import-linter)
	$(BIN)/lint-imports --no-cache

bench: $(STAMP)  ## one published claim, or all: make bench NAME=...
ifeq ($(NAME),)
	@echo "NAME=all, or one of:"; $(BIN)/python benchmarks/tables.py --list
else
	@set -e; for each in $(if $(filter all,$(NAME)),$$($(BIN)/python benchmarks/tables.py --list),$(NAME)); do \
		$(BIN)/python benchmarks/$$each.py $(ARGS); done
	@$(BIN)/python benchmarks/tables.py --write
endif

clean:  ## remove .venv and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache dist build
