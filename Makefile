# Every target sets up what it needs; a machine with Python 3.11 or newer is enough.
PYTHON ?= python3
VENV ?= .venv
VLLM_VENV ?= .venv-vllm
MODELS_VENV ?= .venv-models
# Test processes side by side, each with a PostgreSQL of its own, but for tests of whole systems.
TEST_WORKERS ?= 2
BIN := $(VENV)/bin

.PHONY: help
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */  make \1\t/' | expand -t 24

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Coalmine needs Python 3.11 or newer; run for example: make PYTHON=python3.12 demo")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

.PHONY: install
install: $(VENV)/.installed  ## the virtual environment, with everything locked

.PHONY: demo
demo: install  ## the whole loop in three acts, under three minutes, nothing but this machine
	$(BIN)/coalmine demo

.PHONY: demo-vllm
demo-vllm: install  ## the same against a real vLLM engine on CPU (builds its own environment)
	PYTHON=$(PYTHON) bash deploy/vllm-cpu/install.sh $(VLLM_VENV)
	$(BIN)/python -m rollout.demo.vllm --vllm-python $(VLLM_VENV)/bin/python

.PHONY: lint
lint: install  ## style, types, layering
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: test
test: lint  ## lint, and every test but the heavy ones
	$(BIN)/pytest -n $(TEST_WORKERS) tests/contracts tests/integration tests/properties tests/unit
	$(BIN)/pytest tests/acceptance tests/benchmarks tests/chaos

.PHONY: test-models
test-models:  ## the tests of local models, with torch for CPU (builds its own environment)
	PYTHON=$(PYTHON) bash deploy/models/install.sh $(MODELS_VENV)
	$(MODELS_VENV)/bin/python -m pytest -m models tests/models

.PHONY: test-heavy
test-heavy: install test-models  ## the long simulations, local models and the real engine
	PYTHON=$(PYTHON) bash deploy/vllm-cpu/install.sh $(VLLM_VENV)
	COALMINE_VLLM_PYTHON=$(abspath $(VLLM_VENV))/bin/python $(BIN)/pytest -m heavy

.PHONY: bench-decisions-targets
bench-decisions-targets: install  ## the decision's statistics against their targets
	$(BIN)/python tests/benchmarks/decisions_targets.py

.PHONY: bench-decisions
bench-decisions: install  ## this engine's decisions beside those of other rules (BENCH=--quick)
	$(BIN)/python tests/benchmarks/bench_decisions.py $(BENCH)

.PHONY: bench-evidence
bench-evidence: install  ## what one pair costs the controller (goal: under 200 µs)
	$(BIN)/python tests/benchmarks/bench_evidence.py

.PHONY: bench-evaluator
bench-evaluator: install  ## what evaluating costs, and whether it is right (BENCH=--quick)
	$(BIN)/python tests/benchmarks/bench_evaluator.py $(BENCH)

.PHONY: bench-rollback
bench-rollback: install  ## time to zero over 8 gateways on PostgreSQL (BENCH=--quick)
	$(BIN)/python tests/benchmarks/bench_rollback.py $(BENCH)

.PHONY: bench-gateway
bench-gateway: install  ## the data plane beside its peers (needs cc; BENCH=--quick, --install-peers)
	$(BIN)/python tests/benchmarks/bench_gateway.py $(BENCH)

.PHONY: bench-isolation
bench-isolation: install  ## baseline traffic while the shadow is in trouble (needs cc; BENCH=--quick)
	$(BIN)/python tests/benchmarks/bench_isolation.py $(BENCH)

.PHONY: lock
lock:  ## resolve the dependencies anew (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-annotate --upgrade --quiet \
	  --custom-compile-command "make lock" --output-file requirements.lock
