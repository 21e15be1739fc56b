# make demo: set up, then find tickets on synthesised speech.   make test: set up, then lint, types and tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# pip would compile every file of every package; Python compiles what is imported when it is imported.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile

# Some machines tell Python to keep no compiled files; then each of the many processes here would compile torch again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test lint setup clean

demo: $(VENV)/.installed
	$(BIN)/python recipes/w2v2_imp.py

# One thread a process: the tests run on all cores side by side, and launch processes of their own.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

setup: $(VENV)/.installed-dev

# Made again when the requirements change.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("audio_lottery needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable '.[mini]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --editable '.[mini,decode,whisper,dev]'
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build *.egg-info
