# Everything is installed into .venv, once; a second call installs nothing again.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
DATA := $(abspath ../shared)
# Real texts and models, where they are; tests that need them are skipped elsewhere, and say so.
export LMRI_TEST_DATA ?= $(if $(wildcard $(DATA)/models),$(DATA),)
export TOKENIZERS_PARALLELISM := false

.PHONY: demo test test-all lint wheel clean

demo: .venv/installed
	$(BIN)/lmri demo --out lmri-demo

# Two processes of one thread each: more threads would wait for one another.
test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-all: .venv/installed
	$(BIN)/python -m pytest

lint: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# The wheel as a user gets it: in an environment of its own, run from an empty folder.
wheel: .venv/installed
	rm -rf build/wheel dist
	$(BIN)/python -m build --wheel --outdir dist
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/python -m pip install --quiet --constraint constraints.txt dist/*.whl
	mkdir -p build/wheel/empty
	cd build/wheel/empty && ../bin/lmri demo && test -s lmri-demo/report.html

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lmri needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv build dist lmri-demo
