# `make test` is all that a fresh machine with Python and make needs; the environments are made on the first call.
PYTHON ?= python3
VENV := .venv
NUMPY_VENV := .venv-numpy
BIN := $(VENV)/bin
METADATA := setup.cfg pyproject.toml constraints.txt
# A worker per core, each with one thread; fixtures are shared by the tests of a file.
WORKERS := --numprocesses auto --dist loadfile
IN_PARALLEL := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.PHONY: demo test test-numpy lint types evaluate results bench bench-smoke format faults check clean

demo: $(VENV)/.installed          ## a picture, a sentence with a blank, and what every method makes of it
	$(BIN)/birnn-decode demo

test: $(VENV)/.installed          ## the whole test suite
	$(IN_PARALLEL) $(BIN)/python -m pytest $(WORKERS)

test-numpy: $(NUMPY_VENV)/.installed  ## the test suite in an environment without PyTorch
	$(NUMPY_VENV)/bin/python -c "import importlib.util as u; assert u.find_spec('torch') is None, 'torch is installed here'"
	$(IN_PARALLEL) $(NUMPY_VENV)/bin/python -m pytest $(WORKERS)

lint: $(VENV)/.installed          ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed         ## static types
	$(BIN)/mypy

faults: $(VENV)/.installed        ## plant faults in a copy of the library and see the tests catch each of them
	$(BIN)/python tests/plant_faults.py

evaluate: $(VENV)/.installed build/held-out  ## how well each method fills blanks in captions of held-out scenes
	$(BIN)/birnn-decode evaluate --captions build/held-out/dataset.json --images build/held-out --blank 0.5

build/held-out: | $(VENV)/.installed
	rm -rf $@.unfinished
	$(BIN)/birnn-decode scenes $@.unfinished --count 1000 --seed 2 --sentences 1
	mv $@.unfinished $@

results: $(VENV)/.installed       ## all of docs/results.md: make results DATA=folder OUT=folder; hours
	BIRNN_DECODE=$(BIN)/birnn-decode BIRNN_DECODE_PYTHON=$(BIN)/python benchmarks/results.sh $(DATA) $(OUT)

bench: $(VENV)/.installed         ## the benchmarks, a table and a picture of each figure: in build/benchmarks; twenty minutes
	mkdir -p build/benchmarks
	$(BIN)/python -m pytest benchmarks --benchmark-only --benchmark-columns=median,iqr,rounds \
	  --benchmark-json=build/benchmarks/benchmark.json
	$(BIN)/python benchmarks/report.py build/benchmarks build/benchmarks/benchmark.json

bench-smoke: $(VENV)/.installed   ## every benchmark once, untimed
	$(BIN)/python -m pytest benchmarks --benchmark-disable

check: test lint types test-numpy bench-smoke ## everything that a commit must pass

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(NUMPY_VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache .benchmarks

$(VENV)/.installed: $(METADATA)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[cli,figures,evaluation,efficientnet,hdf5,huggingface,test,dev]'
	touch $@

$(NUMPY_VENV)/.installed: $(METADATA)
	$(PYTHON) -m venv $(NUMPY_VENV)
	$(NUMPY_VENV)/bin/pip install --quiet -c constraints.txt -e '.[test]'
	touch $@
