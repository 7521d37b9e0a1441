# `make test` is all that a fresh machine with Python and make needs; the environments are made on the first call.
PYTHON ?= python3
VENV := .venv
DEVICE := cuda
NUMPY_VENV := .venv-numpy
APP_VENV := .venv-app
BIN := $(VENV)/bin
METADATA := setup.cfg pyproject.toml constraints.txt
# A worker per core, each with one thread; fixtures are shared by the tests of a file.
WORKERS := --numprocesses auto --dist loadfile
# The programs that tests start compile the library once, also where the environment forbids to keep what is compiled.
IN_PARALLEL := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=

.PHONY: demo test thorough kills test-numpy test-app crowd lint types docs dist evaluate inpainting results results-page bench bench-gpu bench-smoke browser format faults check clean

demo: $(VENV)/.installed          ## a picture, a sentence with a blank, and what every method makes of it
	$(BIN)/birnn-decode demo

test: $(VENV)/.installed          ## the whole test suite
	$(IN_PARALLEL) $(BIN)/python -m pytest $(WORKERS)

thorough: $(VENV)/.installed      ## twelve thousand random problems against enumeration and the written-out algorithm
	$(IN_PARALLEL) $(BIN)/python -m pytest -m thorough --numprocesses auto tests/test_thorough.py

kills: $(VENV)/.installed         ## kill a run over 2,000 pictures fifty times, with one process and with two workers; half an hour
	$(IN_PARALLEL) $(BIN)/python -m pytest -m kills -s tests/test_datasets_kills.py

test-numpy: $(NUMPY_VENV)/.installed  ## the test suite in an environment without PyTorch
	$(NUMPY_VENV)/bin/python -c "import importlib.util as u; assert u.find_spec('torch') is None, 'torch is installed here'"
	$(IN_PARALLEL) $(NUMPY_VENV)/bin/python -m pytest $(WORKERS)

test-app: $(APP_VENV)/.installed    ## the app, in an environment of its own: Gradio needs an older Pillow
	$(IN_PARALLEL) $(APP_VENV)/bin/python -m pytest -W ignore::ResourceWarning -m "app and not crowd" tests/test_app.py

crowd: $(APP_VENV)/.installed     ## the app's speed: one user, then eight users at once for a minute
	$(IN_PARALLEL) $(APP_VENV)/bin/python -m pytest -W ignore::ResourceWarning -m crowd -s tests/test_app.py

lint: $(VENV)/.installed          ## style, docstrings included
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tests/plant_faults.py --check

types: $(VENV)/.installed         ## static types
	$(BIN)/mypy

docs: $(VENV)/.installed          ## the documentation site, in build/docs; a warning is an error
	rm -rf build/docs
	$(BIN)/python -m sphinx -b html -W --keep-going -n -q docs build/docs

dist: $(VENV)/.installed          ## wheel and source archive in dist, checked and tried in an environment of their own
	rm -rf dist build/dist build/lib
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*
	$(PYTHON) -m venv build/dist
	build/dist/bin/pip install --quiet -c constraints.txt dist/*.whl
	cd build/dist && bin/python -c "import birnn_decode as b; assert b.__file__.startswith('$(CURDIR)/build/dist/'), b.__file__"
	cd build/dist && bin/python $(CURDIR)/examples/toy_scorers.py
	build/dist/bin/pip install --quiet -c constraints.txt "$$(echo dist/*.whl)[cli]"
	cd build/dist && bin/birnn-decode --version && bin/birnn-decode demo

faults: $(VENV)/.installed        ## plant faults in a copy of the library and see the tests catch each of them
	$(BIN)/python tests/plant_faults.py

evaluate: $(VENV)/.installed build/held-out  ## how well each method fills blanks in captions of held-out scenes
	$(BIN)/birnn-decode evaluate --captions build/held-out/dataset.json --images build/held-out --blank 0.5

build/held-out: | $(VENV)/.installed
	rm -rf $@.unfinished
	$(BIN)/birnn-decode scenes $@.unfinished --count 1000 --seed 2 --sentences 1
	mv $@.unfinished $@

inpainting: $(VENV)/.installed    ## fill holes in pictures with Context Encoders and with searches: in build/inpainting; ten minutes
	$(BIN)/python -m examples.inpainting

results: $(VENV)/.installed       ## measure everything in docs/results.md: make results DATA=folder OUT=folder; hours
	BIRNN_DECODE=$(BIN)/birnn-decode BIRNN_DECODE_PYTHON=$(BIN)/python benchmarks/results.sh $(DATA) $(OUT)

results-page: $(VENV)/.installed  ## the tables and figures of docs/results.md, from the CSV files beside it
	$(BIN)/python benchmarks/results_page.py

bench: $(VENV)/.installed         ## the benchmarks, a table and a picture of each figure: in build/benchmarks; twenty minutes
	mkdir -p build/benchmarks
	$(BIN)/python -m pytest benchmarks --benchmark-only --benchmark-columns=median,iqr,rounds \
	  --benchmark-json=build/benchmarks/benchmark.json
	$(BIN)/python benchmarks/report.py build/benchmarks build/benchmarks/benchmark.json

bench-gpu: $(VENV)/.installed     ## decodes on a GPU, under eight minutes; a table in build/benchmarks: make bench-gpu DEVICE=cpu SIZE=--small
	$(BIN)/python benchmarks/gpu.py --device $(DEVICE) $(SIZE) build/benchmarks

bench-smoke: $(VENV)/.installed   ## every benchmark once, untimed
	$(BIN)/python -m pytest benchmarks --benchmark-disable

check: test lint types docs test-numpy test-app bench-smoke ## everything that a commit must pass

browser:                          ## Chromium, for the tests of pages; Debian and Ubuntu, as root
	command -v chromium || { apt-get update && apt-get install --yes --no-install-recommends chromium; }

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(NUMPY_VENV) $(APP_VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache .benchmarks

$(VENV)/.installed: $(METADATA)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[cli,figures,evaluation,efficientnet,hdf5,huggingface,inpainting,molecules,parquet,ray,peft,test,browser,notebook,docs,dev]'
	touch $@

$(NUMPY_VENV)/.installed: $(METADATA)
	$(PYTHON) -m venv $(NUMPY_VENV)
	$(NUMPY_VENV)/bin/pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

$(APP_VENV)/.installed: $(METADATA)
	$(PYTHON) -m venv $(APP_VENV)
	sed 's/^pillow==.*/pillow<13/' constraints.txt > $(APP_VENV)/constraints.txt
	$(APP_VENV)/bin/pip install --quiet -c $(APP_VENV)/constraints.txt -e '.[app,test,browser,molecules]'
	touch $@
