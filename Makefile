# SPDX-License-Identifier: GPL-3.0-or-later
# Every target sets up what it needs on a bare Debian or Ubuntu machine, as root, once. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.SILENT:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

# The system's own tools, whatever the caller's PATH holds; only the search for a Python 3.9 looks there.
CALLER_PATH := $(PATH)
export PATH := $(CURDIR)/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/collections
export ANSIBLE_HOME := $(CURDIR)/.cache/ansible
export PYTHONPYCACHEPREFIX := $(CURDIR)/.cache/pycache
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME VIRTUAL_ENV

LINK := collections/ansible_collections/reflex/ngfw
STEP := .venv/bin/python tests/results.py step
STAGES := lint unit kernel
MOLECULE := molecule

APT_BASE := python3 python3-venv git ca-certificates
APT_SANITY := $(APT_BASE) shellcheck
APT_KERNEL := $(APT_BASE) iptables ipset iproute2 iputils-ping procps nftables
APT_LAB := $(APT_BASE) podman runc mmdebstrap debian-archive-keyring iproute2 slirp4netns netcat-openbsd openssh-client

# $(call packages,NAMES): installs the Debian packages that are missing.
define packages
missing=$$(comm -23 <(printf '%s\n' $(1) | sort -u) \
    <(dpkg-query -W -f '$${db:Status-Status} $${Package}\n' $(1) 2>/dev/null | sed -n 's/^installed //p' | sort -u))
if [ -n "$$missing" ]; then
    [ "$$(id -u)" = 0 ] || { echo "These packages are missing and only root can install them:" $$missing "- run make as root" >&2; exit 1; }
    echo "==> apt-get: installing" $$missing
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q -o Dpkg::Use-Pty=0 | sed 's/^/    /' || true
    apt-get install -q -y --no-install-recommends -o Dpkg::Use-Pty=0 $$missing </dev/null | sed -n 's/^\(Unpacking\|Setting up\) /    &/p'
fi
endef

# $(call venv,DIRECTORY,PYTHON,REQUIREMENTS): a new virtual environment with exactly these requirements.
define venv
rm -rf $(1)
$(2) -m venv $(1)
$(1)/bin/python -m pip --disable-pip-version-check install --progress-bar off --no-input -r $(3) 2>&1 \
    | sed -un -e 's/^Collecting \([^ ]*\).*/    \1/p' -e '/^ERROR/p'
endef

MOLECULE_STEPS := destroy create converge idempotence verify destroy
SCENARIOS := default fleet

.PHONY: help demo test lint format unit kernel sanity molecule molecule-all bench features clean root

help:
	sed -n 's/^\([a-z-]*\):.* ## /make \1|/p' Makefile | column -t -s '|'

root:
	[ "$$(id -u)" = 0 ] || { echo "This needs root: network namespaces, the kernel's firewall, containers. Run it as root." >&2; exit 1; }

.venv/ready: requirements/dev.txt
	$(call packages,$(APT_BASE))
	echo "==> development tools into .venv (first time: about a minute)"
	$(call venv,.venv,/usr/bin/python3,$<)
	touch $@

$(LINK):
	mkdir -p $(@D)
	ln -sfn ../../.. $@

# Molecule waits much and sanity is one process: they share the time.
test: ## lint, unit, kernel, sanity, molecule; stops at the first failure, ends with a count
	rm -rf .cache/results
	trap 'echo; python3 tests/results.py count' EXIT
	for stage in $(STAGES); do $(MAKE) $$stage; done
	echo "==> sanity, beside molecule and told after it"
	$(call packages,$(APT_SANITY))
	$(MAKE) sanity >.cache/sanity.log 2>&1 & sanity=$$!
	failed=0
	$(MAKE) $(MOLECULE) || failed=1
	wait $$sanity || failed=1
	cat .cache/sanity.log
	exit $$failed

lint: .venv/ready $(LINK) ## style, types, layers: ruff, mypy, import-linter, yamllint, ansible-lint
	echo "==> lint: style, types and layers"
	rm -f .cache/results/lint.json
	failed=0
	$(STEP) lint ansible-lint --log .cache/ansible-lint.log -- ansible-lint --offline --strict -q & slowest=$$!
	$(STEP) lint ruff -- ruff check --quiet . || failed=1
	$(STEP) lint ruff-format -- ruff format --check --quiet --diff . || failed=1
	$(STEP) lint mypy -- mypy || failed=1
	PYTHONPATH=roles/ngfw/files $(STEP) lint import-linter -- lint-imports --no-logo || failed=1
	$(STEP) lint yamllint -- yamllint --strict . || failed=1
	$(STEP) lint antsibull-docs --features G10 -- antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs all . || failed=1
	wait $$slowest || failed=1
	exit $$failed

format: .venv/ready ## rewrites the Python files in the style that lint wants
	ruff check --quiet --fix . || true
	ruff format .

# A python3.9 that runs (a version manager's shim may not): managed hosts may have nothing newer.
PYTHON39 := $(firstword $(shell PATH="$(CALLER_PATH)"; for p in $$(type -ap python3.9) $$HOME/.pyenv/versions/3.9*/bin/python3.9; \
    do "$$p" -c 'import ensurepip' >/dev/null 2>&1 && echo "$$p"; done))

