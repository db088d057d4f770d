# make demo | test | lint | derived | bench | gpu | notebooks | clean: each works alone on a fresh clone.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test lint derived bench gpu notebooks torch-sparse clean

demo: $(READY)
	$(BIN)/lpprop demo --out out

test: lint
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Stubs, the list of the public API, the README's table: after a change of what they come from.
derived: $(READY)
	$(BIN)/python tests/derived.py

bench: $(READY)
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.discrepancy
	$(BIN)/python -m benchmarks.report docs/benchmarks.md

# On a machine with CUDA. VENV= takes PYTHON as it is, where torch is installed already.
gpu: $(if $(VENV),$(READY))
	PYTHONPATH=src $(if $(VENV),$(BIN)/python,$(PYTHON)) -m benchmarks.gpu --out out

# Runs them, and stores what they show.
notebooks: $(READY)
	$(BIN)/python docs/notebooks/execute.py

# Optional, with a compiler: seven minutes on two cores. Its tests then run with `make test`.
torch-sparse: $(READY)
	$(BIN)/pip install --no-build-isolation -c constraints.txt setuptools wheel
	$(BIN)/pip install --no-build-isolation -c constraints.txt torch-scatter torch-sparse

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[crf]' || \
		echo 'DenseCRF needs a C++ compiler to install: its tests are skipped.'
	touch $@

clean:
	rm -rf $(VENV) out dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
