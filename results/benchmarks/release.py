"""Against CTR-GCN's release: its code, in a process of its own, and ours take turns at the same work.

The process reads from its standard input what to do, and answers when it is done. Its NW-UCLA feeder is measured if
its clips are where its README wants them, data/NW-UCLA/all_sqe.
"""

import copy
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median

import torch

from feeders import TrainBatches, build_feeder
from graph import build_graph
from model.pretrained import from_published
from torchlight.config import read_yaml
from torchlight.fold import fold

from . import ROOT, turns
from .feeder import go_through
from .models import DEVICE, SHAPES, Step, Test, batch_size, describe

STORE = ROOT / "data" / "nw-ucla.h5"
CLIPS = Path("data", "NW-UCLA", "all_sqe")
GRAPHS = {"NW-UCLA": "graph.ucla.Graph", "NTU RGB+D": "graph.ntu_rgb_d.Graph"}
DONE = "[done]"  # what the process answers

RELEASE = """
import sys
import torch
import yaml
from model.ctrgcn import Model

threads, DONE, device = sys.argv[1:]
torch.set_num_threads(int(threads))
torch.backends.cudnn.deterministic = True  # as its init_seed has it
finish = torch.cuda.synchronize if device == "cuda" else lambda: None
def model(num_class, num_point, num_person, graph, path):
    net = Model(num_class, num_point, num_person, graph, {"labeling_mode": "spatial"})
    def made(device):
        net.to(device)
        x, target = (part.to(device) for part in torch.load(path)["batch"])
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4)
        def test():
            net.eval()
            with torch.no_grad():
                return net(x)
        def train():
            net.train()
            loss = torch.nn.functional.cross_entropy(net(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return {"test": test, "train": train}
    here, there = made("cpu"), made(device)
    there["train"]()
    net.cpu()
    torch.save({"weights": net.state_dict(), "logits": here["test"]()}, path + ".out")
    net.to(device)
    return there

def feeder():
    from feeders.feeder_ucla import Feeder
    options = yaml.safe_load(open("config/ucla/default.yaml"))
    loader = torch.utils.data.DataLoader(
        Feeder(**options["train_feeder_args"]), options["batch_size"], shuffle=True, drop_last=True)
    def epoch():
        for _ in loader:
            pass
    return {"epoch": epoch}

calls = {}
for line in sys.stdin:
    word, *arguments = line.rstrip("\\n").split("\\t")
    if word in ("model", "feeder"):
        calls = globals()[word](*(int(a) if a.isdigit() else a for a in arguments))
    else:
        calls[word]()
        finish()
    print(DONE, flush=True)
"""


class Release:
    """The process with the release's code. Raises ValueError, with the last line it wrote, where it stops."""

    def __init__(self, directory):
        if not (Path(directory) / "model" / "ctrgcn.py").is_file():
            raise ValueError(f"{directory}: not CTR-GCN's release, it has no model/ctrgcn.py")
        self.directory = directory
        words = [sys.executable, "-c", RELEASE, str(torch.get_num_threads()), DONE, DEVICE.type]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.process = subprocess.Popen(words, cwd=directory, text=True, **pipes)

    def __call__(self, *words):
        """Let it do this, and wait for it."""
        with suppress(BrokenPipeError):  # its last line says why
            print(*words, sep="\t", file=self.process.stdin, flush=True)
        line = "it stopped"
        for line in self.process.stdout:
            if line == f"{DONE}\n":
                return
        raise ValueError(f"{self.directory}: {line.strip()}")

    def close(self):
        self.process.kill()
        self.process.communicate()


def row(what, work, ours, theirs, goal):
    fast, slow = (
        f"{speed:,.0f}" if speed > 100 else f"{speed:.3g}" for speed in (work / min(ours), work / min(theirs))
    )
    ratio, middle = min(theirs) / min(ours), median(theirs) / median(ours)
    text = f"{ratio:.2f} x (medians: {middle:.2f} x; {fast} against {slow} clips/s)"
    return f"against CTR-GCN's release, {describe(DEVICE)}: {what}", text, goal


def rows(directory, rounds=9):
    """Yield rows (what, measured, goal). directory: where the release lies."""
    release = Release(directory)
    try:
        for what in SHAPES:
            yield from models(release, what, rounds)
        missing = [path for path in (Path(directory) / CLIPS, STORE) if not path.exists()]
        if missing:
            yield "against CTR-GCN's release: feeder, NW-UCLA", f"skipped: there is no {missing[0]}", "10 x"
        else:
            yield feeder(release, rounds)
    finally:
        release.close()


def models(release, what, rounds):
    layout, num_class, (N, *shape) = SHAPES[what]
    N = batch_size(N, DEVICE)
    graph, (_, _, V, M) = build_graph(layout), shape
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "batch.pt")
        x, target = torch.randn(N, *shape), torch.arange(N) % num_class
        torch.save({"batch": (x, target)}, path)
        release("model", num_class, V, M, GRAPHS[what], path)
        theirs = torch.load(f"{path}.out")
    model = from_published(theirs["weights"], graph, M).eval()
    with torch.inference_mode():
        apart = (model(x) - theirs["logits"]).abs().max() / theirs["logits"].abs().max()
    if apart > 1e-4:
        raise ValueError(f"the release's logits and ours differ by {apart:.1e} of the largest: not the same work")
    model, x, target = model.to(DEVICE), x.to(DEVICE), target.to(DEVICE)
    test = Test(fold(model), x)
    ours = {"testing": test, "training": Step(copy.deepcopy(model), x, target)}
    if DEVICE.type == "cuda":
        ours["training, CUDA graphs"] = Step(copy.deepcopy(model), x, target, graphs=True)
        ours["training, CUDA graphs, bf16"] = Step(model, x, target, torch.bfloat16, graphs=True)
    for verb, call in ours.items():
        call()
        word, goal = ("test", "2 x") if call is test else ("train", "1.5 x")
        times = turns([call, partial(release, word)], rounds)
        yield row(f"CTR-GCN, {what}, batches of {N}: {verb}", N, *times, goal)


def feeder(release, rounds):
    options = read_yaml(ROOT / "config" / "nw-ucla" / "ce.yaml")
    size, arguments = options["batch_size"], options["train_feeder_args"]
    made = build_feeder(STORE, arguments["split"], transforms=arguments["transforms"])
    batches = TrainBatches(made, size, repeat=arguments["repeat"])
    release("feeder")
    ours, theirs = turns([partial(go_through, batches.epoch, 0), partial(release, "epoch")], rounds)
    return row(f"feeder, NW-UCLA, batches of {size}", len(batches) * size, ours, theirs, "10 x")
