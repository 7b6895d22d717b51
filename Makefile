# Everything a person does with this checkout. `make` lists it.
SHELL := /bin/bash
PORT ?= 8000
SEEDS ?= 200
RUNS ?= 1000000
MINUTES ?= 60
T ?= tests/unit/test_core.py

.DEFAULT_GOAL := help
.PHONY: help setup setup-test demo test test-one lint types unit explore fuzz simulate test-docker mutants soak bench stack test-stack test-browser format lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 18

setup: ## install what the program needs (a virtual environment in .venv)
	@scripts/bootstrap.sh run

setup-test: ## install what the tests need besides (Debian packages, when root)
	@scripts/bootstrap.sh test

demo: setup ## run Mayday on a simulated fleet that fails and recovers, with its web pages on PORT
	@.venv/bin/mayday demo --port $(PORT)

test: setup-test ## run every check and every test
	@scripts/test.sh

lint: setup-test ## format, lint, layers
	@scripts/test.sh format lint layers

types: setup-test ## strict types
	@scripts/test.sh types

unit: setup-test ## the inner loop: unit tests, and scenarios on a simulated fleet in virtual time
	@scripts/test.sh unit

test-one: ## one file or test, at once: T=tests/unit/test_core.py, or T="tests/unit -k limit"
	@.venv/bin/python -m pytest -q $(T)

explore: setup-test ## every reachable state of three VPNs, and the plan for every small fleet on them
	@scripts/test.sh explored

fuzz: setup-test ## fuzz every input with RUNS inputs for each parser
	@FUZZ_RUNS=$(RUNS) scripts/test.sh fuzz

simulate: setup-test ## run the simulation on SEEDS seeds, from SEED on
	@.venv/bin/python -m tests.simulation.run --seeds $(SEEDS) $(if $(SEED),--first $(SEED))

test-docker: setup-test ## tests on real Docker Engines of their own (ENGINES=all: on the newest, too)
	@scripts/test.sh docker

test-browser: setup-test ## tests of the page for people in a real browser
	@scripts/test.sh browser

test-stack: setup-test ## tests among a real Prometheus and a real Alertmanager
	@scripts/test.sh stack

stack: setup-test ## run the demo with a real Prometheus and a real Alertmanager, to look at
	@.venv/bin/python -m tests.stack.run --port $(PORT)

mutants: setup-test ## break each rule in turn and show which test notices
	@.venv/bin/python -m tests.mutants

soak: setup-test ## an hour (MINUTES) of random faults at ten times speed on a real Docker Engine
	@scripts/own-network.sh .venv/bin/python -m tests.docker.soak --minutes $(MINUTES)

bench: setup-test ## measure what Mayday does and costs, beside the bare engine (PART=failover: one part alone)
	@scripts/own-network.sh .venv/bin/python -m benchmarks $(PART)

format: setup-test ## format the code
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix .

lock: ## resolve the dependencies anew
	@scripts/lock.sh

clean: ## remove what was made
	rm -rf .venv .engines .pytest_cache .mypy_cache .ruff_cache .hypothesis
