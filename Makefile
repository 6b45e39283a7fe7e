# make demo: the whole line once in build/demo, no keys. make test: what CI runs. Both install what they need into .venv and may be repeated.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What is installed beside mcl: `dev` for a user; .ci/run adds ray, postgres and server. TOOLS holds programs from .ci/tools.txt.
EXTRAS ?= dev
TOOLS := .venv-tools
# Test processes: one more than there are cores, since some tests wait for real time.
WORKERS ?= $(shell $(PYTHON) -c "import os; print(os.cpu_count() + 1)")
STAMP := $(VENV)/.installed-$(shell (echo $(EXTRAS); cat pyproject.toml .ci/constraints.txt) | cksum | cut -d' ' -f1)

.PHONY: demo clients soak soak-weeks bench-live test quick docs test-ends constraints lint bench bench-honesty bench-scale prove infra sbom audit ui install tools clean

install: $(STAMP)

$(STAMP): pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .ci/constraints.txt -e '.[$(EXTRAS)]'
	@rm -f $(VENV)/.installed-*
	@touch $@

# Checkers of docker/ and terraform/ and uv, in an environment of their own: their dependencies are not those of mcl.
tools: $(TOOLS)/.installed-$(shell cksum < .ci/tools.txt | cut -d' ' -f1)

$(TOOLS)/.installed-%: .ci/tools.txt
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check -r .ci/tools.txt
	@rm -f $(TOOLS)/.installed-*
	@mkdir -p $(TOOLS)/docker/cli-plugins
	@ln -sf ../../bin/docker-compose $(TOOLS)/docker/cli-plugins/docker-compose
	@touch $@

demo: $(STAMP)
	rm -rf build/demo
	$(BIN)/mcl demo build/demo

# Without what a test needs it skips, and the last lines say how to install that. With MCL_CI=1 a skip fails the run: tests/skips.toml.
# Pictures of every page that the browser tests looked at are kept in build/screenshots. PYTEST_MORE are words for pytest.
test: $(STAMP)
	MCL_SCREENSHOTS=$(CURDIR)/build/screenshots $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_MORE)

# The rooms, the names, the exact dollars and the rules of orders: what a change breaks first, in 24 s on two idle cores, 2026-11-30 (time make quick).
QUICK := tests/test_architecture.py tests/test_names.py tests/test_files.py tests/base tests/market tests/risk tests/engine/test_dollars.py \
  tests/engine/test_decision.py tests/engine/test_identities.py tests/data/test_bars.py tests/metrics/test_performance.py tests/broker/test_rules.py \
  tests/broker/test_guards.py tests/live/test_journal.py tests/report/test_format.py
quick: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(QUICK)

# The pages that are written from the code, written again, and everything that is checked of documents: links, commands, figures, keys, the notebook.
docs: $(STAMP)
	$(BIN)/python scripts/make_docs.py
	$(BIN)/python -m mcl.cli.completion
	$(BIN)/python -m mcl.cli.json_answers > docs/json.md
	$(BIN)/python -m mcl.cli.json_answers --schema > docs/answers.schema.json
	$(BIN)/python scripts/run_notebook.py
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile tests/test_docs.py tests/test_commands.py tests/test_figures.py tests/test_answers.py \
	  tests/test_recipes.py

# The oldest releases that pyproject.toml admits on Python 3.12, the newest on 3.13: a part of the tests that a person can wait for.
test-ends: $(STAMP) tools
	$(BIN)/python scripts/test_ends.py

# The newest releases within the ranges of pyproject.toml, and the oldest: what `make install` takes, and what `make test-ends` tries too.
RESOLVE := $(TOOLS)/bin/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --no-header --no-annotate --quiet
constraints: tools
	$(RESOLVE) --upgrade -o .ci/constraints.txt
	$(RESOLVE) --upgrade --resolution lowest-direct -o .ci/oldest.txt

lint: $(STAMP)
	$(BIN)/ruff check mcl tests scripts
	$(BIN)/ruff format --check mcl tests scripts
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python scripts/bench.py
	$(BIN)/python scripts/bench_search.py
	$(BIN)/python scripts/bench_judgement.py
	$(BIN)/python scripts/bench_report.py

bench-honesty: $(STAMP)
	$(BIN)/python scripts/bench_honesty.py

# One, two and four workers, what the parent of a search can do, and a calculated table up to 1,000 workers. Ray and PostgreSQL where installed.
bench-scale: $(STAMP)
	$(BIN)/python scripts/bench_scale.py --write

# What a promotion promises, on two real clones, and 50 random runs repeated in other processes; each says what processor time it took.
prove: $(STAMP)
	$(BIN)/python scripts/prove_promotion.py
	$(BIN)/python scripts/prove_rerun.py
	$(BIN)/python scripts/prove_world.py
	$(BIN)/python scripts/prove_zero_edge.py

# What the deployment is made of, checked by the tools that are installed; says which are not.
infra: $(STAMP)
	$(BIN)/python scripts/check_infra.py

# What mcl is made of (CycloneDX), and its licences.
sbom: $(STAMP)
	$(BIN)/python scripts/sbom.py
	$(BIN)/python scripts/sbom.py --licences

# What is known against exactly these versions: exit 1 when something is, 3 when no source of advisories can be reached.
audit: $(STAMP)
	$(BIN)/python scripts/sbom.py --audit

# Clients of the TWS API that test the simulated one, each in a folder of its own: two of them are packages of the same name.
CLIENTS := ibapi-stable==10.50.2 nautilus-ibapi==10.46.1 ib_insync==0.9.86
clients: $(STAMP)
	@for client in $(CLIENTS); do \
	  folder=build/clients/$${client%%=*}; \
	  [ -d $$folder ] || $(BIN)/python -m pip install --quiet --disable-pip-version-check --target $$folder $$client || exit 1; \
	done

soak: $(STAMP)
	$(BIN)/python scripts/soak.py

# Ten weeks of `mcl live NAME --stay` in one process, in about 40 minutes.
soak-weeks: $(STAMP)
	$(BIN)/python scripts/soak_weeks.py

bench-live: $(STAMP)
	$(BIN)/python scripts/bench_live.py

ui: $(STAMP)
	$(BIN)/mcl ui

clean:
	rm -rf $(VENV) $(TOOLS) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
