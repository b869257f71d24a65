# Everything is installed into .venv, once; a second call installs nothing again.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
DATA := $(abspath ../shared)
# Real texts and models, where they are; tests that need them are skipped elsewhere, and say so.
export LMRI_TEST_DATA ?= $(if $(wildcard $(DATA)/models),$(DATA),)
export TOKENIZERS_PARALLELISM := false

# How often `make fuzz` repeats the property tests.
RUNS ?= 20

.PHONY: demo test test-numeric test-slow test-all fuzz campaign browser clients lint docs wheel clean

demo: .venv/installed
	$(BIN)/lmri demo --out lmri-demo

# Compiled files are kept: without them, each of the many processes of the tests compiles the package and the tests again.
export PYTHONDONTWRITEBYTECODE :=

# Two processes of one thread each: more threads would wait for one another.
test: .venv/installed
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --durations=25

# Tests that compare what a model computes in two ways, for ATEN_CPU_CAPABILITY=default make test-numeric.
test-numeric: .venv/installed
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -m "numeric and not slow" --durations=10 \
	  $$(grep -lE '^(import torch|from tiny_models)' tests/test_*.py)

# Slow tests only. Those on trained models and real texts need LMRI_TEST_DATA.
test-slow: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n 2 --durations=25

test-all: .venv/installed
	$(BIN)/python -m pytest

# Property tests, repeated: Hypothesis draws new inputs in every run.
fuzz: .venv/installed
	for run in $$(seq $(RUNS)); do \
	  OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m hypothesis --hypothesis-profile=long $$(grep -lE '^(from|import) hypothesis' tests/*.py) || exit 1; \
	done

# Simulations behind the tables of docs/phantoms.md, docs/phantoms-methods.md and docs/nulls.md. The pages are rewritten.
campaign: .venv/installed
	$(BIN)/python benchmarks/campaign.py

# What tests of pages drive, and programs that read our files; where they are not, tests are skipped and say so.
browser:
	command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; }

clients: .venv/installed
	apt-get update -qq && apt-get install -y -qq --no-install-recommends nifti-bin mrtrix3 connectome-workbench
	$(BIN)/python -m pip install --quiet fslpy pybids SimpleITK

lint: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/prose.py
	$(BIN)/python tools/tolerances.py

# The site; every warning is an error, and so is a link that leads nowhere.
docs: .venv/installed-docs
	$(BIN)/sphinx-build -W --keep-going -n -q -b html docs docs/_build/html
	$(BIN)/python docs/check.py docs/_build/html
	@echo "Open docs/_build/html/index.html"

# The wheel as a user gets it: in an environment of its own, run from an empty folder.
wheel: .venv/installed
	rm -rf build/wheel dist
	$(BIN)/python -m build --wheel --outdir dist
	$(BIN)/python tools/check_wheel.py dist/*.whl
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/python -m pip install --quiet --constraint constraints.txt dist/*.whl
	mkdir -p build/wheel/empty
	cd build/wheel/empty && ../bin/lmri demo && test -s lmri-demo/report.html

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lmri needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

# Only who builds the site needs what builds it.
.venv/installed-docs: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

clean:
	rm -rf .venv build dist lmri-demo docs/_build docs/gallery docs/api/generated
