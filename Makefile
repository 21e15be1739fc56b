# make demo: set up, then find tickets on synthesised speech.   make test: set up, then lint, types and tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint setup clean

demo: $(STAMP)
	$(BIN)/python recipes/w2v2_imp.py

test: lint
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

setup: $(STAMP)

# One install with everything the demo and the tests need; made again when the requirements change.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("audio_lottery needs Python 3.11 or newer; this is " + sys.version.split()[0] + ": try make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[mini,dev]'
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build *.egg-info
