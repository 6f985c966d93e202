# Two commands: `make compare` and `make test`. Each sets itself up; a second call installs nothing again.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=

.PHONY: compare test test-all bench bench-learning router-tables docs lint types format setup clean

compare: setup  ## train REINFORCE, A2C and PPO on the notebook market and on us_equity; print who is better
	$(BIN)/sor-sb3 compare --market notebook --env VenueSelect-v1 $(ARGS)
	$(BIN)/sor-sb3 compare --market us_equity $(ARGS)

test: setup  ## what a change can break; ARGS="-k name" for a part
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=10 $(ARGS)

test-all: setup  ## every test, with ten times the examples, and coverage by branch; over half an hour
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "" --hypothesis-profile=thorough --cov --cov-report=term $(ARGS)

bench: setup  ## every benchmark but the next, into docs/performance.md; ARGS=--quick for a look
	$(BIN)/python benchmarks/run_all.py $(ARGS)

bench-learning: setup  ## time to 95 % of what a long run reaches; hours of SB3's defaults, goes on where it was
	$(BIN)/python benchmarks/time_to_result.py --out logs/bench/time_to_result.json $(ARGS)
	$(BIN)/python benchmarks/run_all.py --page-only

router-tables: setup  ## every rule on every preset and env, into docs/router_tables.md; goes on where it was
	$(BIN)/sor-sb3 compare --market synthetic,notebook,notebook_blind --env OrderSplit-v1,OrderExecute-v1,OrderPlace-v1 \
		--algos none --rules all --name routers $(ARGS)
	cp logs/routers/table.md docs/router_tables.md

docs: setup  ## the site, into site/; its tutorials run. Opens from disk: site/index.html
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	OMP_NUM_THREADS=1 NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

setup: $(READY)

# torch first and by itself, so that pip takes the plain build; everything else is pinned by constraints.txt.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

clean:
	rm -rf $(VENV) build *.egg-info
