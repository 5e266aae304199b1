# Every target makes the environment that it needs. PYTHON may name another interpreter (3.11 or newer).
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo demo-headless notebook editors test check format bench mutants soak fuzz clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip --quiet --disable-pip-version-check install --upgrade 'pip>=25.1'
	$(BIN)/python -m pip --quiet --disable-pip-version-check install --editable . --group dev
	touch $(STAMP)

demo: $(STAMP)          ## A notebook in your browser, for several people, online or not.
	$(BIN)/collab demo

demo-headless: $(STAMP) ## Two programs share one room, offline and on, are killed, and come out identical.
	$(BIN)/collab demo --headless

notebook:               ## Build the notebook's page anew, which is committed. Needs Node.
	cd examples/notebook && npm ci --ignore-scripts --no-audit --no-fund && npm run check && npm run build

editors: $(STAMP)       ## ProseMirror, Monaco and Quill in your browser, over a relay. Needs Node.
	cd examples/editors && npm ci --ignore-scripts --no-audit --no-fund && npm start

JOBS ?= 2
test: $(STAMP)          ## All tests, in JOBS processes.
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

mutants: $(STAMP)       ## Relays and devices broken on purpose: after how many histories is each caught?
	$(BIN)/python -m tests.simulation.mutants

MINUTES ?= 10
soak: $(STAMP)          ## Histories of faults from a random seed, for MINUTES; a failure prints its seed.
	nice -n 10 $(BIN)/python -m tests.simulation --minutes $(MINUTES) --jobs 2


fuzz: $(STAMP)          ## Hostile updates through guard and engine, for MINUTES; what breaks is kept.
	nice -n 10 $(BIN)/python -m tests.hostile.fuzz --minutes $(MINUTES) --jobs 2

check: $(STAMP)         ## Format, lint, types, and which module may import which.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layout.py

format: $(STAMP)        ## Put the code in its format.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)         ## The figures that README and ARCHITECTURE.md quote; GROUP=chat for those alone.
	$(BIN)/python -m benchmarks $(GROUP)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
