# Everything here sets itself up: a Python 3.11 or newer, GNU make and a package index are all it needs.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCK := requirements/dev.lock
BUILD_LOCK := requirements/build.lock
VLLM_VENV := .venv-vllm
VLLM_STAMP := $(VLLM_VENV)/.installed
VLLM_LOCK := requirements/vllm.lock

# A lock is the whole answer, so pip resolves nothing (--no-deps): an older one would look past it for packages with extras.
# What has no wheel is built with the tools of BUILD_LOCK, so that nothing unlocked is fetched for it either.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# The first of these that really starts and is 3.11 or newer; name another with `make PYTHON=/path/to/python ...`.
CANDIDATES := python3.13 python3.12 python3.11 python3
PYTHON ?= $(shell for one in $(CANDIDATES); do \
	if $$one -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	then echo $$one; break; fi; done)

COMPILE = $(BIN)/uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header --quiet

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-nightly test-vllm check bench chaos schemas screens lock build clean

help:  ## Shows this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Makes .venv with the locked dependencies and karkas in it. The others do this by themselves.

$(STAMP): $(LOCK) $(BUILD_LOCK) pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
		echo "karkas needs Python 3.11 or newer with venv and ensurepip, and none was found." >&2; \
		echo "On Debian: apt-get install python3 python3-venv; or name one: make PYTHON=/path/to/python3.11 ..." >&2; \
		exit 1; fi
	@if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo "Making $(VENV) with $(PYTHON)"; $(PYTHON) -m venv --clear $(VENV); fi
	@echo "Installing the locked dependencies (about 850 MB on disk, one to three minutes the first time)"
	@$(PIP) --no-deps --require-hashes -r $(BUILD_LOCK)
	@$(PIP) --no-deps --require-hashes --no-build-isolation -r $(LOCK)
	@$(PIP) --no-build-isolation --no-deps -e .
	@touch $@

demo: $(STAMP)  ## Explores a zone from installed packages, opens its gate, and shows how to decide it.
	@KARKAS=$(abspath $(BIN))/karkas bash docs/demo.sh

test: $(STAMP)  ## Runs all tests. PostgreSQL's too, where KARKAS_TEST_POSTGRES_URL names a database.
	@$(BIN)/python -m pytest

test-nightly: $(STAMP)  ## Runs the state machine of gates and the properties of the rules with thousands of examples.
	@HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest tests/storage/test_machine.py tests/storage/test_audit_bytes.py tests/policies

test-vllm: $(STAMP) $(if $(VLLM),,$(VLLM_STAMP))  ## Tests against a real vLLM server on the CPU. It installs one, or takes VLLM=/path/to/vllm.
	@KARKAS_TEST_VLLM=$(or $(VLLM),$(abspath $(VLLM_VENV))/bin/vllm) $(BIN)/python -m pytest tests/vllm

$(VLLM_STAMP): $(VLLM_LOCK) tests/vllm/install.py
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer was found; see make setup" >&2; exit 1; }
	@echo "Installing vLLM's CPU build into $(VLLM_VENV) (3.1 GB on disk, two minutes or more the first time)"
	@$(PYTHON) -m venv --clear $(VLLM_VENV)
	@$(VLLM_VENV)/bin/python tests/vllm/install.py $(VLLM_LOCK)
	@touch $@

check: $(STAMP)  ## Lint, format and types: ruff, mypy (strict), pyright.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright

bench: $(STAMP)  ## Measures explorations, calls, ranking: make bench SOURCES="folder pkg:NAME" SCITLDR=scitldr-a-dev.jsonl URL=http://...
	$(BIN)/python benchmarks/explore.py $(or $(SOURCES),pkg:tenacity pkg:httpx pkg:anyio)
	$(BIN)/python benchmarks/latency.py
	$(BIN)/python benchmarks/gates.py $(if $(KARKAS_TEST_POSTGRES_URL),--postgres $(KARKAS_TEST_POSTGRES_URL))
	@if [ -n "$(URL)" ]; then $(BIN)/python benchmarks/throughput.py $(URL); \
		else echo "throughput was not measured; name a vLLM server: URL=http://127.0.0.1:8000"; fi
	@if [ -n "$(SCITLDR)" ]; then $(BIN)/python benchmarks/scitldr.py $(SCITLDR); \
		else echo "sentence ranking was not measured; name its data: SCITLDR=path/to/scitldr-a-dev.jsonl"; fi

chaos: $(STAMP)  ## A night of 100 runs while workers are killed: make chaos SEED=7; on PostgreSQL too, where KARKAS_TEST_POSTGRES_URL names one.
	$(BIN)/python benchmarks/chaos.py --seed $(or $(SEED),1)
	@if [ -n "$(KARKAS_TEST_POSTGRES_URL)" ]; then \
		$(BIN)/python benchmarks/chaos.py --seed $(or $(SEED),1) --postgres $(KARKAS_TEST_POSTGRES_URL); \
		else echo "PostgreSQL was left out; set KARKAS_TEST_POSTGRES_URL"; fi

lock:  ## Resolves the dependencies of pyproject.toml anew into requirements/.
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) uv
	$(COMPILE) pyproject.toml --extra postgres --extra notify --extra otel --group dev --output-file $(LOCK)
	printf 'setuptools\nwheel\n' | $(COMPILE) - --constraints $(LOCK) --output-file $(BUILD_LOCK)
	printf "%s ; python_version < '0'\n" torch torchaudio torchvision torchcodec \
		| $(COMPILE) requirements/vllm.in --override /dev/stdin --output-file $(VLLM_LOCK)

schemas: $(STAMP)  ## Writes the JSON Schemas of distillates and frames into docs/.
	$(BIN)/python -m karkas.agents.distillate.schemas docs

screens: $(STAMP)  ## Draws the pictures of the queue in docs/screens/ anew; look at them before you commit them.
	@KARKAS_WRITE_SCREENS=1 $(BIN)/python -m pytest -q tests/queue/test_pictures.py

build: $(STAMP)  ## Builds sdist and wheel into dist/.
	$(BIN)/python -m build --no-isolation --quiet

clean:  ## Removes what these commands made.
	rm -rf $(VENV) $(VLLM_VENV) build dist demo-project demo-project.[0-9]* .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage *.egg-info src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
