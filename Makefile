# Everything a contributor types. Each target installs what it needs first, pinned in requirements/constraints.txt.

PYTHON ?= python3
BIN := .venv/bin
PINNED := pyproject.toml requirements/constraints.txt
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements/constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test check format examples bench docs hdfs hive gpu clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.dev ## Carry a year of flights through the main job; charts land in demo-output/
	$(BIN)/iceblink demo

test: .venv/.dev ## Run every test
	$(BIN)/python -m pytest -m 'not alone and not by_hand' --numprocesses 2 --dist worksteal
	$(BIN)/python -m pytest -m 'alone and not by_hand'

check: .venv/.dev ## Lint, formatting, types and architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py

format: .venv/.dev ## Format the code and mend what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

examples: .venv/.examples ## Run the examples, a sentence model among them
	$(BIN)/python -m pytest tests/test_examples.py

hdfs: .venv/.dev ## Run all tests on a real HDFS, those of two NameNodes too; wants Java 17 and Debian
	$(BIN)/python -m pytest -m 'hdfs or hdfs_pair' tests/integration

hive: .venv/.hive ## Run the suite of lakes against a real Hive metastore; wants Java 17 and Debian
	$(BIN)/python -m pytest -m hive tests/integration

gpu: .venv/.dev ## Run loaders and functions on a GPU; wants one of NVIDIA's
	$(BIN)/python -m pytest -m gpu tests/gpu tests/test_bench_smoke.py

bench: .venv/.bench ## Run us and the peers side by side and print the ratios
	$(BIN)/python -m bench

docs: .venv/.docs ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean: ## Remove what the other targets made, the environment too
	rm -rf .venv site demo-output lakehouse .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/pyvenv.cfg:
	$(PYTHON) -m venv .venv

.venv/.dev: $(PINNED) | .venv/pyvenv.cfg
	$(PIP) --editable '.[dev]'
	@touch $@

# The metastore's jars are PySpark's.
.venv/.hive: .venv/.dev
	$(PIP) --editable '.[dev]' pyspark
	@touch $@

.venv/.docs: .venv/.dev
	$(PIP) --editable '.[dev,docs]'
	@touch $@

.venv/.examples: .venv/.dev
	$(PIP) --editable '.[dev,examples]'
	@touch $@

# Daft says that it cannot live with pyarrow 26; it can, so it is installed without its requirements.
.venv/.bench: .venv/.dev
	$(PIP) --editable '.[dev,bench,examples]'
	$(PIP) --no-deps daft tqdm
	@touch $@
