# Everything works from a clean clone and again with an existing .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test test-slow test-gpu test-quantization lint format bench schema clean help

help:            ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*##/\t/'

setup: $(STAMP)  ## make .venv and install the tested set of packages into it

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# torch first: a CPU build that is already there satisfies the others
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,lint]'
	@touch $(STAMP)

demo: setup      ## run the quickstart: from recipe text to a gated release
	$(BIN)/proofbox run quickstart

test: setup      ## the test suite that CI runs
	$(BIN)/python -m pytest -n auto --dist loadfile

test-slow: setup ## simulations and kill tests that take minutes
	$(BIN)/python -m pytest -m slow

test-gpu: setup  ## tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

# gptqmodel is built here, which takes half a minute. On few cores it crashes for want of a worker,
# and would compile an extension at its first use. Torch must stay the one that is installed.
QUANTIZATION_TESTS = $(shell grep -rlE 'importorskip.(package|.(gptqmodel|bitsandbytes|torchao))' tests)
test-quantization: setup ## tests that need the extras gptq, bitsandbytes and torchao, which it installs
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[gptq,bitsandbytes,torchao]'
	GPTQMODEL_CPU_WORKERS=2 GPTQMODEL_DISABLE_PACK_EXT=1 \
		$(BIN)/python -m pytest -n auto --dist loadfile $(QUANTIZATION_TESTS)

lint: setup      ## ruff, strict types, layering
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layering.py

format: setup    ## let ruff format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup     ## the benchmarks of benchmarks/README.md
	$(BIN)/python benchmarks/resume.py
	@echo "data: see the first lines of benchmarks/data_preparation.py and benchmarks/data_memory.py"

schema: setup    ## write recipes/*.schema.json from runner/recipe/
	$(BIN)/proofbox schema > recipes/recipe.schema.json
	$(BIN)/proofbox schema benchmark > recipes/benchmark.schema.json

clean:           ## remove what the other targets made
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
