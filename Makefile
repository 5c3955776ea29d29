# make demo   the main job on the built-in model -> reports/demo/index.html
# make test   lint, types and all tests
# make bench  each method's time over its floor, beside other tools
#
# The environment lies in the user's cache folder under a name that is the hash of pyproject.toml and of
# the Python version, so that checkouts share it. It holds the dependencies; the code comes from src/.

PYTHON ?= python3
CACHE  := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pellucid
KEY    := $(shell (cat pyproject.toml; $(PYTHON) -c 'import sys; print(sys.version, sys.prefix)') | sha256sum | cut -c1-16)
ENV    := $(CACHE)/env-$(KEY)
RUN    := PYTHONPATH=src $(ENV)/bin/python
READY  := $(ENV)/ready

.PHONY: demo test check bench weights clean

demo: $(READY)
	$(RUN) -m pellucid demo --output reports/demo/index.html

test: check
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 $(ARGS)

check: $(READY)
	$(ENV)/bin/ruff check .
	$(ENV)/bin/ruff format --check .
	$(RUN) -m mypy

bench: $(READY)
	$(RUN) -m benchmarks

weights: $(READY)
	$(RUN) scripts/train_shapes.py

# An environment is several GB: those that no checkout has used for a week go when a new one is made.
$(READY):
	@mkdir -p $(CACHE)
	@find $(CACHE) -maxdepth 1 -name 'env-*' -mtime +7 -exec rm -rf {} +
	@rm -rf $(ENV)
	@echo "Making the environment in $(ENV) (a few minutes, once)"
	$(PYTHON) -m venv $(ENV)
	$(ENV)/bin/python -m pip install --quiet --disable-pip-version-check '.[test]'
	@# It asks for an old version of a package that it does not use here.
	$(ENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps 'torchattacks==3.5.1'
	@touch $(READY)

clean:
	rm -rf $(ENV) reports build dist .pytest_cache .mypy_cache .ruff_cache
