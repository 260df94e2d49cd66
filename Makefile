# One page of targets: `make help`. Everything is installed on first use; caches live outside the checkout.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.ready
CHART := charts/glm-operator
# What needs more than Python and PyPI. FAST=1 leaves it out and says how many tests that were.
HEAVY := helm or cluster or engine or full
WORKERS ?= 2
# From the command line only: an exported KUBECONFIG must not send the demo to somebody's own cluster.
DEMO_CLUSTER = $(if $(filter command,$(origin KUBECONFIG)),--kubeconfig $(KUBECONFIG))

# Asked of any Python: a cluster outlives the .venv that started it, and needs one to be taken down.
CLUSTERS := from glm_dev.paths import cache_dir; print(*cache_dir().glob("clusters/*"))

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(STAMP): requirements/dev.txt pyproject.toml
	@dev/bootstrap.sh $(PYTHON) $(VENV)
	@touch $@

venv: $(STAMP) ## Create the virtual environment from the hashed lock

lock: ## Resolve requirements/*.txt again from pyproject.toml (hashes, no index address)
	@dev/lock.sh

demo: $(STAMP) ## Local cluster, chart, one object, real requests (ONCE=1 ends by itself; KUBECONFIG=file uses your cluster)
	@$(PY) -m glm_dev.demo $(if $(ONCE),--once) $(if $(KEEP),--keep) $(DEMO_CLUSTER)

test: $(STAMP) ## Everything below 15 minutes; FAST=1: under a minute, without root, cluster or Go
	$(PY) -m pytest -n $(WORKERS) -m "not ($(HEAVY))"
ifndef FAST
	$(PY) -m glm_dev.prepare
	$(PY) -m pytest -n $(WORKERS) --dist loadscope -m "($(HEAVY)) and not full"
endif

test-full: $(STAMP) ## Every test there is
	$(PY) -m glm_dev.prepare
	$(PY) -m pytest -n $(WORKERS) -m "not ($(HEAVY))"
	$(PY) -m pytest -m "$(HEAVY)"

lint: $(STAMP) ## Format check, lint, types, import contracts
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: $(STAMP) ## Rewrite the code in the project's format
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

bench: $(STAMP) ## Measure the gateway against this machine's own addresses
	$(PY) -m glm_dev.bench

crds: $(STAMP) ## Generate the CRD into crds/ and the chart
	$(PY) -m glm_operator.cli crd --write

images: $(STAMP) ## Build the images of operator, gateway and weights Jobs without a daemon
	$(PY) -m glm_dev.images build

chart: $(STAMP) ## Lint the chart and package it into dist/
	@helm=$$($(PY) -m glm_dev.cluster helm) && "$$helm" lint --strict $(CHART) && "$$helm" package $(CHART) --destination dist

clean: ## Take every local cluster of this machine down, remove .venv and the checkout's caches
	@clusters=$$(PYTHONPATH=dev $(firstword $(wildcard $(PY)) $(PYTHON)) -c '$(CLUSTERS)') && \
	if [ "$$clusters" ]; then \
	  { [ -e $(STAMP) ] || $(MAKE) --no-print-directory venv; } && $(PY) -m glm_dev.cluster down --all; \
	fi
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help venv lock demo test test-full lint format bench crds images chart clean
