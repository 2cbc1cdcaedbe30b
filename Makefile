# The two commands: `make run` sets up and records, `make test` sets up and tests. `make help` lists all.
SHELL := /bin/sh
# The services run without a home folder, so a Python from one (pyenv) will not do for them. Tests and figures are of
# the same Python, where it is new enough: others may be built without optimisation, and a fifth slower.
SYSTEM_PYTHON ?= /usr/bin/python3
PYTHON := $(or $(PYTHON),$(shell $(SYSTEM_PYTHON) -c 'import sys; \
	sys.version_info >= (3, 11) and print(sys.executable)' 2>/dev/null),python3)
PY := .venv/bin/python
MADE := .venv/.made

# Where `make install` puts things. DESTDIR stands before each path and is no part of it.
DESTDIR ?=
PREFIX ?= /opt/recorderd
SYSCONFDIR ?= /etc/recorderd
BINDIR ?= /usr/local/bin
LIBDIR ?= /usr/local/lib

export PYTHON

.PHONY: help setup run test lint format bench bench-live fuzz test-faults test-system install clean distclean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.* ## /\1\t/p' Makefile | expand -t 16

# Quick when nothing is missing: the programs are looked for each time, the venv is made anew when its inputs change.
setup: needs-recorder $(MADE) ## make .venv with both commands; install what the recorder needs

needs-%:
	@tools/bootstrap.sh $(subst -, ,$*)

$(MADE): setup.cfg pyproject.toml tools/bootstrap.sh | needs-recorder
	@tools/bootstrap.sh venv
	@touch $@

run: needs-recorder-run $(MADE) ## set up, record a real call, go on recording (ONCE=1: stop after the call)
	@$(PY) -m recorderd.tools.first_run $(if $(ONCE),--once)

# The live tests come first, wait most of the time, and each file of them has a network of its own: two cores carry four.
test: needs-recorder-run-test-sbc-remotes $(MADE) lint ## set up, lint, and pass all tests
	$(PY) -m pytest -n 4 --dist loadfile --no-loadscope-reorder

lint: setup ## ruff, mypy and the import rules
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports --no-logo

format: setup ## put every file into ruff's form
	$(PY) -m ruff format .

bench: setup ## what recording captured calls costs, as JSON lines, and its plot in var/bench (BENCH="--scene g711-200")
	@$(PY) -m tests.bench $(BENCH)

bench-live: needs-recorder-bench $(MADE) ## the same of calls on a wire (root; LIVE="--calls 500 --seconds 20")
	@$(PY) -m tests.bench.live $(LIVE)

fuzz: setup ## the tests of the parsers alone, with 100 times their inputs
	$(PY) -m pytest --fuzz -n 2

test-faults: needs-recorder-test-remotes-buckets $(MADE) ## break the promises of docs/assurance.md, each many times (root, three quarters of an hour)
	$(PY) -m pytest -s --thorough tests/faults tests/test_standalone_verifier.py tests/test_ledger_attacks.py

test-system: needs-recorder-test-system $(MADE) ## boot a Debian with the installed units and record in it (minutes, root)
	$(PY) -m pytest -s tests/system/boot.py

install: ## install under /opt/recorderd with its systemd units (root)
	@tools/install.sh "$(DESTDIR)" "$(PREFIX)" "$(SYSCONFDIR)" "$(BINDIR)" "$(LIBDIR)" "$(SYSTEM_PYTHON)"

# Never var/ itself: it has the keys and the recordings of `make run`.
clean: ## remove what was built, keep .venv and var/
	rm -rf build dist var/system .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean ## remove .venv too
	rm -rf .venv recorderd.egg-info
