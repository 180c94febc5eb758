# make demo   install, then train, test and fuse on a generated data set (a few minutes on two CPU cores)
# make test   install, then lint and test
# make lint   lint alone
# make long-tail ARGS="--config config/nw-ucla-lt/ce.yaml --methods cross-entropy BRL --seeds 1 2 3"
#             methods of long-tailed learning on one benchmark, what is missing of them [all methods on the demo's data]
# make bench  speed and memory, as ratios measured in one run
# On Windows, or with an environment of your own, run the commands below by hand.

PYTHON ?= python3
VENV   ?= .venv
RUN     = $(VENV)/bin/python
DEMO    = results/demo
STORE   = data/demo.h5

ARGS    = --config config/demo/ce.yaml

.PHONY: demo test lint bench long-tail

$(VENV)/.installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

demo: $(VENV)/.installed
	$(RUN) data/prepare.py demo --out $(STORE)
	$(RUN) data/prepare.py check $(STORE) --plot $(DEMO)/clips.png --each-class
	$(RUN) main.py --config config/demo/ce.yaml --work-dir $(DEMO)/ce/joint --overwrite
	$(RUN) main.py --config config/demo/brl.yaml --work-dir $(DEMO)/brl/joint --overwrite
	$(RUN) main.py --config config/demo/brl.yaml --work-dir $(DEMO)/brl/bone --modality bone --overwrite
	$(RUN) main.py --phase test --weights $(DEMO)/brl/joint/runs.pt
	$(RUN) ensemble.py --joint-dir $(DEMO)/brl/joint --bone-dir $(DEMO)/brl/bone --preset two --out $(DEMO)/brl/fused
	$(RUN) results/table.py "cross-entropy, joint=$(DEMO)/ce/joint" "BRL, joint=$(DEMO)/brl/joint" \
	  "BRL, bone=$(DEMO)/brl/bone" "BRL, joint + bone=$(DEMO)/brl/fused" \
	  --out $(DEMO)/table.md --plot $(DEMO)/per_class.png
	@echo "The table is in $(DEMO)/table.md, pictures are in $(DEMO) and in the run directories below it."

test: $(VENV)/.installed lint
	$(RUN) -m pytest

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

long-tail: $(VENV)/.installed
	$(if $(findstring config/demo,$(ARGS)),test -f $(STORE) || $(RUN) data/prepare.py demo --out $(STORE))
	$(RUN) results/long_tail.py $(ARGS)

bench: $(VENV)/.installed
	$(RUN) results/bench.py
