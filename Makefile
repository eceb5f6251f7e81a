# `make help` lists the targets. ./bootstrap makes the environment that they use.
SHELL := /bin/sh
BIN := .venv/bin
SCRIPTS := bootstrap .ci/run tests/vm/run tests/vm/build-images $(wildcard tests/vm/guest/*)
INSIDE := src/containai/data
PARTS := $(abspath $(BIN)/python) -c 'from containai.workspace.scripts import FINISH_FILES; print(*FINISH_FILES)'

.PHONY: help demo test test-vm check fix bench docs clean check-style check-types check-layers check-docstrings check-sizes check-scripts

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: ## Show a contained session on a sample repository
	@./bootstrap demo

test: ## Run the test suite; PYTEST="-k name" narrows it
	@./bootstrap test $(PYTEST)

test-vm: ## As root: run the suites that need AppArmor or Docker, in virtual machines
	@tests/vm/run

check: check-style check-types check-layers check-docstrings check-sizes check-scripts ## All that can be checked without running it

check-style:
	$(BIN)/ruff check
	$(BIN)/ruff format --check
check-types:
	$(BIN)/mypy
check-layers:
	$(BIN)/lint-imports --no-cache
check-docstrings:
	$(BIN)/interrogate --quiet src
check-sizes:
	$(BIN)/python scripts/check_sizes.py
check-scripts:
	@if command -v shellcheck >/dev/null; then shellcheck $(SCRIPTS) && shellcheck -s sh $(INSIDE)/prepare.sh && \
	(cd $(INSIDE) && cat $$($(PARTS))) | shellcheck -s sh -e SC1007,SC2015 -; \
	else echo 'make check: shellcheck is not installed; the scripts were not checked' >&2; exit 1; fi

fix: ## Format, and mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: ## Measure, side by side with other tools in one run
	@./bootstrap test --collect-only -q >/dev/null
	$(BIN)/python -m bench

docs: ## Regenerate the generated pages of docs/
	$(BIN)/python scripts/generate_docs.py

clean: ## Remove what was built
	rm -rf build .venv src/containai/_native src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
