# make demo   the main job on the built-in model -> reports/demo/index.html
# make quick  ruff, and the tests that take no other tools and no patience; ARGS=tests/attribution for some of them
# make test   lint, types and all tests
# make bench  each method's time over its lower bound, beside other tools
# make lint, make format, make types   ruff's checks, ruff's layout, mypy
# make index  the generated table of methods and index of the command line, anew
#
# Environments are kept in the user's cache folder under a name that ends in the hash of pyproject.toml and of the
# Python version, so that checkouts share them: quick-... with the extra `dev`, env-... with the extra `test`. They
# hold the dependencies; the code comes from src/.

PYTHON ?= python3
CACHE  := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pellucid
KEY    := $(shell (cat pyproject.toml; $(PYTHON) -c 'import sys; print(sys.version, sys.base_prefix)') | sha256sum | cut -c1-16)
ENV    := $(CACHE)/env-$(KEY)
QUICK  := $(CACHE)/quick-$(KEY)
RUN    := PYTHONPATH=src $(ENV)/bin/python
PIP    := -m pip install --quiet --disable-pip-version-check
READY  := $(ENV)/ready
TF     := $(ENV)/tensorflow

.PHONY: demo quick test check lint ruff-check ruff-format format types index bench weights clean

demo: $(READY)
	$(RUN) -m pellucid demo --output reports/demo/index.html

quick: lint
	OMP_NUM_THREADS=1 PYTHONPATH=src $(QUICK)/bin/python -m pytest -n 2 --dist worksteal -m "not slow" -rfE $(ARGS)

test: check $(TF)/ready
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist worksteal $(ARGS)
	OMP_NUM_THREADS=1 KERAS_BACKEND=tensorflow PYTHONPATH=src $(TF)/bin/python -m pytest -n 2 --dist worksteal tests/with_tensorflow \
		src/pellucid/importers/tensorflow

check: $(READY)
	$(ENV)/bin/ruff check .
	$(ENV)/bin/ruff format --check .
	$(RUN) -m mypy

lint: ruff-check ruff-format

ruff-check: $(QUICK)/ready
	$(QUICK)/bin/ruff check .

ruff-format: $(QUICK)/ready
	$(QUICK)/bin/ruff format --check .

format: $(QUICK)/ready
	$(QUICK)/bin/ruff check --fix .
	$(QUICK)/bin/ruff format .

types: $(QUICK)/ready
	PYTHONPATH=src $(QUICK)/bin/python -m mypy

index: $(QUICK)/ready
	PYTHONPATH=src $(QUICK)/bin/python scripts/methods_table.py
	PYTHONPATH=src $(QUICK)/bin/python scripts/cli_index.py

bench: $(READY)
	$(RUN) -m benchmarks

weights: $(READY)
	$(RUN) scripts/train_shapes.py

# An environment is several GB: those that no checkout has used for a week go when a new one is made.
define environment
	@mkdir -p $(CACHE)
	@find $(CACHE) -maxdepth 1 \( -name 'env-*' -o -name 'quick-*' \) -mtime +7 -exec rm -rf {} +
	@rm -rf $(@D)
	@echo "Making the environment in $(@D) (a few minutes, once)"
	$(PYTHON) -m venv $(@D)
endef

$(READY):
	$(environment)
	$(ENV)/bin/python $(PIP) '.[test]'
	@# It asks for an old version of a package that it does not use here.
	$(ENV)/bin/python $(PIP) --no-deps 'torchattacks==3.5.1'
	@touch $@

$(QUICK)/ready:
	$(environment)
	$(QUICK)/bin/python $(PIP) '.[dev]'
	@touch $@

# TensorFlow lies in an environment over the first one: some tools of the tests import it wherever they find it.
$(TF)/ready: $(READY)
	@rm -rf $(TF)
	@echo "Adding TensorFlow in $(TF) (once)"
	$(PYTHON) -m venv --without-pip $(TF)
	@$(ENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> $$($(TF)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/below.pth
	$(TF)/bin/python $(PIP) $$($(TF)/bin/python -c \
		'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["tensorflow"])')
	@touch $@

clean:
	rm -rf $(ENV) $(QUICK) reports build dist .pytest_cache .mypy_cache .ruff_cache