.cache/python3.9/ready: requirements/python3.9.txt
	echo "==> Python 3.9 ($(PYTHON39)) into .cache/python3.9"
	mkdir -p .cache
	$(call venv,.cache/python3.9,$(PYTHON39),$<)
	touch $@

define ON_PYTHON39
set -e
.cache/python3.9/bin/python -m compileall -q -f plugins roles/ngfw/files/ngfw
NGFW_RESULTS=.cache/results/unit-python3.9.json .cache/python3.9/bin/python -m pytest -q tests/unit/module_utils tests/unit/watcher
endef

unit: .venv/ready $(LINK) $(if $(PYTHON39),.cache/python3.9/ready) ## tests without root
	echo "==> unit: tests without root"
	if [ -n "$(PYTHON39)" ]; then
	    echo "==> unit: library and watcher on Python 3.9, at the same time; its output comes last"
	    ( $(ON_PYTHON39) ) >.cache/python3.9/unit.log 2>&1 & other=$$!
	    trap 'kill $$other 2>/dev/null || true' EXIT
	else
	    echo "==> unit: no Python 3.9 here, so not tested on it"
	fi
	NGFW_RESULTS=.cache/results/unit.json python -m pytest -q tests/unit
	if [ -n "$(PYTHON39)" ]; then
	    wait $$other || { cat .cache/python3.9/unit.log; exit 1; }
	    echo "==> unit: on Python 3.9: $$(tail -n 1 .cache/python3.9/unit.log)"
	fi

# Six tests at the same time, for much of what they do is waiting; the modules' targets, which only work, go behind them.
# Each works in namespaces of its own.
kernel: root .venv/ready $(LINK) ## tests against the real kernel, in network namespaces of their own
	echo "==> kernel: packets, sets and rules, the watcher as a process, root beside a hostile user; at the same time, told after it, the modules' targets"
	$(call packages,$(APT_KERNEL))
	rm -f .cache/results/{kernel,integration}.json
	mkdir -p .cache
	nice tests/integration/run >.cache/integration.log 2>&1 & targets=$$!
	trap 'kill $$targets 2>/dev/null || true' EXIT
	failed=0
	NGFW_RESULTS=.cache/results/kernel.json python -m pytest -q -n 6 --dist load tests/system tests/kernel tests/security || failed=1
	echo "==> kernel: integration targets of the modules"
	code=0
	wait $$targets || code=$$?
	$(STEP) integration modules --features "$$(python tests/results.py rows tests/integration/targets)" -- \
	    sh -c 'cat .cache/integration.log; exit '$$code || failed=1
	exit $$failed

sanity: .venv/ready ## ansible-test sanity on the collection as users get it
	echo "==> sanity: ansible-test (first time: about a minute and a half)"
	$(call packages,$(APT_SANITY))
	rm -f .cache/results/sanity.json
	python tests/sanity.py $(PYTHON39)

# Two scenarios at the same time, each in a lab of its own: what a step prints is shown if it fails, and stays in a file.
molecule: root .venv/ready $(LINK) ## the role on bare hosts in containers, with live Suricata and real packets
	echo "==> molecule: scenarios $(SCENARIOS) (all of their output: .cache/molecule)"
	$(call packages,$(APT_LAB))
	rm -f .cache/results/molecule.json
	$(MAKE) --jobs=2 $(SCENARIOS:%=scenario-%)

scenario-%:
	trap '/usr/bin/python3 lab/lab.py --name $* down' EXIT
	for step in $(MOLECULE_STEPS); do
	    rows=$$([ $$step != verify ] || python tests/results.py rows extensions/molecule/$*)
	    $(STEP) molecule "$* $$step" --features "$$rows" --log .cache/molecule/$*-$$step.log -- \
	        env NO_COLOR=1 molecule $$step -s $* </dev/null
	done

molecule-all: ## all scenarios, also reboots, other firewalls, removal
	$(MAKE) molecule SCENARIOS="$(notdir $(patsubst %/molecule.yml,%,$(wildcard extensions/molecule/*/molecule.yml)))"

demo: root .venv/ready $(LINK) ## two defended hosts, one attacker: alerts, blocks, whitelist push, flush; KEEP=1 leaves it up
	echo "==> demo: real Suricata, real packets, in containers"
	$(call packages,$(APT_LAB))
	/usr/bin/python3 lab/demo.py

bench: root .venv/ready $(LINK) ## measurements into bench/results.md and .json
	echo "==> bench: measurements"
	$(call packages,$(APT_KERNEL) python3-requests)
	python bench/run.py

features: .venv/ready ## which features the last test runs proved
	python tests/features.py

clean: ## removes the lab and all that the other targets made in this directory
	for lab in .cache/lab/*/plan.json; do
	    [ ! -e "$$lab" ] || /usr/bin/python3 lab/lab.py --name "$$(basename "$$(dirname "$$lab")")" down
	done
	if command -v podman >/dev/null; then podman images -q localhost/ngfw-lab | xargs -r podman rmi >/dev/null || true; fi
	rm -rf .venv .cache .ansible .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache collections tests/output
