# Targets of nsbridge; `make` lists them. Each installs what it is missing: a virtual environment in .venv, and,
# when run as root, the system programs that tests compare us with.

VENV := .venv
PY := $(VENV)/bin/python
# Each worker of the kernel tests is a throwaway host of its own (docs/adr/0007).
WORKERS := 2
WORKER := popen//python=$(PY) -m nsbridge.kernel.sandbox -- $(PY)
SANDBOX := $(PY) -m nsbridge.kernel.sandbox --
# Debian keeps nft and iptables where an ordinary user's PATH doesn't look.
export PATH := $(PATH):/usr/sbin:/sbin

.DEFAULT_GOAL := help
.PHONY: help demo fuzz-explain test test-pure test-netns fuzz-reach check bench docs format oracles clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/core ## Build the lab in a throwaway host, send requests along every path, show what arrived
	@$(VENV)/bin/nsbridge demo

test: check test-pure test-netns ## Everything: check, then the tests with and without a kernel

test-pure: $(VENV)/dev ## Tests that touch no kernel
	$(PY) -m pytest tests --ignore tests/netns

test-netns: $(VENV)/dev oracles ## Tests on a real kernel, inside throwaway hosts
	$(PY) -m pytest tests/netns --dist worksteal --tx '$(WORKERS)*$(WORKER)'

fuzz-reach: $(VENV)/dev oracles ## Reachability in worlds drawn at random (EXAMPLES=200 SEED=1)
	EXAMPLES=$(or $(EXAMPLES),200) SEED=$(or $(SEED),$(shell date +%s)) $(SANDBOX) $(PY) -m pytest -s tests/netns/test_reach_drawn.py

fuzz-explain: $(VENV)/dev oracles ## What explain foretells beside real packets: drawn rules, worlds, every breakage (EXAMPLES=100 SEED=1)
	NSBRIDGE_FUZZ_EVALUATE=500 $(SANDBOX) $(PY) -m pytest -s --hypothesis-profile=anew tests/netns/test_evaluate.py
	EXAMPLES=$(or $(EXAMPLES),100) SEED=$(or $(SEED),$(shell date +%s)) $(SANDBOX) $(PY) -m pytest -s tests/netns/test_explain_drawn.py
	EXPLAIN_ALL=1 $(SANDBOX) $(PY) -m pytest -q tests/netns/test_breakages.py tests/netns/test_trace.py

check: $(VENV)/dev ## ruff and mypy --strict
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/dev ## Let ruff rewrite what it can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: $(VENV)/bench oracles ## Measure beside other tools, write docs/bench.md (BENCH="--quick attach": look only)
	$(PY) -m bench $(or $(BENCH),--write)

docs: $(VENV)/dev oracles ## Rewrite what is generated from a running kernel: pages, and what the launcher holds ready
	$(PY) -m tools.docs
	$(PY) -m tools.lessons
	$(PY) -m tools.hot

oracles: ## Install the programs that tests compare us with, or name the missing ones
	@tools/oracles

clean: ## Remove everything made here, .venv too
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Two steps, so that the demo needn't wait for the test tools.
$(VENV)/core: pyproject.toml tools/bootstrap tools/bootstrap.py
	@tools/bootstrap $(VENV) .
	@touch $@

$(VENV)/bench: $(VENV)/core
	@tools/bootstrap $(VENV) '.[bench]'
	@touch $@

$(VENV)/dev: $(VENV)/core
	@tools/bootstrap $(VENV) '.[dev]'
	@touch $@
