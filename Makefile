# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test slow simulations faults lint types check install clean

demo: $(STAMP)
	$(BIN)/medsgssl demo --out demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadgroup

slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

# How often verdicts are wrong, and what they can find; about an hour of one core.
simulations: $(STAMP)
	OMP_NUM_THREADS=1 nice $(BIN)/python benchmarks/verdicts.py --out simulations

# Kills, signals, full disks, damaged files: one table. Half an hour on two cores.
faults: $(STAMP)
	$(BIN)/python -m tests.faults.lab
	MEDSGSSL_FUZZ=2000 $(BIN)/python -m pytest -q tests/images/test_dicom.py tests/faults/test_fuzz.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP)
	$(BIN)/mypy

check: lint types test

install: $(STAMP)

# torch goes first, so that pip takes one pinned build instead of resolving anew.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch torchvision
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) demo build dist
