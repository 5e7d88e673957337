# Every target does its own set-up: it needs Python 3.11, a C++ compiler, make and git, and nothing else.
SHELL := /bin/bash -euo pipefail
PYTHON ?= python3.11
PROFILE ?= quick
JOBS ?= 2
FUZZ_S ?= 60
FUZZ_READERS := edge lattice networks tokeniser record manifest grammar protocol update
FUZZ_EACH_S = $$(( $(FUZZ_S) / ($(words $(FUZZ_READERS)) + 1) ))
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
NATIVE := CMakeLists.txt $(wildcard src/edgespeech/engine/csrc/*)
TORCH := $(shell grep '^torch==' constraints.txt)
# A file's tests share what is costly to make, so a file runs in one process; tests/conftest.py has the longest first.
# One thread each: two processes whose libraries use every core wait for each other most of the time.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder
# The platform whose packages have their hashes in requirements.lock.
LOCKED := Linux x86_64 3.11
# The constraints bind the isolated build environment too.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help env lock audit test test-fast lint unit tables-check bench bench-check report replicate demo docs fuzz neon clean

help: ## show what there is
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

env: $(STAMP) ## make .venv with pinned packages and the native engine

# First what has a hash, on the platform of the lock; then torch by its pinned version alone, so that an index or a
# wheel folder that has the CPU build is used.
$(STAMP): pyproject.toml constraints.txt requirements.lock $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	[ "$$(uname -sm) $$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')" != '$(LOCKED)' ] \
	  || PIP_CONSTRAINT= $(BIN)/pip install -q --require-hashes --no-deps -r requirements.lock
	$(BIN)/pip install -q '$(TORCH)'
	$(BIN)/pip install -q -e '.[synth,cloud,peers,export,report,pipeline,dev]'
	touch $@

lock: env ## write requirements.lock again after a change of constraints.txt (Linux, x86-64, Python 3.11)
	PIP_CONSTRAINT= $(BIN)/python .ci/lock.py

audit: ## look for known vulnerabilities of the pinned packages (asks a public service)
	$(PYTHON) -m venv build/audit
	PIP_CONSTRAINT= build/audit/bin/pip install -q pip-audit
	build/audit/bin/pip-audit --disable-pip -r requirements.lock

test: lint unit tables-check bench-check ## everything CI checks

test-fast: env ## the tests but those marked slow: no training, servers, browser or whole replications
	$(PYTEST) -m "not slow"

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: env
	$(PYTEST)

tables-check: env
	$(BIN)/edgespeech report --check
	mkdir -p build && $(BIN)/edgespeech verify > build/verified.txt || { cat build/verified.txt; exit 1; }

bench-check: env
	$(BIN)/asv check --config asv.conf.json -E existing:$(BIN)/python

docs: env ## build the documentation's site in site/; a dead link is an error
	$(BIN)/mkdocs build --quiet

bench: env ## run asv on the working tree and build its pages
	$(BIN)/edgespeech bench

report: env ## tables, plots and the HTML report, from the committed records
	$(BIN)/edgespeech report

demo: env ## transcribe recordings of this repository live on the terminal, then write the HTML page
	$(BIN)/edgespeech demo

replicate: env ## measure published rows again on this machine (PROFILE=full: all of them and every technique, from scratch)
	$(BIN)/edgespeech replicate $(if $(filter full,$(PROFILE)),all --publish) --profile $(PROFILE) --jobs $(JOBS)

replicate-%: env ## one technique, by the name of its folder in replication/
	$(BIN)/edgespeech replicate $* --profile $(PROFILE) --jobs $(JOBS)

fuzz: env ## give damaged input to everything that reads files and messages of others, for FUZZ_S seconds in all
	$(BIN)/python fuzz/seeds.py build/fuzz/seeds
	fuzz/build.sh build/fuzz
	cd build/fuzz && if command -v clang++ >/dev/null; \
	  then ./fuzz_edge_file -max_total_time=$(FUZZ_EACH_S) seeds; else ./fuzz_edge_file seeds $(FUZZ_EACH_S); fi
	for reader in $(FUZZ_READERS); do \
	  $(BIN)/python fuzz/targets.py $$reader build/fuzz/$$reader -max_total_time=$(FUZZ_EACH_S) -verbosity=0; done

neon: env ## check the AArch64 engine under emulation (Debian: g++-aarch64-linux-gnu, qemu-user)
	@for tool in aarch64-linux-gnu-g++ qemu-aarch64; do command -v $$tool >/dev/null \
	  || { echo "neon: $$tool is not installed: apt-get install g++-aarch64-linux-gnu qemu-user"; exit 2; }; done
	$(BIN)/python -m pytest tests/engine/test_neon.py

clean: ## remove what was built; results, fetched data and the benchmark history in .asv stay
	rm -rf build site $(VENV)
