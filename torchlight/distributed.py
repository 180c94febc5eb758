"""Training by several processes, on one machine or on many (torchrun).

Every process makes the whole batch, which costs little, and sends its own rows through the model; the outputs are
gathered, and every process computes the loss of the whole batch. So a training is the same, to rounding, by however
many processes, whatever the loss, the mixing and the sampler. Only batch norm sees but its own rows, unless --sync-bn,
and dropout draws otherwise in each.
"""

import gc
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.distributed.nn  # before there is a group, which its default arguments would keep; DDP imports it later
from torch import nn


@dataclass(frozen=True)
class Team:
    """The processes of a training: this is number `rank` of `size`."""

    rank: int = 0
    size: int = 1

    @property
    def writes(self):
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def rows(self, N):
        """The rows of a batch of N that are this process's: the batch is cut into `size` pieces."""
        return self._bounds(N)[self.rank]

    def _bounds(self, N):
        return [slice(N * rank // self.size, N * (rank + 1) // self.size) for rank in range(self.size)]

    def gather(self, x, N):
        """This process's rows of something, (n, …), or a nest of lists and tuples of such -> all N rows.

        The gradient is that of a loss which every process computes from all rows, times `size`, since
        DistributedDataParallel takes the mean of the processes' gradients.
        """
        if self.size == 1:
            return x
        if isinstance(x, list | tuple):
            return type(x)(self.gather(item, N) for item in x)
        return _Gather.apply(x, self, N)

    def share_buffers(self, model):
        """Give every process the buffers of the first: running statistics, which each has of its own rows."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def any(self, flag, device):
        """Whether the flag is set in any process."""
        if self.size == 1:
            return flag
        flag = torch.tensor(float(flag), device=device)
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)


ALONE = Team()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, team, N):
        ctx.team, ctx.N = team, N
        bounds = team._bounds(N)
        longest = max(rows.stop - rows.start for rows in bounds)
        padded = x.new_zeros(longest, *x.shape[1:])
        padded[: len(x)] = x
        pieces = [torch.empty_like(padded) for _ in bounds]
        dist.all_gather(pieces, padded)
        return torch.cat([piece[: rows.stop - rows.start] for piece, rows in zip(pieces, bounds, strict=True)])

    @staticmethod
    def backward(ctx, gradient):
        return gradient[ctx.team.rows(ctx.N)] * ctx.team.size, None, None


class _Sum(torch.autograd.Function):
    """The sum over the processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx, x):
        x = x.clone()
        dist.all_reduce(x)
        return x

    backward = forward


def join(devices):
    """(Team, devices of this process). Under torchrun it meets the others, and of several GPUs takes its own.

    Raises ValueError where a machine has more processes than GPUs.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return ALONE, devices
    if devices[0].type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= len(devices):
            raise ValueError(f"torchrun started more processes than the {len(devices)} GPUs of --device")
        devices = [devices[local]]
        torch.cuda.set_device(devices[0])
    if not dist.is_initialized():
        dist.init_process_group("nccl" if devices[0].type == "cuda" else "gloo")
    return Team(dist.get_rank(), dist.get_world_size()), devices


def leave():
    """Take leave of the other processes; to be called where no model of theirs is in use any more.

    The group's threads end with the last reference to it, which a model has, too. One that lived on might let go of a
    tensor while the interpreter shuts down, and abort the process ("terminate called without an active exception").
    """
    if dist.is_initialized():
        gc.collect()
        dist.destroy_process_group()


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over the rows of all processes on a CPU, where PyTorch has none. (N, C, …)"""

    def _check_input_dim(self, x):
        pass

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        kind, x = x.dtype, x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        over = [d for d in range(x.dim()) if d != 1]
        count = torch.tensor([x.numel() / x.shape[1]], dtype=torch.float64)
        dist.all_reduce(count)
        count = count.to(x)
        mean = _Sum.apply(x.sum(over)) / count
        centred = x - mean.view(1, -1, *[1] * (x.dim() - 2))
        variance = _Sum.apply(centred.square().sum(over)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = (self.weight / (variance + self.eps).sqrt()).view(1, -1, *[1] * (x.dim() - 2))
        return (centred * scale + self.bias.view(scale.shape)).to(kind)


def wrap(model, device):
    """The model with its gradients averaged over the processes; its forward is called with each one's rows."""
    ids = [device.index] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(model, device_ids=ids)


def synchronise(model, device):
    """The model with batch norm over all processes: PyTorch's on GPUs, ours on CPUs."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.__class__ = SyncBatchNorm
    return model
