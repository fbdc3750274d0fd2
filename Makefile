# Each target makes the virtual environment by itself, first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Several processes, of one thread each, use a machine better than one with several threads.
PARALLEL := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses=auto --dist=loadfile
SEED ?= 100

.PHONY: run lab book check test seeds bench clean

run: $(READY)  ## execute every lesson, with progress and a summary; results in outputs/
	$(BIN)/cnnlib run

lab: $(READY)  ## open the course in JupyterLab
	$(BIN)/jupyter lab notebooks/00_start_here.ipynb

book: $(READY)  ## the lessons as a web site that works offline, in outputs/book
	$(BIN)/python book/build.py

check: $(READY)  ## an answer in two minutes, while one works: style, and the tests that are quick
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PARALLEL) -m "not slow" tests

test: $(READY)  ## everything that must hold: style, unit tests, and every lesson executed by nbval
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PARALLEL) tests
	$(PARALLEL) --nbval-lax --nbval-current-env --nbval-cell-timeout=900 -p no:cacheprovider notebooks

seeds: $(READY)  ## every lesson by papermill with another seed than its own; make seeds SEED=7
	$(BIN)/cnnlib run -p seed=$(SEED) -j $$(nproc 2>/dev/null || sysctl -n hw.ncpu) -o outputs/seed-$(SEED)

bench: $(READY)  ## speeds, as ratios within one run; an hour, on a machine that does nothing else
	$(BIN)/python benchmarks/feature_capture.py
	$(BIN)/python benchmarks/fit_overhead.py
	$(BIN)/python benchmarks/channels_last.py
	$(BIN)/python benchmarks/side_by_side.py
	$(BIN)/python benchmarks/freed_memory.py
	$(BIN)/python benchmarks/busy_machine.py
	$(BIN)/python benchmarks/training_speed.py

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cnnlib needs Python 3.11 or newer, and this is " + sys.version.split()[0] + "; try: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

clean:  ## remove what the other targets made
	rm -rf $(VENV) outputs data/mnist.csv
