# `make demo` and `make test` install what they need into .venv at their first call.

PYTHON ?= python3
# The version is named: a bare `torch` takes the newest wheel, which on Linux pulls gigabytes of
# CUDA, while this one is taken as a CPU build from any index that has it. Where the configured
# index has none: make test TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH ?= torch==2.13.0
TORCH_INDEX ?=

BIN := .venv/bin
STAMP := .venv/.installed

export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
export NO_MKDOCS_2_WARNING := 1

.DEFAULT_GOAL := help
.PHONY: demo serve test test-portable lint docs docs-tables clean help

demo: $(STAMP) ## ask, draw and edit with the shipped model; the pictures land in demo/
	OMP_NUM_THREADS=1 $(BIN)/arm demo --out demo

serve: $(STAMP) ## serve the shipped model on http://127.0.0.1:8000, for any OpenAI client
	$(BIN)/arm serve --model micro

test: $(STAMP) ## all that has to pass: ruff, the tests, pyright, the documentation
	$(BIN)/ruff check src tests docs
	$(BIN)/ruff format --check src tests docs
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2
	$(BIN)/pyright
	$(BIN)/mkdocs build --strict

test-portable: $(STAMP) ## the numeric tests once more, with the kernels of a processor without AVX
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 \
		tests/models tests/hf tests/test_generate.py tests/test_losses.py tests/test_sampling.py tests/rl/test_policy.py

lint: $(STAMP) ## ruff and pyright alone
	$(BIN)/ruff check src tests docs
	$(BIN)/ruff format --check src tests docs
	$(BIN)/pyright

docs: $(STAMP) ## the documentation, as a website in site/
	$(BIN)/mkdocs build --strict

docs-tables: $(STAMP) ## the documentation's tables and numbers, made anew from the files of scores
	OMP_NUM_THREADS=1 $(BIN)/arm train synergy:micro out=docs/synergy
	$(BIN)/python docs/tables.py

clean: ## remove caches, builds and the demo's pictures; .venv and runs/ stay
	rm -rf demo dist site .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v < (3, 13) and "arm needs Python 3.11 or 3.12, and $(PYTHON) is %d.%d; name another: make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install '$(TORCH)' $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	$(BIN)/pip install -e '.[dev]'
	@touch $@
