# What a developer types. Everything runs in .venv, which `make setup` makes and keeps up to date.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
RULES := $(wildcard alert_rules/*.yml)
RULE_TESTS := $(wildcard alert_rules/tests/*_test.yml)
SCRIPTS := $(wildcard .ci/run compose/*.sh compose/systemd/*.sh tests/peers/*.sh tests/peers/gpu/*.sh)
# What says that all of the core is tested: quick, and without peers.
CORE_TESTS := $(patsubst %,tests/unit/test_%.py,aftermath attempt_states budgets cap_power clock_watch \
	dcgm_freshness decision durations extensions gpu_claims holders idleness lifecycle limits limits_reader matchers months notices orphans \
	ownership policy_values quiescing report resets returned runtime_container services targets)
PYTEST_ARGS ?=
# Processes that run tests, a file at a time each; they mostly wait for their peers.
WORKERS ?= 2
PARTS ?=
MODULES ?=

# Where `make install` puts the program; DESTDIR= stages it below a folder instead.
PREFIX ?= /opt/remediator
DESTDIR ?=
PURGE ?=
# The receiver's user in the image, as in compose/.env.
REMEDIATOR_ID ?= 9095

.PHONY: help setup lint test rules coverage mutants integration demo bench docs pins chaos format clean \
	image dashboards \
	install uninstall

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*##  *\(.*\)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

setup:  ## install what is missing (packages as root, then .venv)
	@bash tests/peers/install.sh

pins:  ## write tests/requirements-dev.txt anew, with the newest versions and their hashes
	python3 -m venv .cache/pins
	.cache/pins/bin/python -m pip install --quiet uv
	.cache/pins/bin/uv pip compile pyproject.toml --extra dev --extra dbus --universal \
		--python-version 3.11 --generate-hashes --no-emit-index-url --upgrade --quiet \
		--custom-compile-command "make pins" --output-file tests/requirements-dev.txt

lint: setup  ## everything that can be said without running a test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml remediator
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/interrogate --quiet remediator
	$(BIN)/codespell
	promtool check rules $(RULES)
	amtool check-config alertmanager/alertmanager.yml
	$(foreach script,$(SCRIPTS),bash -n $(script) &&) true

test: setup  ## all tests; PYTEST_ARGS=--require-services fails where a peer is missing
	$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile $(PYTEST_ARGS)

rules: setup  ## the tests of the alerting rules
	promtool test rules $(RULE_TESTS)

coverage: setup  ## fail unless the tests of the core reach every branch of it
	$(BIN)/python -m coverage run --branch --source=remediator.core -m pytest -q $(CORE_TESTS)
	$(BIN)/python -m coverage report --skip-covered --show-missing --fail-under=100

mutants: setup  ## break each guard of the decision, and see a test fail; takes minutes
	$(BIN)/python -m tests.mutants $(MODULES)

integration: setup  ## the tests that need real peers
	$(BIN)/python -m pytest -m integration $(PYTEST_ARGS)

demo: setup  ## all scenarios on this machine; SCENARIO=idle plays one, KEEP=1 leaves it running
	$(BIN)/python -m tests.peers.demo $(SCENARIO) $(if $(KEEP),--keep)

bench: setup  ## measure side by side, and write tests/bench/RESULTS.md
	$(BIN)/python -m tests.bench $(PARTS)

chaos: setup  ## throw faults at the whole pipeline for CHAOS_MINUTES (10); SCENARIO= picks some
	$(BIN)/python -m tests.chaos $(if $(SCENARIO),--only "$(SCENARIO)")

image: setup  ## build the image for the stack in containers, of a wheel of this checkout
	rm -f dist/remediator-*.whl
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	docker build --file compose/Dockerfile --build-arg REMEDIATOR_ID=$(REMEDIATOR_ID) \
		--tag remediator:$$($(BIN)/python -c 'import remediator; print(remediator.__version__)') .

dashboards: setup  ## write Grafana's dashboards anew, from tests/dashboards
	$(BIN)/python -m tests.dashboards

install:  ## install or upgrade, as root: program, units, example configuration (PREFIX, DESTDIR)
	@PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) bash compose/systemd/install.sh install

uninstall:  ## remove it; PURGE=1 removes configuration and state as well
	@PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) PURGE=$(PURGE) bash compose/systemd/install.sh uninstall

docs: setup  ## make the tables of the pages anew, from the code
	$(BIN)/python -m remediator.docs.making remediator/docs

format: setup  ## rewrite the code as ruff likes it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what is made here, .venv and the cached file systems included
	rm -rf .venv .cache dist build .coverage .pytest_cache .mypy_cache .ruff_cache \
		.import_linter_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
