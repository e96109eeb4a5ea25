# `make search` finds a cell, `make test` tests it all but what takes minutes and hardly ever breaks (`make test-long`), `make data`
# brings the benchmarks' real data into data/. pip installs into .venv; constraints.txt pins every version.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --no-input install --quiet -c constraints.txt
# torch first, in its own step: the rest then installs in seconds, and what goes wrong is named by its step.
# No build isolation: the build backend is pinned like everything else.
BUILD  := hatchling editables

# Its interpreter tests the GPU kernels where there is no GPU; torch's CUDA builds bring the version that is theirs.
TRITON := $(BIN)/python -c 'import platform, sys, torch; sys.exit(torch.version.cuda is None and platform.system() + platform.machine() == "Linuxx86_64")' \
          || $(PIP) triton==3.6.0

.PHONY: search data test test-long test-all chaos lint clean
.DELETE_ON_ERROR:

search: $(VENV)/.for-search
	$(BIN)/mrnn-search run trials/quickstart.yaml

data: $(VENV)/.for-search
	@PYTHON=$(BIN)/python tests/data.sh

test: $(VENV)/.for-test data
	$(BIN)/python -m pytest -n auto --dist loadfile --durations=10 -m "not long"

test-long: $(VENV)/.for-test data
	$(BIN)/python -m pytest -n auto --durations=10 -m long

test-all:
	.ci/run

chaos: $(VENV)/.for-test
	MRNN_SEARCH_CHAOS=1 $(BIN)/python -m pytest tests/chaos -rP

lint: $(VENV)/.for-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One virtual environment, three levels; a stamp file is older than what it was made from when it is stale.
$(VENV)/.for-search: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; try: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	@echo "installing into $(VENV) (torch is large; the first time takes a few minutes)" >&2
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(PIP) torch==2.13.0 $(BUILD)
	@$(PIP) --no-build-isolation -e '.[ray]'
	@touch $@

$(VENV)/.for-test: $(VENV)/.for-search
	@$(PIP) --no-build-isolation -e '.[ray,postgresql,dashboard,speech,test]'
	@tests/system-packages.sh
	@$(TRITON)
	@touch $@

$(VENV)/.for-lint: $(VENV)/.for-test
	@$(PIP) --no-build-isolation -e '.[ray,postgresql,dashboard,speech,test,dev]'
	@touch $@
