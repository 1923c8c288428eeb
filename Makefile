# `make` lists the targets. Everything is installed into .venv under requirements.lock.

SHELL := bash -o pipefail
.DEFAULT_GOAL := help
.PHONY: help demo test test-all mutants test-docker test-slurm test-orthanc soak bench lint compile images demo-docker mlflow serve lock clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
CONFIG ?= pipeline/configs/demo.yaml
STUDIES ?= 1200
TORCH ?= 2.13.0
BIN := .venv/bin
export CXRFLOW_CACHE ?= $(CURDIR)/runs/cache
# Threads that spin while they wait starve each other on a busy machine.
export OMP_WAIT_POLICY ?= PASSIVE

help: ## List the targets
	@echo "cxrflow: chest X-rays and reports in, a deployed classifier out"; echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /|/' | awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: .venv/.runtime ## Synthetic data, the whole pipeline, a table of scores (FRESH=1 redoes all)
	@$(if $(filter 1,$(FRESH)),rm -rf runs/demo runs/synthetic runs/cache,true)
	@$(BIN)/python -m pipeline.synthetic runs/synthetic --studies $(STUDIES) --prevalence floor --seed 7 --size 256 --jobs 2
	@$(BIN)/python -m pipeline run --config $(CONFIG)

images: ## Build the container images and print their sizes
	@infra/docker/images.sh

demo-docker: images .venv/.runtime ## The demo in containers of these images, with MLflow as a server
	@$(if $(filter 1,$(FRESH)),rm -rf runs/demo-docker runs/synthetic,true)
	@$(BIN)/python -m pipeline.synthetic runs/synthetic --studies $(STUDIES) --prevalence floor --seed 7 --size 256 --jobs 2
	@$(BIN)/python -m pipeline run --config $(CONFIG) --set root=runs/demo-docker --runner docker

test: .venv/.dev ## The tests but the slow ones
	$(BIN)/python -m pytest -n 2 --dist loadscope -m "not slow and not soak and not docker and not slurm and not orthanc"

test-all: .venv/.dev ## The slow tests too
	$(BIN)/python -m pytest -n 2 --dist loadscope $(or $(ARGS),-m "not soak and not docker and not slurm and not orthanc")

mutants: .venv/.dev ## Plant bugs one at a time; a test must notice each (ARGS="--fraction 1/5", names)
	$(BIN)/python -m tests.mutants $(ARGS)

test-docker: images .venv/.dev ## The tests of the images and of training on two nodes
	$(BIN)/python -m pytest -n 2 --dist loadscope tests/infra/docker -m "not soak"

test-slurm: .venv/.dev ## The tests of a run on a Slurm cluster (infra/slurm/ci.sh make test-slurm)
	$(BIN)/python -m pytest tests/infra/slurm

test-orthanc: .venv/.dev ## The tests of a PACS (infra/orthanc/ci.sh make test-orthanc)
	$(BIN)/python -m pytest -m "orthanc and not soak" tests/components/preprocess tests/components/serve tests/infra/orthanc

soak: .venv/.dev ## The large numbers: 2 x 20 kills, more faults, 20,000 films (by hand, into docs/)
	$(BIN)/python -m pytest -m soak

lint: .venv/.dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

compile: .venv/.runtime ## Write cxr_pipeline.yaml for Kubeflow Pipelines
	@$(BIN)/python pipeline/compile.py --config $(CONFIG)

mlflow: .venv/.runtime ## Open the MLflow UI of the runs under CONFIG's root
	@$(BIN)/python -m pipeline mlflow --config $(CONFIG)

serve: .venv/.runtime ## Serve the deployed model of CONFIG's root on port 8000
	@$(BIN)/python -m components.serve --config $(CONFIG)

bench: .venv/.bench ## Time preprocess beside other recipes and beside decoding alone
	@$(BIN)/python -m benchmarks.preprocess

lock: .venv/.dev ## Renew requirements.lock (versions only)
	$(BIN)/pip-compile -q --upgrade --strip-extras --extra dev --no-annotate --no-header --no-emit-index-url \
	  --no-emit-find-links --no-emit-trusted-host --constraint <(echo torch==$(TORCH)) -o .lock pyproject.toml
	grep -vE '^(nvidia-|cuda-|triton|cxrflow|#|$$)' .lock | sed 's/+cpu//' > requirements.lock && rm .lock

clean: ## Remove what demo and tests made (the environment stays)
	rm -rf runs build *.egg-info cxr_pipeline*.yaml .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Without compiled packages, and where PYTHONDONTWRITEBYTECODE keeps Python from making them, each step waits 7 s longer.
# TORCH_INDEX: a wheel index with CPU builds of torch saves gigabytes where there is no GPU.
define install
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing cxrflow into .venv; the first time this takes a few minutes."
	@$(BIN)/pip install --no-compile --disable-pip-version-check -c requirements.lock \
	  $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -e '.[$(1)]' \
	  | grep --line-buffered -E '^(Collecting|Building|Installing|Successfully installed)' | cut -c1-100
	@$(BIN)/python -m compileall -q -j 0 .venv/lib >/dev/null || true # on all cores, where pip uses one
	@touch $@
endef

.venv/.runtime: pyproject.toml requirements.lock
	$(call install,preprocess$(,)train$(,)evaluate$(,)serve$(,)pipeline)

.venv/.bench: pyproject.toml requirements.lock
	$(call install,bench)

.venv/.dev: pyproject.toml requirements.lock
	$(call install,dev)
	@touch .venv/.runtime

, := ,
