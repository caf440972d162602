# Everything a person or a CI run does with this repository. `make help` lists it.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test test-engines job-server check bench lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(STAMP) ## the whole way on two small real videos, on the CPU (OUTPUT=demo-output)
	$(BIN)/reelmill demo --output $(or $(OUTPUT),demo-output)

test: $(STAMP) ## all tests
	$(BIN)/python -m pytest tests $(ARGS)

test-engines: $(STAMP) ## both jobs on a Spark cluster and on Flink; wants Java, and Maven once
	$(BIN)/python -m pytest tests/engines $(ARGS)

job-server: ## a job server that takes jobs to an engine: ENGINE=spark or flink
	mvn -q -f deploy/job-server/pom.xml -P $(or $(ENGINE),spark) package
	@ls deploy/job-server/target/$(or $(ENGINE),spark)/job-server.jar

check: $(STAMP) ## lint, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP) ## benchmarks beside the peers, as ratios (docs/benchmarks.md)
	$(BIN)/python -m benchmarks $(ARGS)

lock: $(VENV)/.uv ## renew requirements.lock from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --extra demo --extra dev --extra gcp --extra s3 --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header --upgrade --output-file requirements.lock

clean: ## removes the virtual environment and the caches
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(VENV)/.uv:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Reelmill needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name another with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@touch $@

$(STAMP): $(VENV)/.uv requirements.lock pyproject.toml
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $@
