# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
# Address of an index that has PyTorch's CPU wheels (pytorch.org, "Start locally", CPU, shows it).
# Without it torch comes from pip's own index, on Linux with 5 GB of CUDA libraries.
TORCH_INDEX ?=
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# The lower bound of every dependency of the package and of its extras, one `name==version` a line;
# the tools of test and dev are pinned by nothing here.
LOWEST := import re, tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
    x = p["optional-dependencies"]; print(*(re.sub(r"(\[.*\])?>=", "==", each) for each in \
    [*p["dependencies"], *(y for n in x if n not in ("dev", "test") for y in x[n])]), sep="\n")

BENCH := build/bench/bin

.PHONY: bench demo test slow simulations cluster faults fuzz mutants lint types check docs pictures package transcript lowest install clean

demo: $(STAMP)
	$(BIN)/medsgssl demo --out demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadgroup

slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

# How often verdicts are wrong, and what they can find; about an hour of one core.
simulations: $(STAMP)
	OMP_NUM_THREADS=1 nice -n 19 $(BIN)/python -m benchmarks.verdicts --out simulations

# torchrun, two machines, killed processes, a Slurm of its own where slurm-wlm and munge are installed
# (as root), catalogs up to a million rows: docs/results/cluster.md.
cluster: $(STAMP)
	MEDSGSSL_SCENES=docs/results/cluster $(BIN)/python -m pytest -m "slow or not slow" \
	  tests/cli/test_torchrun.py tests/study/test_cluster.py tests/study/test_slurm.py
	$(BIN)/python -m benchmarks.catalog_size docs/results/cluster/catalog.jsonl --work build/catalog
	$(BIN)/python -m tests.scenes docs/results/cluster docs/results/cluster.md

# Kills, signals, full disks, damaged files, fuzzed headers: one table, and docs/results/faults.md.
# Half an hour on two cores; FAULTS="kills study" runs some groups and keeps the rows of the others.
faults: $(STAMP)
	$(BIN)/python -m tests.faults.lab $(FAULTS) \
	  --out docs/results/faults.jsonl --page docs/results/faults.md

# Random damage to DICOM headers, images, tables and stores: 2,000 examples each (FUZZ=N for others).
FUZZ ?= 2000
fuzz: $(STAMP)
	MEDSGSSL_FUZZ=$(FUZZ) $(BIN)/python -m pytest -q tests/faults/test_fuzz.py \
	  tests/images/test_dicom.py -k "no_header or test_fuzz"

# Do the tests notice when the code computes something else? ROOM: losses, methods, ops, transforms,
# evaluation. Results are kept one by one; a run that was stopped goes on.
ROOM ?= losses
mutants: $(STAMP)
	nice $(BIN)/python -m tests.mutation $(ROOM)
	$(BIN)/python -m tests.mutation --page > docs/results/mutants.md

# Every figure of docs/results/speed.md, measured beside the peers in an environment of their own;
# start-up before they are there, as they bring libraries that load by themselves. About 45 minutes
# of a quiet machine; parts that are measured already stay.
bench:
	$(PYTHON) -m venv build/bench
	$(BENCH)/pip install --quiet --constraint constraints.txt --editable .
	$(BENCH)/python -m benchmarks.speed run docs/results/speed start_up
	$(BENCH)/pip install --quiet lightly kornia
	$(BENCH)/python -m benchmarks.speed run docs/results/speed
	$(BENCH)/python -m benchmarks.speed page docs/results/speed docs/results/speed.md

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP)
	$(BIN)/mypy

check: lint types test

# The documentation site, in site/; any warning is an error.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The pictures of README and docs that the code draws; a few minutes of one core.
pictures: $(STAMP)
	$(BIN)/python -m docsite.pictures docs/images

# Wheel and sdist, each installed into an environment of its own and used. Needs the package index.
package: $(STAMP)
	rm -rf dist
	$(BIN)/python -m hatchling build
	for built in dist/*.whl dist/*.tar.gz; do \
	  rm -rf build/fresh && $(PYTHON) -m venv build/fresh && \
	  build/fresh/bin/pip install --quiet --constraint constraints.txt $$built && \
	  VENV=$(CURDIR)/build/fresh sh tests/fresh.sh || exit 1; \
	done

# A first hour with the wheel in an environment of its own, as docs/results/transcript.md; a quarter
# of an hour on two cores. DICOM names a folder of radiographs to score.
transcript: $(STAMP)
	@test -n "$(DICOM)" || { echo "name a folder of DICOM radiographs: make transcript DICOM=FOLDER"; exit 2; }
	rm -rf dist && $(BIN)/python -m hatchling build -t wheel && mkdir -p build
	PYTHON=$(PYTHON) TORCH_INDEX=$(TORCH_INDEX) benchmarks/transcript.sh dist/*.whl constraints.txt \
	  $(DICOM) > build/transcript.md
	cp build/transcript.md docs/results/transcript.md

# The lowest versions that pyproject.toml promises, installed and tested.
lowest:
	mkdir -p build && $(PYTHON) -c '$(LOWEST)' > build/lowest.txt
	$(PYTHON) -m venv build/lowest
	build/lowest/bin/pip install --quiet --constraint build/lowest.txt --editable '.[docs,test]'
	build/lowest/bin/python -m pytest -n 2 --dist loadgroup

install: $(STAMP)

# torch goes first, so that pip takes one pinned build and does not choose another later.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@if [ -z "$(TORCH_INDEX)" ] && ! command -v nvidia-smi >/dev/null; then \
	  echo "No GPU here: make TORCH_INDEX=ADDRESS installs PyTorch's CPU wheels, 5 GB less (see docs/install.md)"; fi
	$(BIN)/pip install --quiet --constraint constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch torchvision
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) demo build dist site
