# `make demo` and `make test` set up .venv by themselves; both are safe to run twice.
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
comma := ,
# The first interpreter that fits; `make PYTHON=/path/to/python3.11 ...` names another.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.10 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && { echo $$p; break; }; done)

.PHONY: help setup demo test test-slow conformance cluster-test test-python lint constraints licences format clean

help:
	@echo "make demo       build on samples/, train, export, serve and ask, in the folder demo/; minutes on two cores"
	@echo "make test       set up and pass the tests"
	@echo "make setup      install everything into .venv (demo and test do so by themselves)"
	@echo "make setup GPU=1  with NVIDIA's libraries for a GPU (docs/gpu.md)"
	@echo "make test-slow  the longer proofs"
	@echo "make conformance  ask the server with clients of others (what Node, Go and curl on this machine allow)"
	@echo "make cluster-test  build in two processes and on a small Flink, and compare (Java 17, Maven)"
	@echo "make lint       ruff check, format check, types (mypy), and the Dockerfile (hadolint)"
	@echo "make format     bring the code into ruff's format"
	@echo "make constraints  resolve setup.cfg anew for each Python and show what changed; UPGRADE=1: all to the newest"
	@echo "make licences   list the packages' licences and write a bill of materials"
	@echo "make test-python PY_VERSION=3.12  the tests on another Python"
	@echo "make clean      remove what setup, demo and tests made; data/, runs/, models/ and report/ are yours and stay"

# GPU=1 adds NVIDIA's libraries.
EXTRAS := test$(if $(GPU),$(comma)gpu)
CONSTRAINTS := constraints.txt $(if $(GPU),constraints-gpu.txt)
INSTALLED := $(VENV)/.installed$(if $(GPU),-gpu)

setup: $(INSTALLED)

$(INSTALLED): setup.cfg setup.py pyproject.toml $(CONSTRAINTS)
	@[ -n "$(PYTHON)" ] || { echo "error: no Python 3.10, 3.11 or 3.12 found; install one, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c '' || { echo "error: $(PYTHON) does not run; name one that does: make PYTHON=/path/to/python3.12, or with it first in PATH"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "error: $(PYTHON) has no venv module; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "setting up $(VENV) with $$($(PYTHON) --version) (about $(if $(GPU),8,4) GB; takes some minutes)"
	@[ -x $(PY) ] || $(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt setuptools wheel
	@$(PY) -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS:%=-c %) --editable '.[$(EXTRAS)]' \
		|| { echo "error: the packages could not be installed; is a package registry reached? (pip config list)"; exit 1; }
	@touch $@

demo: setup
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" ./demo.sh

# Two processes, each test file in one of them (on two cores three are no faster); `make test WORKERS=0` runs all in one.
# In the order of their names: xdist's own, by the number of tests, would leave the files of few and long tests to the
# end, where one process waits.
WORKERS ?= 2

test: setup
	$(PY) -m pytest -n $(WORKERS) --dist=loadfile --no-loadscope-reorder

test-slow: setup
	$(PY) -m pytest -m slow

# Clients that nobody here wrote: made below .conformance, each skipped out loud where it cannot be had. ONLY="not ghz"
# chooses among them.
conformance: setup
	$(PY) -m pytest -m conformance $(if $(ONLY),-k "$(ONLY)") tests/serving/conformance

# Two worker processes, and a real Flink of two task managers: that needs Java 17 and Maven, and skips loudly without them.
cluster-test: setup
	$(PY) -m pytest -m "slow or not slow" tests/cluster \
		tests/beam_pipelines/test_restart.py::test_two_worker_processes_give_the_bytes_that_one_worker_gives

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/hadolint Dockerfile

# Resolves setup.cfg anew and shows what changed; UPGRADE=1 takes the newest of everything.
constraints: setup
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt --editable '.[release]'
	$(PY) -m tools.constraints $(if $(UPGRADE),--upgrade)

# What the installed packages may be used for, and a bill of materials.
licences: setup
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt --editable '.[release]'
	$(PY) -m tools.licences

# The tests on another Python: `make test-python PY_VERSION=3.12`, in an environment of its own.
test-python:
	$(MAKE) test VENV=.venv-$(PY_VERSION) PYTHON=python$(PY_VERSION)

format: setup
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

# The commands' default folders (data, runs, models/fa_net, report) are not in this list: they may hold weeks of work.
MADE := demo build .cluster .conformance .pytest_cache .ruff_cache .mypy_cache .coverage fer_tf.egg-info $(VENV) \
	$(wildcard .venv-3.*)

clean:
	rm -rf $(MADE)
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
