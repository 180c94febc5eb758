"""Speed of the models: clips/s, the phases of a training step, memory, and how far from what the machine can do."""

import copy
import shutil
import subprocess
import sys
import time

import torch
from torch.nn import functional as F

from graph import build_graph
from model import MODELS, build_model
from torchlight.device import tensor_cores
from torchlight.fold import fold
from torchlight.graphs import GraphedForward
from torchlight.profiler import count_flops
from torchlight.trainer import build_optimizer

from . import ROOT, in_turns

ALL = [name for name, model in MODELS.items() if not hasattr(model, "heat_maps")]
FEW = "ctrgcn", "stgcn++"
SHAPES = {  # layout, classes, batch N, C, T, V, M
    "NW-UCLA": ("ucla", 10, (16, 3, 52, 20, 1)),
    "NTU RGB+D": ("ntu", 60, (64, 3, 64, 25, 2)),
}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PHASES = "forward", "backward", "optimizer"

MEMORY = """
import sys
import torch
from results.benchmarks.models import Step, make
step = Step(*make(*sys.argv[1:], torch.device("cpu")))
def peak():  # of this program: what ru_maxrss says begins with that of its parent
    fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(fields["VmHWM"].split()[0]) / 1024
before = peak()
step(), step()
print(peak() - before)
"""


def batch_size(N, device):
    """On a CPU of 16 clips at most."""
    return N if device.type == "cuda" else min(N, 16)


def describe(device):
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


def make(name, what, device):
    """A model, a batch for it and its labels."""
    layout, num_class, (N, *shape) = SHAPES[what]
    N = batch_size(N, device)
    torch.manual_seed(0)
    model = build_model(name, num_class, shape[-1], build_graph(layout)).to(device)
    return model, torch.randn(N, *shape, device=device), torch.arange(N, device=device) % num_class


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Step:
    """A training step as the trainer makes it; `best` keeps the shortest time of each of PHASES, in seconds."""

    def __init__(self, model, x, target, low=None, graphs=False):
        self.forward = GraphedForward(model.train()) if graphs else model.train()
        self.x, self.target, self.low = x, target, low
        self.optimizer = build_optimizer("SGD", model.parameters(), 0.01, 0.9, True, 1e-4)
        self.best = [float("inf")] * len(PHASES)

    @tensor_cores()
    def __call__(self):
        times = [time.perf_counter()]
        low, cached = self.low, not isinstance(self.forward, GraphedForward)
        with torch.autocast(self.x.device.type, low, enabled=low is not None, cache_enabled=cached):
            logits = self.forward(self.x)
        loss = F.cross_entropy(logits.float(), self.target)
        self._lap(times)
        loss.backward()
        self._lap(times)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._lap(times)
        self.best = [min(best, end - begin) for best, begin, end in zip(self.best, times, times[1:], strict=False)]

    def _lap(self, times):
        synchronize(self.x.device)
        times.append(time.perf_counter())


class Test:
    """Logits of a batch, as a test computes them; low: in mixed precision, which our tests never are."""

    def __init__(self, model, x, low=None):
        self.model, self.x, self.low = model, x, low

    @torch.inference_mode()
    @tensor_cores()
    def __call__(self):
        with torch.autocast(self.x.device.type, self.low, enabled=self.low is not None):
            self.model(self.x)
        synchronize(self.x.device)


def peaks(device):
    """FLOP/s of a large matrix product in float32, which a GPU multiplies in TF32, and in bfloat16."""
    n = 8192 if device.type == "cuda" else 2048
    pairs = [torch.randn(2, n, n, device=device).to(dtype) for dtype in (torch.float32, torch.bfloat16)]

    @tensor_cores()
    def product(pair):
        pair[0] @ pair[1]
        synchronize(device)

    return [2 * n**3 / t for t in in_turns([lambda p=p: product(p) for p in pairs], 3)]


def memory(name, what, device):
    """MB that training steps take beside the program, the model and the batch."""
    if device.type == "cuda":
        step = Step(*make(name, what, device))
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step(), step()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    words = [sys.executable, "-c", MEMORY, name, what]
    return float(subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def rows(names=FEW, compiled=False, rounds=3):
    """Yield rows (what, measured, goal). compiled: with torch.compile too, which takes minutes."""
    full, low = peaks(DEVICE)
    yield (
        f"matrix product, bf16 against float32 ({describe(DEVICE)})",
        f"{low / full:.2f} x ({full / 1e9:,.0f} GFLOP/s)",
        "-",
    )
    if compiled and DEVICE.type == "cpu" and not any(map(shutil.which, ("g++", "clang++", "cl"))):
        yield "torch.compile", "skipped: there is no C++ compiler", "-"
        compiled = False
    for name in names:
        for what in SHAPES:
            yield from measure(name, what, DEVICE, full, compiled, rounds)


def measure(name, what, device, peak, compiled, rounds):
    model, x, target = make(name, what, device)
    N, folded = len(x), fold(model)
    flops = count_flops(folded, x)
    tests = {"float32": Test(folded, x), "bf16": Test(folded, x, torch.bfloat16)}
    steps = {kind: Step(copy.deepcopy(model), x, target, test.low) for kind, test in tests.items()}
    if compiled:
        tests["compiled"] = Test(torch.compile(folded), x)
        steps["compiled"] = Step(torch.compile(copy.deepcopy(model)), x, target)
    if device.type == "cuda":
        for kind, low in (("CUDA graphs", None), ("CUDA graphs, bf16", torch.bfloat16)):
            steps[kind] = Step(copy.deepcopy(model), x, target, low, graphs=True)
    for call in (*tests.values(), *steps.values()):
        call()
    for verb, calls, work in (("testing", tests, flops), ("training", steps, 3 * flops)):
        times = in_turns(list(calls.values()), rounds)
        text = f"{N / times[0]:.3g} clips/s, {work / times[0] / peak:.0%} of the matrix product's FLOP/s"
        if verb == "training":
            text += "; " + ", ".join(f"{p} {t:.0%}" for p, t in zip(PHASES, share(steps["float32"].best), strict=True))
        yield f"{name}, {what}: {verb}", text, "-"
        for kind, t in list(zip(calls, times, strict=True))[1:]:
            yield f"{name}, {what}: {verb}, {kind}", f"{times[0] / t:.2f} x ({N / t:.3g} clips/s)", "-"
    shape = " x ".join(map(str, x.shape))
    yield f"{name}, {what}: memory of a training step on {shape}", f"{memory(name, what, device):,.0f} MB", "-"


def share(times):
    return [t / sum(times) for t in times]
