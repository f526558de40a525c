# make book        build the book                     make notebooks [ONLY=path]   re-execute notebooks, store their outputs
# make test        everything: package, notebooks,    make lint                    style and types
#                  built pages in a browser           make address URL=https://github.com/ORG/NAME
# make unit        the quick tests of the package     ALL=1                        the slow ones of them too
# make pdf         print the built book into one PDF, _build/bert-companion.pdf
# GPU=1            install the CUDA build of torch    PYTHON=python3.12            the interpreter of .venv

SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
PAGES := _build/html/index.html
SOURCES := $(shell find book companion .ci -type f -not -path '*/__pycache__/*' -not -path '*/.ipynb_checkpoints/*')

# Where no local wheels are offered, torch comes from its own CPU index rather than with several GB of CUDA.
ifeq ($(PIP_FIND_LINKS)$(GPU),)
INDEX := --extra-index-url https://download.pytorch.org/whl/cpu
endif

NBVAL := --nbval --nbval-current-env --nbval-sanitize-with tests/nbval.cfg \
	--nbval-cell-timeout 300 --nbval-kernel-startup-timeout 120
# One thread a process: two workers share the cores better than two thread pools do.
PYTEST := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest

.PHONY: book pdf test unit check-notebooks notebooks lint address constraints clean

book: $(PAGES)
	@echo
	@echo "The book lies in _build/html. To read it:"
	@echo "  $(BIN)/python -m http.server --directory _build/html 8000    then open http://localhost:8000"

pdf: $(PAGES)
	$(BIN)/python .ci/book_pdf.py

test: lint $(PAGES)
	$(PYTEST) $(NBVAL) -n 2 --dist loadscope tests book

unit: $(READY)
	$(PYTEST) -n 2 --dist loadscope tests --ignore tests/pages/test_book.py --ignore tests/pages/test_instruments.py --ignore tests/pages/test_live.py $(if $(ALL),,-m "not slow")

check-notebooks: $(READY)
	$(BIN)/ruff check --quiet --fix $(or $(ONLY),book)
	$(BIN)/ruff format --quiet $(or $(ONLY),book)
	$(PYTEST) $(NBVAL) -n 2 --dist loadscope $(or $(ONLY),book)

notebooks: $(READY)
	$(BIN)/ruff check --quiet --fix $(or $(ONLY),book)
	$(BIN)/ruff format --quiet $(or $(ONLY),book)
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python .ci/notebooks.py $(ONLY)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

address: $(READY)
	$(BIN)/python .ci/address.py $(URL)

constraints: $(READY)
	{ head -1 constraints.txt; $(BIN)/pip freeze --exclude-editable | sed -E 's/\+cpu$$//'; } > constraints.tmp
	mv constraints.tmp constraints.txt

clean:
	rm -rf _build

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(INDEX) --constraint constraints.txt --editable ".[bench,book,test]"
	touch $@

$(PAGES): $(READY) $(SOURCES) _config.yml _toc.yml
	rm -rf _build/html
	$(BIN)/jupyter-book build . --all -W -n --keep-going
