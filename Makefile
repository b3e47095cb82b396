# Needs python3 (3.11 to 3.13) and make. `make` lists what there is.

PYTHON ?= python3
BIN := .venv/bin
ONCE ?=
QUICK ?=
SECONDS ?=
SEED ?=
UPGRADE ?=
# By environment and unexpanded, so that quotes and dollars in a goal stay what they are.
export GOAL_TEXT := $(value GOAL)

TYPED := api workflows activities llm prompts tracing db domain devstack benchmarks tests \
         worker.py client.py logs.py settings.py
COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-strip-extras --no-header \
          --python-version 3.11 $(if $(UPGRADE),--upgrade)

.DEFAULT_GOAL := help
.PHONY: help setup run doctor test check chaos lint format bench lock migrate clean distclean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make .venv from the hashed requirements (the others do it by themselves)
	@$(PYTHON) -m devstack.setup

# exec: a shell in between would take the SIGTERM that make passes on, and leave the stack behind.
run: setup ## Start everything, run a goal; GOAL="…" goes to a stack that runs already; ONCE=1 stops after it
	@exec $(BIN)/python -m devstack run --goal "$$GOAL_TEXT" $(if $(ONCE),--once)

doctor: setup ## Say what is there, what is missing, how to get it; QUICK=1 without the Temporal probe
	@exec $(BIN)/python -m devstack doctor $(if $(QUICK),--quick)

test: lint ## Everything that CI runs: linters, types, import contracts and all tests
	$(BIN)/python -m pytest

check: lint ## The linters and the tests that need no server: seconds
	$(BIN)/python -m pytest -m "not stack"

chaos: setup ## Kill, freeze and restart everything beside a stream of goals; SECONDS=300 SEED=7
	@exec $(BIN)/python -m tests.chaos $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

lint: setup ## ruff, mypy, import contracts, and whether openapi.json is current
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(TYPED)
	$(BIN)/lint-imports
	$(BIN)/python -m api.openapi --check

format: setup ## Put the code into ruff's form, and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## Measure Rein beside the floor, plain temporalio and DBOS
	@$(PYTHON) -m devstack.setup --requirements requirements-bench.txt
	$(BIN)/python -m benchmarks $(ARGS)

lock: setup ## Resolve requirements*.txt anew from pyproject.toml; UPGRADE=1 for newer versions
	$(COMPILE) pyproject.toml -o requirements.txt
	$(COMPILE) --group ship -c requirements.txt -o requirements-ship.txt
	$(COMPILE) pyproject.toml --group dev -c requirements.txt -c requirements-ship.txt -o requirements-dev.txt
	$(COMPILE) pyproject.toml --group dev --group bench -c requirements-dev.txt -o requirements-bench.txt
	$(COMPILE) --group setup -o requirements-setup.txt

migrate: setup ## Bring the database of DATABASE_URL to the newest migration
	$(BIN)/python -m alembic upgrade head

clean: ## Remove the stack's state (.rein: goals, runs, traces) and the tools' caches
	@$(PYTHON) -m devstack.clean

distclean: clean ## Also remove .venv
	@rm -rf .venv
