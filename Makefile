# Needs Python >= 3.11, git and make. Another interpreter: make setup PYTHON=python3.12
PYTHON := python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup run test torture bench docs lint format lock clean

setup: $(INSTALLED)

# Every package comes from the lock, hash by hash; then bmrl itself, editable, with nothing fetched.
$(INSTALLED): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("bmrl needs Python >= 3.11, but $(PYTHON) is " + sys.version.split()[0] + ": make setup PYTHON=python3.11")'
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements-dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

run: setup
	$(BIN)/bmrl run point-goal --scale laptop --seed 0 --variants default paper --out runs/point-goal --resume

test: lint
	$(BIN)/pytest --numprocesses 2 --dist loadfile
	$(BIN)/python tools/check_wheel.py

# Needs strace, and 20 GB of disk. On two cores: files 110 minutes, kills-point-goal 75, kills-random and terminations
# 30 each, memory 12, the others some minutes. The first four go on from where they were stopped; remove runs/torture to
# begin anew.
torture: setup
	$(BIN)/python -m torture

# On idle cores: a busy neighbour changes the figures. On two, estimated from trials: phase1 10 minutes, peer 10, growth
# 6 (and 12 GB of memory), phase2 5, collection and start 2 each. One alone: .venv/bin/python -m benchmarks NAME. The
# peer's environment is made in runs/benchmarks/peer, of 1 GB.
bench: setup
	$(BIN)/python -m benchmarks

# The pages of docs/ and the reference of the Python API, as site/index.html. Not --quiet: what is not shown is not counted.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Keeps the locked versions that still fit pyproject.toml. The newest of all: make lock UPGRADE=--upgrade
UPGRADE :=
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url $(UPGRADE)
lock: setup
	$(BIN)/python -m pip install --quiet "uv>=0.9,<1"
	$(COMPILE) pyproject.toml --output-file requirements.lock
	$(COMPILE) pyproject.toml --all-extras --group dev --constraint requirements.lock --output-file requirements-dev.lock

# Leaves runs/ alone: those are results.
clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests tools torture benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
