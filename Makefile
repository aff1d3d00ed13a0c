# Everything goes through a virtual environment that is made on first use; only Python >= 3.11 with venv and make
# are needed. Targets named like folders are phony, so that `make docs` means the documentation, not the folder.

PYTHON    ?= python3
PY        ?= python3
VENV      ?= .venv
BIN       := $(VENV)/bin
SGDSIM    := $(BIN)/sgdsim
# Two workers whose linear algebra waits for the threads of the other take three times as long.
PYTEST    := OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest
SCENARIOS := $(sort $(basename $(notdir $(wildcard scenarios/*.toml))))
FAMILIES  := thermodynamics entropic networks all
KERNEL_TESTS := tests/kernels/test_cuda.py tests/kernels/test_philox.py tests/kernels/test_independence.py \
	tests/simulation/test_run_loop.py tests/test_digests.py
PACKAGE   := $(shell find sgdsim -name '*.py' 2>/dev/null)
OPTIONS   ?=

# Tests and documentation start some hundred processes; without byte code each compiles 230 modules for half a second.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run test test-cudasim test-lowest test-ptx test-gpu lint validate bench bench-gpu docs test-docs clean scenarios results
.PHONY: report $(FAMILIES) $(SCENARIOS)
.DELETE_ON_ERROR:

help:
	@echo "make run         simulate a million trajectories in the river valley and compare with theory"
	@echo "make test        lint, types and tests"
	@echo "make scenarios   run every scenario; each is a target too: $(SCENARIOS)"
	@echo "make thermodynamics   the scenarios of the thermodynamic laws, and a summary: results/thermodynamics.md"
	@echo "make entropic    the scenarios of entropic forces and symmetries, and a summary: results/entropic.md"
	@echo "make networks    the scenarios of networks and their rules, and a summary: results/networks.md"
	@echo "make all         every scenario, a summary, results/all.md, and a page for the browser, results/index.html"
	@echo "make report      one page for the browser about all files in results/: results/index.html"
	@echo "make validate    the long statistical suite, and what test-ptx checks"
	@echo "make test-lowest the tests with the lowest versions of all packages that setup.cfg allows"
	@echo "make test-ptx    the CUDA kernels assembled for two generations of GPUs: registers, spills, widths"
	@echo "make test-gpu    the tests of kernels on a GPU, by any Python that has the packages: PY=python3"
	@echo "make bench       speed, in ratios to NumPy, JAX and PyTorch where they are installed"
	@echo "make bench-gpu   the same on a GPU, by any Python that has the packages: PY=python3"
	@echo "make lint        ruff and mypy alone"
	@echo "make docs        the documentation as a site: build/docs/index.html"
	@echo "make test-docs   run every example of the documentation"
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

$(VENV)/.docs: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,docs]'
	touch $@

$(VENV)/.ptx: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,ptx]'
	touch $@

# The lowest versions that setup.cfg allows, in an environment of their own.
$(VENV)-lowest/.dev: setup.cfg pyproject.toml
	test -x $(VENV)-lowest/bin/python || $(PYTHON) -m venv $(VENV)-lowest
	sed -n '/^install_requires/,/^$$/s/^    \(.*\)>=\([^,]*\).*/\1==\2/p' setup.cfg > $(VENV)-lowest/lowest.txt
	$(VENV)-lowest/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' -c $(VENV)-lowest/lowest.txt
	touch $@

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

# One page for the browser about every file in results/.
report: | $(VENV)/.dev
	$(SGDSIM) report $(wildcard results/*.h5) --output results/index.html --overwrite

# Each writes results/NAME.md and results/NAME.json; which scenarios it has stands in sgdsim/app/families.py.
$(filter-out all,$(FAMILIES)): | $(VENV)/.core
	$(BIN)/python -m sgdsim.app.families $@

# The page about everything is made whatever the verdict, which remains the exit code.
all: | $(VENV)/.core
	$(BIN)/python -m sgdsim.app.families $@; verdict=$$?; $(MAKE) report && exit $$verdict

# The types are checked on one core, beside the simulator.
test: $(VENV)/.dev
	$(MAKE) --jobs=2 lint test-cudasim
	$(PYTEST) -n auto --dist worksteal

# The simulator of CUDA runs the kernels without a GPU; it is chosen when numba is imported, so it needs its own process.
test-cudasim: $(VENV)/.dev
	NUMBA_ENABLE_CUDASIM=1 $(PYTEST) -n auto --dist worksteal $(KERNEL_TESTS)

test-lowest: $(VENV)-lowest/.dev
	OPENBLAS_NUM_THREADS=1 $(VENV)-lowest/bin/python -m pytest -n auto --dist worksteal

test-ptx: $(VENV)/.ptx
	$(PYTEST) -m validate -n auto tests/kernels/test_ptx.py

# With any Python that has a GPU, numba-cuda, pytest and what sgdsim needs: nothing is installed.
test-gpu:
	PYTHONPATH=. $(PY) -c "from sgdsim.kernels.gpu import describe; print(*describe(), sep='\n')"
	PYTHONPATH=. $(PY) -m pytest -q -k "cuda" -p no:cacheprovider $(KERNEL_TESTS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

validate: $(VENV)/.ptx
	NUMBA_ENABLE_CUDASIM=1 $(PYTEST) -m validate -n auto --dist worksteal $(KERNEL_TESTS)
	$(PYTEST) -m validate -n auto --dist worksteal

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

# With any Python that has NumPy, numba and numba-cuda, and JAX, PyTorch or diffrax to compare with: nothing is installed.
bench-gpu:
	PYTHONPATH=. $(PY) -m benchmarks --device cuda

# The examples of the gallery are run, and every warning is an error; nothing is fetched from a network.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs build/docs
	@echo "build/docs/index.html"

test-docs: $(VENV)/.dev
	$(PYTEST) -m "validate or not validate" tests/test_documentation.py tests/test_gallery.py

clean:
	rm -rf $(VENV) $(VENV)-lowest build dist docs/gallery docs/reference/generated *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find results -mindepth 1 ! -name README.md -delete
