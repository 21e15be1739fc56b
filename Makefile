# Everything sets itself up: `make demo` on a bare machine is enough. `make` alone lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Errors only: pip warns of how this machine is set up, which says nothing about the package. And pip would compile every file
# of every package; Python compiles what is imported when it is imported.
INSTALL := $(BIN)/python -m pip install --quiet --quiet --no-compile
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Some machines tell Python to keep no compiled files; then each of the many processes here would compile torch again.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast lint docs setup clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.installed ## find tickets on synthesised speech: table, plot and models in runs/demo
	$(BIN)/python recipes/w2v2_imp.py

# One thread a process: the tests run on all cores side by side, and launch processes of their own. Types are checked
# meanwhile, which takes most of a minute where nothing is cached; if they are not right, that is said last.
test: $(VENV)/.installed-dev ## lint, type check and all tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	@$(BIN)/mypy >$(VENV)/mypy.log 2>&1 & types=$$!; \
	  $(PYTEST); tests=$$?; \
	  wait $$types || { cat $(VENV)/mypy.log; exit 1; }; \
	  exit $$tests

test-fast: $(VENV)/.installed-dev ## the tests that neither launch processes nor train, in a minute
	$(PYTEST) -m "not slow"

lint: $(VENV)/.installed-dev ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The variable silences a notice of the theme on the future of MkDocs. Not --quiet: it would hide what --strict counts.
docs: $(VENV)/.installed-docs ## the pages of docs/ and an API reference as a site: site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

setup: $(VENV)/.installed-dev ## only install, for development

clean: ## remove the environment, caches and what was built
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist site *.egg-info

# Made again when the requirements change.
$(VENV)/.made: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("audio_lottery needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.made
	$(INSTALL) --editable '.[mini]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.made
	$(INSTALL) --editable '.[mini,decode,whisper,dev]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(INSTALL) --editable '.[docs]'
	@touch $@
