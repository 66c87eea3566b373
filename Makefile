# LLMServing: every target installs what it needs, pinned, cached under $XDG_CACHE_HOME (default ~/.cache).
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
VENV := .venv
PY := $(VENV)/bin/python
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/llmserving
MEMBERS := api operator agent engine lab

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Environment
$(VENV)/.stamp: requirements/dev.txt $(MEMBERS:%=%/pyproject.toml)
	@python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { echo "make setup: Python 3.11 to 3.13 is needed as python3; found $$(python3 --version 2>&1)"; exit 1; }
	@echo "setting up $(VENV) ..."
	@[ -x $(VENV)/bin/pip ] || python3 -m venv $(VENV) || { \
	  [ "$$(id -u)" = 0 ] && echo "installing python3-venv ..." && apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null && python3 -m venv $(VENV); } || \
	  { echo "make setup: python3 cannot create virtual environments; install python3-venv"; exit 1; }
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/uv.txt
	@$(VENV)/bin/uv pip sync --quiet --python $(PY) --require-hashes requirements/dev.txt
	@$(VENV)/bin/uv pip install --quiet --python $(PY) --no-deps --no-build-isolation $(MEMBERS:%=-e %)
	@touch $@

.PHONY: setup
setup: $(VENV)/.stamp ## Create .venv with the members and the development tools

.PHONY: lock
lock: setup ## Re-resolve requirements/*.in into hashed requirements/*.txt
	@cd requirements && for f in operator agent build dev; do ../$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url $$f.in -o $$f.txt; done
	@cd requirements && ../$(VENV)/bin/uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 --override engine-overrides.txt --generate-hashes --no-header --no-emit-index-url engine.in -o engine.txt
	@cd requirements && ../$(VENV)/bin/uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_35 --generate-hashes --no-header --no-emit-index-url engine-gpu.in -o engine-gpu.txt
	@cd requirements && { printf '# The installer itself; see "make lock".\n'; sed -n '/^uv==/,/^[a-z]/p' dev.txt | sed '$$!b;/^[a-z]/d' | grep -v '^ *# '; } > uv.txt

##@ Quality
.PHONY: lint
lint: setup ## ruff, formatting, import contracts
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/lint-imports --no-cache | tail -n 12

.PHONY: types
types: setup ## mypy --strict over all members
	@$(VENV)/bin/mypy

.PHONY: unit
unit: setup ## Unit tests: pure logic, well under a minute
	@$(VENV)/bin/pytest tests/unit -q -n 2

.PHONY: check
check: lint types unit ## What every commit passes: lint, types, unit

.PHONY: generate
generate: setup ## Write what is generated: CRD, chart, schemas, dashboards, install.yaml, reference pages
	@$(PY) tools/generate.py

.PHONY: verify
verify: setup ## Fail where what is generated is out of date
	@$(PY) tools/generate.py --check

.PHONY: tools
tools: setup ## Build the pinned programs of the cluster and its tests (about a quarter of an hour once, then cached)
	@$(PY) -m llmserving_lab.cluster.tools > /dev/null

.PHONY: images
images: setup ## Build the images operator, agent, engine and print their sizes
	@$(PY) -m llmserving_lab.images

.PHONY: engine-env
engine-env: setup ## Build the environment with real vLLM that the simulated device runs in (6 GB, cached)
	@$(PY) -m llmserving_lab.environment > /dev/null

##@ Demo
.PHONY: demo
demo: setup ## The main job on this machine: a cluster, engines, traffic, edits, a report (TRACE=, KUBECONFIG=)
	@TRACE="$(TRACE)" $(VENV)/bin/llmserving-lab demo

##@ Tests
.PHONY: contract
contract: setup ## Agent's client and reader against the plug-in's real server and ring
	@$(VENV)/bin/pytest tests/contract -q

.PHONY: simulation
simulation: setup engine-env ## The real vLLM on a simulated device, and on CPU kernels
	@$(PY) -m llmserving_lab.environment -m pytest tests/simulation -q

.PHONY: cluster
cluster: setup tools ## A real API server: CRD, CEL, server-side apply, the operator
	@$(VENV)/bin/pytest tests/cluster -q

.PHONY: e2e
e2e: setup tools engine-env images ## A real kubelet: apply, edit, break, delete
	@$(VENV)/bin/pytest tests/e2e -q --timeout 600  # the first test waits for images and engines

.PHONY: test-gpu
test-gpu: setup ## Everything that needs an NVIDIA GPU, on one of any kind (LLMSERVING_ENGINE_PYTHON=, LLMSERVING_GPU_PROFILE=)
	@$(PY) -m llmserving_lab.serving.gpu
	@$(VENV)/bin/pytest tests/gpu -q -s

.PHONY: test
test: check verify contract simulation cluster e2e ## Everything that needs no GPU (CI runs this)

##@ Bench
.PHONY: bench
bench: setup engine-env ## Capacities of the policies, one slice per load, under 40 minutes (PROFILE=, TRACES=)
	@$(VENV)/bin/llmserving-lab suite $(if $(PROFILE),--profile "$(PROFILE)") $(if $(TRACES),--traces "$(TRACES)") --out build/bench/short

.PHONY: bench-full
bench-full: setup engine-env ## All slices, loads, cards and targets: hours, can be interrupted (PROFILE=, TRACES=)
	@$(VENV)/bin/llmserving-lab suite --full $(if $(PROFILE),--profile "$(PROFILE)") $(if $(TRACES),--traces "$(TRACES)") --out build/bench

##@ Cleaning
.PHONY: clean
clean: ## Remove build outputs
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache; find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

.PHONY: purge
purge: clean ## Remove the cache and .venv as well
	@rm -rf $(VENV) "$(CACHE)"
