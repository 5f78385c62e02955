# Two commands: `make demo` and `make test`. Both make their own environment in .venv and reuse it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS ?= constraints.txt
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS)

.PHONY: demo test test-all lint coverage docs bench campaign install install-dev clean
.DELETE_ON_ERROR:

demo: install
	$(BIN)/elboscope demo

# Everything that proves a number, in six minutes on two cores.
test: install-dev lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" --durations=10

# The rest too: full data sets, calibration from scratch, long kills, every shape checked.
test-all: install-dev lint
	OMP_NUM_THREADS=1 ELBOSCOPE_SHAPES=elboscope $(BIN)/python -m pytest -n 2 --dist loadfile --durations=30

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Lines and branches that the tests reach: a table here, and pages in htmlcov/.
coverage: install-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=term --cov-report=html

docs: install-dev
	$(PIP) -e '.[docs]'
	$(BIN)/sphinx-build -W -q docs docs/_build

bench: install-dev
	$(PIP) -e '.[bench]'
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks

# Kills, hostile folders, generated mistakes: an hour, and counts at its end.
campaign: install-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m campaign

install: $(VENV)/installed
install-dev: $(VENV)/installed-dev

# torch comes first and pinned: what follows then leaves it alone.
$(VENV)/installed: pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "elboscope needs Python 3.11 or newer; make PYTHON=/path/to/python3.12 names another." >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) -e '.[test,lint]'
	touch $@

clean:
	rm -rf $(VENV) elboscope-demo docs/_build htmlcov .coverage
