# Everything goes through a virtual environment that is made on first use; only Python >= 3.11 with venv and make
# are needed. Targets named like folders are phony, so that `make docs` means the documentation, not the folder.

PYTHON    ?= python3
VENV      ?= .venv
BIN       := $(VENV)/bin
SGDSIM    := $(BIN)/sgdsim
# Two workers whose linear algebra waits for the threads of the other take three times as long.
PYTEST    := OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest
SCENARIOS := $(sort $(basename $(notdir $(wildcard scenarios/*.toml))))
PACKAGE   := $(shell find sgdsim -name '*.py' 2>/dev/null)
OPTIONS   ?=

.DEFAULT_GOAL := help
.PHONY: help run test lint validate bench docs clean scenarios results thermodynamics $(SCENARIOS)
.DELETE_ON_ERROR:

help:
	@echo "make run         simulate a million trajectories in the river valley and compare with theory"
	@echo "make test        lint, types and tests"
	@echo "make scenarios   run every scenario; each is a target too: $(SCENARIOS)"
	@echo "make thermodynamics   the ten scenarios of the thermodynamic laws, and a summary: results/thermodynamics.md"
	@echo "make validate    the long statistical suite"
	@echo "make bench       speed, in ratios to NumPy, JAX and PyTorch where they are installed"
	@echo "make lint        ruff and mypy alone"
	@echo "make docs        run every example of the documentation"
	@echo "make clean       remove outputs, caches and the virtual environment"
	@echo
	@echo "OPTIONS='--trajectories 1e5' is passed to sgdsim where a scenario is run; -B runs one again that is up to date."

$(VENV)/.core: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.dev: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(VENV)/.core $@

run: river_valley

# The file is made once; the comparison is printed, and its verdict is the exit code, every time.
$(SCENARIOS): %: results/%.h5
	$(SGDSIM) compare $<

results/%.h5: scenarios/%.toml $(PACKAGE) | $(VENV)/.core
	$(SGDSIM) run $< --output $@ --no-compare --overwrite $(OPTIONS)

# The figure of a scenario: make results/equipartition.svg
results/%.svg: results/%.h5 | $(VENV)/.dev
	$(SGDSIM) plot $< --output $@ --overwrite

scenarios: $(SCENARIOS)

results: scenarios

thermodynamics: | $(VENV)/.core
	$(BIN)/python -m sgdsim.thermodynamics

test: lint
	$(PYTEST) -n auto --dist worksteal

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

validate: $(VENV)/.dev
	$(PYTEST) -m validate -n auto --dist worksteal

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

docs: $(VENV)/.dev
	$(BIN)/python -m pytest tests/test_documentation.py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find results -mindepth 1 ! -name README.md -delete
