# Two commands do everything on a fresh machine: `make run` and `make test`.
# Each makes .venv and installs what it needs; the second time both start at once.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# our modules are compiled once, not by each process
unexport PYTHONDONTWRITEBYTECODE
# the version of torch, with the torchvision that belongs to it, instead of those of constraints.txt; empty: those
TORCH ?=
CONSTRAINTS := $(if $(TORCH),$(VENV)/constraints.txt,constraints.txt)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)

COMPARE ?= leaderboard/compare/cpu
# a hundred products take minutes on the larger networks: of those the best two take part
COMPARED := trace,trace[method=hutchinson,samples=10],ggn-trace,paper-trace,backpack-trace,
COMPARED := $(COMPARED)backpack-trace[matrix=gauss-newton],backpack-trace[matrix=gauss-newton,method=monte-carlo,samples=1],
COMPARED := $(COMPARED)backpack-trace[matrix=gauss-newton,method=monte-carlo,samples=10],nngeometry-trace,asdl-trace,
COMPARED := $(COMPARED)asdl-trace[method=monte-carlo,samples=1],curvlinops-trace[samples=10],
COMPARED := $(COMPARED)curvlinops-trace[matrix=gauss-newton,samples=10],
COMPARED := $(COMPARED)curvlinops-trace[matrix=gauss-newton,method=hutchpp,samples=30],
COMPARED := $(COMPARED)curvlinops-trace[matrix=gauss-newton,method=hutchpp,samples=99],
COMPARED := $(COMPARED)curvlinops-trace[matrix=gauss-newton,method=xtrace,samples=30],
COMPARED := $(COMPARED)curvlinops-trace[matrix=gauss-newton,method=xtrace,samples=100],eigenthings-trace[samples=10],
COMPARED := $(COMPARED)eigenthings-trace[matrix=gauss-newton,samples=10],pyhessian-trace,
COMPARED := $(COMPARED)pyhessian-trace[samples=10,tolerance=0]
DATA := $(if $(wildcard $(SHARPBENCH_DATA)/MNIST/raw),mnist,digits)

.PHONY: run test slow lint types layers workflows asv asv-history gpu docs example publish site browser package compare clean

run: $(VENV)/.run  ## the main job: train on the embedded digits, measure, print the leaderboard
	$(BIN)/sharpbench run --measures minimum,normalized --models lenet,mlp --workers 2

test: $(VENV)/.test  ## the tests, without the slow ones
	$(BIN)/python -m pytest --numprocesses 2

slow: $(VENV)/.test  ## the slow tests alone
	$(BIN)/python -m pytest --numprocesses 2 -m slow

# not the tests, which misspell words on purpose
SPELLED := README.md CHANGELOG.md CONTRIBUTING.md docs leaderboard sharpbench measures peers benchmarks examples

lint: $(VENV)/.dev  ## style, spelling, and the grammar of the pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell $(SPELLED)
	$(BIN)/python .ci/grammar

types: $(VENV)/.dev
	$(BIN)/mypy

layers: $(VENV)/.dev
	$(BIN)/lint-imports

workflows: $(VENV)/.dev  ## the workflows: sound, and safe from what strangers send
	$(BIN)/actionlint
	$(BIN)/zizmor --offline --quiet .github/workflows

# asv writes the list of benchmarks next to its results, also where it keeps none: this keeps the checkout as it is
ASV_SCRATCH := .asv/scratch

asv: $(VENV)/.dev  ## is the benchmark suite sound? the command's times, and the errors that gate, once each
	mkdir -p $(ASV_SCRATCH)
	sed -e 's#"benchmarks/results"#"$(ASV_SCRATCH)/results"#' asv.conf.json > $(ASV_SCRATCH)/asv.conf.json
	sed -i -e 's#"\(repo\|benchmark_dir\|results_dir\)": "#&$(CURDIR)/#' $(ASV_SCRATCH)/asv.conf.json
	$(BIN)/asv check --config $(ASV_SCRATCH)/asv.conf.json --python=same
	$(BIN)/asv machine --config $(ASV_SCRATCH)/asv.conf.json --yes --machine here
	$(BIN)/asv run --config $(ASV_SCRATCH)/asv.conf.json --python=same --quick --dry-run --machine here --bench '^(command|curvature\.Exactness)'

ASV_MACHINE ?= 2-core-epyc
asv-history: $(VENV)/.dev  ## the committed results anew, of their commits and main's last; hours on a quiet machine
	mkdir -p $(ASV_SCRATCH)
	ls benchmarks/results/$(ASV_MACHINE) | sed -n 's/-virtualenv-.*//p' > $(ASV_SCRATCH)/commits
	git rev-parse main >> $(ASV_SCRATCH)/commits
	$(BIN)/asv machine --yes --machine $(ASV_MACHINE)
	$(BIN)/asv run --machine $(ASV_MACHINE) HASHFILE:$(ASV_SCRATCH)/commits

gpu:  ## all that a machine with a GPU can tell, in eight minutes; GPU="--device cpu --tiny" tries it out
	$(PYTHON) benchmarks/gpu.py $(GPU)

example: $(VENV)/.test  ## the example plugin: written, validated, installed and run as docs/plugin.md says
	$(BIN)/python -m pytest tests/project/test_plugin_page.py -m "slow or not slow"

compare: $(VENV)/.test  ## those contestants on the paper's networks; MNIST where $SHARPBENCH_DATA holds it
	$(BIN)/sharpbench compare --quantity trace --models mlp,small-mlp,lenet,small-cnn --n 1024 --dataset $(DATA) --timeout 240 --measures '$(COMPARED)' --output $(COMPARE)

docs: $(VENV)/.run  ## the page of each measure, from its class
	$(BIN)/sharpbench docs docs/measures

publish: $(VENV)/.run  ## the leaderboard's pages and plots, from leaderboard/results
	$(BIN)/sharpbench publish

site: $(VENV)/.docs  ## documentation, leaderboard and interactive board as one site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

browser: $(VENV)/.browser  ## the board in Chromium; skipped where there is none
	$(BIN)/python -m pytest tests/leaderboard/test_browser.py -m "slow or not slow"

package: $(VENV)/.package  ## the wheel and the sdist in dist/: checked, installed into an empty environment, and run
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist
	$(BIN)/twine check --strict dist/*
	DIST=$(CURDIR)/dist $(BIN)/python -m pytest tests/project/test_package.py -m "slow or not slow"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH),{ sed '/^torch/d' constraints.txt; echo torch==$(TORCH); } > $(CONSTRAINTS))

$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable .
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[test]'
	@touch $@ $(VENV)/.run

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.run $(VENV)/.test

$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[docs]'
	@touch $@ $(VENV)/.run

$(VENV)/.browser: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[browser]'
	@touch $@ $(VENV)/.run $(VENV)/.test

$(VENV)/.package: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[package]'
	@touch $@ $(VENV)/.run $(VENV)/.test

clean:
	rm -rf $(VENV) .asv sharpbench-results
