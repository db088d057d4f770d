# make demo | test | browser | cluster | lint | docs | examples | derived | bench | bench-guard | fuzz | gpu | notebooks | dist
# | clean: each works alone on a fresh clone, and is quick afterwards.
# make resolve | oldest | newest: what CONTRIBUTING.md asks for when dependencies change; they need an index.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
DEMO   := $(VENV)/.ready-demo
DOCS   := $(VENV)/.ready-docs
PIP    := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
PYTEST := -m pytest -n auto --maxprocesses 4 --dist worksteal

# The part of the suite that tells in minutes whether a version of a dependency will do.
FAST := $(patsubst %,tests/test_%.py,api chain cli compare contract invariants llvm refine twin_*)

.PHONY: demo test browser cluster chromium lint docs examples derived bench bench-guard fuzz gpu notebooks dist torch-sparse resolve oldest newest clean

demo: $(DEMO)
	$(BIN)/lpprop demo --out out

test: lint
	$(BIN)/python $(PYTEST)

# What is seen in a real browser, all of it; `make test` runs a part. CHROMIUM=PATH names another than the system's.
browser: $(READY)
	$(BIN)/python -m pytest --all-browser-tests tests/test_browser_*.py tests/test_app_api.py

# Jobs on a cluster of Ray with two machines, and its faults, about four minutes; `make test` runs a part without one.
cluster: $(READY)
	$(PIP) -e '.[ray]'
	$(BIN)/python -m pytest -p no:cacheprovider --cluster-tests tests/test_cluster_*.py

# A browser for it, where the system has none; on Linux with the libraries that it needs.
chromium: $(READY)
	$(BIN)/playwright install --with-deps chromium

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Stubs, the list of the public API, the README's table: after a change of what they come from.
derived: $(READY)
	$(BIN)/python tests/derived.py

# The site, in docs/_build/html: warnings are errors, and every link, anchor and picture is there.
docs: $(DOCS)
	$(BIN)/python -m sphinx -q -W --keep-going docs docs/_build/html
	$(BIN)/python docs/extensions/check.py docs/_build/html

# What the docs say is run: the blocks of the README and of docs/, the notebooks, the docstrings.
examples: $(READY)
	$(BIN)/python $(PYTEST) tests/test_readme.py tests/test_docs_integrations.py tests/test_notebooks.py src

bench: $(READY)
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.discrepancy
	$(BIN)/python -m benchmarks.regions
	$(BIN)/python -m benchmarks.report docs/benchmarks.md README.md

# Whether anything became slower than at the last release, on quiet cores. RECORD=1 writes the history of this version. WITH="taskset -c 0,1" starts each run by a command.
bench-guard: $(READY)
	$(BIN)/python -m benchmarks.guard $(if $(RECORD),--record) $(if $(WITH),--prefix '$(WITH)')

# Odd calls of every public name, five to ten minutes on two cores; the suite makes a part. SEED=N repeats a run.
fuzz: $(READY)
	PYTHONPATH=tests $(BIN)/python tests/fuzzing.py --calls $(or $(CALLS),100000) $(if $(SEED),--seed $(SEED))

# On a machine with CUDA. VENV= takes PYTHON as it is, where torch is installed already.
gpu: $(if $(VENV),$(READY))
	PYTHONPATH=src $(if $(VENV),$(BIN)/python,$(PYTHON)) -m benchmarks.gpu --out out

# Runs them, and stores what they show.
notebooks: $(READY)
	$(BIN)/python docs/notebooks/execute.py

# What a release uploads, checked. INSTALL="python3.11 python3.13" installs and runs it there too.
dist: $(READY)
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python .ci/check_dist.py dist $(if $(INSTALL),--install $(INSTALL))

# Optional, with a compiler: seven minutes on two cores. Its tests then run with `make test`.
torch-sparse: $(READY)
	$(PIP) setuptools wheel
	$(PIP) --no-build-isolation torch-scatter torch-sparse

resolve: $(READY)
	$(BIN)/python .ci/resolve.py

# The fast part on the lowest versions that pyproject.toml allows, and on the newest that the index has.
# Compiled at once, as pip does: the suite takes the warnings of a compiler for errors.
oldest: RESOLUTION := lowest-direct
newest: RESOLUTION := highest
oldest newest: $(READY)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)-$@
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(VENV)-$@ --resolution $(RESOLUTION) -e '.[demo,test]'
	$(VENV)-$@/bin/python $(PYTEST) $(FAST)

# What the demo needs, which is also the start of everything else.
$(DEMO): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[demo]'
	touch $@

# The docs need no more than the package and Sphinx.
$(DOCS): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[docs]'
	touch $@

# pydensecrf2 asks for a Cython that does not know Python 3.13, hence no isolation.
$(READY): $(DEMO)
	$(PIP) -e '.[demo,dev]'
	$(PIP) cython setuptools
	$(PIP) --no-build-isolation pydensecrf2 >$(VENV)/crf.log 2>&1 || \
		echo 'DenseCRF is left out and its tests are skipped: it needs a C++ compiler ($(VENV)/crf.log).'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-newest out dist docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
