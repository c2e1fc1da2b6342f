# Two commands do everything a reader needs, on a fresh clone: `make figures` and `make test`. `make help` lists the rest.

SCALE        ?= laptop
FINDING      ?= all
JOBS         ?=
FROM_NOTHING ?=
WRITE        ?=
TORCH_INDEX  ?=
PYTHON       ?= python3
VENV         ?= .venv
MINUTES      ?= 8
STAGE        ?= data/stage

SHELL   := bash

# A variable's value as one word of the shell, whatever stands in it; make too expands nothing in it, nor for the environment of a command.
q        = $(shell printf %q '$(subst ','\'',$(value $(1)))')
unexport SCALE FINDING JOBS FROM_NOTHING WRITE TORCH_INDEX PYTHON VENV MINUTES STAGE
ifneq ($(call q,VENV),$(value VENV))
$(error VENV=$(value VENV) is not allowed: a folder name without spaces and signs that a shell reads, such as .venv)
endif

yes      = $(filter-out 0 no false,$(value $(1)))

BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
JOBS_AT  = $(if $(value JOBS), --jobs $(call q,JOBS))
RUN      = $(BIN)/reprolib run $(if $(value FINDING),$(subst \ , ,$(call q,FINDING)))
# Beside laptop, which is measured, a newcomer sees what stands on photographs, from the committed rows; of a finding named, where it has any.
ON_CIFAR  = $(wildcard figures/cifar$(addprefix /,$(filter-out all,$(firstword $(value FINDING)))))
CIFAR_TOO = $(if $(filter-out laptop,$(value SCALE))$(call yes,FROM_NOTHING)$(call yes,WRITE),,$(ON_CIFAR))
TORCH   := $(shell grep -E '^torch(vision)?==' requirements.txt)
NOISE   := metadata.papermill cell.metadata.papermill metadata.language_info.version metadata.widgets cell.metadata.lines_to_next_cell

.DEFAULT_GOAL := help
.PHONY: help figures test smoke lab gpu-stage bench check format clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12
	@echo
	@echo 'Variables: SCALE=smoke|laptop|cifar|gpu  FINDING=all|invertibility|shape_bias|simplicity_biases|block_structure|entanglement|zero_shot_quality  JOBS=notebooks at a time (the cores)'
	@echo '           MINUTES=8 and STAGE=data/stage: time and folder of gpu-stage, where JOBS is networks at a time (1 on a GPU)'
	@echo '           FROM_NOTHING=1 (train again, compare verdicts)  WRITE=1 (over the committed evidence, from a clean tree)'
	@echo '           TORCH_INDEX=index of torch and torchvision only  PYTHON=python3'

figures: $(STAMP) ## draw every figure and verdict of a scale into figures/rerun/, and compare with the committed evidence
	$(RUN) --scale $(call q,SCALE)$(JOBS_AT)$(if $(call yes,FROM_NOTHING), --from-nothing)$(if $(call yes,WRITE), --write)
	$(if $(CIFAR_TOO),$(RUN) --scale cifar$(JOBS_AT) --from-rows)

test: $(STAMP) ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --dist loadfile

smoke: $(STAMP) ## run every notebook at the smallest scale, in seconds; its verdicts are not evidence
	$(RUN) --scale smoke$(JOBS_AT)

lab: $(STAMP) ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

# Installs nothing: the machine has torch already, and possibly no network.
gpu-stage: ## on a machine with a GPU: train what is missing of cifar, then of gpu, while time is left; call again to continue
	PYTHONPATH=. $(call q,PYTHON) -m reprolib train --scale cifar gpu --minutes $(call q,MINUTES) --folder $(call q,STAGE)/zoo$(JOBS_AT)

# The peers are kept out of the environment: the library imports none of them.
.bench/.installed: tests/benchmarks/requirements.txt | $(STAMP)
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target .bench -r $<
	touch $@

bench: .bench/.installed ## compare speed and numbers with other implementations, in one process
	OMP_NUM_THREADS=1 PYTHONPATH=.bench $(BIN)/python tests/benchmarks/cka.py
	OMP_NUM_THREADS=1 PYTHONPATH=.bench $(BIN)/python tests/benchmarks/attacks.py

check: $(STAMP) ## lint, format, types; notebooks stripped and in step with their .py twins
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/nbstripout --verify --keep-id --extra-keys '$(NOISE)' notebooks/*.ipynb
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_project.py

format: $(STAMP) ## format the code and bring notebooks and twins in step
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/jupytext --sync notebooks/*.py
	$(BIN)/nbstripout --keep-id --extra-keys '$(NOISE)' notebooks/*.ipynb

clean: ## delete caches, executed notebooks and figures of turned knobs; data sets, networks and committed figures stay
	rm -rf data/runs data/cache data/from-nothing figures/rerun
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build reprolib.egg-info
	find reprolib tests notebooks -name __pycache__ -prune -exec rm -rf {} +

# The stamp is written last, so an interrupted installation is taken up again by the next command. An index given in TORCH_INDEX serves
# torch and torchvision alone: their own dependencies, CUDA's included, come with everything else.
$(STAMP): requirements.txt pyproject.toml
	@rm -f $@
	@$(call q,PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"reprolib needs Python 3.11 or later, and PYTHON={sys.argv[1]} is " \
	  + sys.version.split()[0] + ": name a newer one, as in make figures PYTHON=python3.12")' $(call q,PYTHON)
	$(call q,PYTHON) -m venv $(VENV)
	$(if $(value TORCH_INDEX),$(BIN)/python -m pip install --disable-pip-version-check --no-deps --index-url $(call q,TORCH_INDEX) $(TORCH))
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
