"""CUDA graphs: a small batch takes a GPU less time than starting its kernels one by one takes the program."""

import warnings

import torch
from torch import nn


class GraphedForward:
    """What model(x) gives in training, its forward and its backward pass each one CUDA graph.

    Captured at the first batch of a shape; the model computes what it would compute without. Gradients lie in memory
    that the next backward pass writes to: use them before it.
    """

    def __init__(self, model):
        self.model, self.captured = model, {}
        # Gradients are added up on the stream of the capture; PyTorch waits for it, and says that it does.
        warnings.filterwarnings("ignore", message="The AccumulateGrad node's stream")

    def __call__(self, x):
        key = x.shape, self.model.training
        if key not in self.captured:
            self.captured[key] = self._capture(x)
        return self.captured[key](x)

    def _capture(self, x):
        # The passes of the capture are not training: statistics and random numbers are afterwards what they were.
        state = {name: value.clone() for name, value in self.model.named_buffers()}
        with torch.cuda.device(x.device), torch.random.fork_rng([x.device] if x.is_cuda else []):
            graphed = torch.cuda.make_graphed_callables(_Shell(self.model), (x.clone(),), allow_unused_input=True)
        for name, value in self.model.named_buffers():
            value.copy_(state[name])
        return graphed


class _Shell(nn.Module):
    """A model whose forward the capture may replace."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x)
