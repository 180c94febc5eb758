"""Shap-Mix: Shapley value guided mixing (Zhang et al., IJCAI 2024)."""

from itertools import combinations

import torch

from torchlight.device import tensor_cores, test_mode
from torchlight.errors import expect

from .mixing import Target

UNIT = 4  # frames of a unit of time
WINDOW = (7 / 16, 11 / 16)  # units of the window that is mixed, as shares of a clip's


class ShapMix:
    """Body parts of one clip, in a window of time, take the place of another's; which parts, their saliency decides.

    Each batch of N clips becomes 2 N: the clips themselves, then the mixed ones. Clip i is mixed with clip
    (i + n) mod N. With probability `plain` whole clips are mixed, x' = (1 - u) x_i + u x_j. Otherwise a window of 7 to
    11 sixteenths of the clip takes parts of a window of j, which is as long or longer and resized to it (nearest
    frames). The label counts the share of pasted joints and frames for j.

    saliency (K, 20): how much each pair and triple of the five parts adds to the probability of a class: a one-sample
    estimate of the Shapley value, with the mean clip in place of the other parts, at every step, by the model as it is
    then (in test mode). In the first `naive_epoch` epochs parts are drawn at random. Then the rarer class is favoured:
    where class i has more training clips than class j, salient parts of j are pasted, otherwise salient parts of i are
    kept; salient: drawn from softmax(saliency / temperature).

    begin() must come first. The state_dict belongs into checkpoints. Other than the release's: units are of four frames
    in clips of any length (frames after the last whole one stay), the window is 7 to 11 sixteenths for Kinetics, too
    (there 13 to 20 of 25), the gain is divided by the layout's own numbers of joints (there by NTU's), the rarer class
    goes by counts (there by the class index), and the mean clip is that of the training clips as the feeder draws them.
    """

    def __init__(self, graph, class_count, plain=0.25, naive_epoch=5, momentum=0.9, temperature=0.2):
        expect(0 <= plain <= 1, "plain", "a probability", plain)
        expect(naive_epoch >= 0, "naive_epoch", "at least 0", naive_epoch)
        expect(0 <= momentum < 1, "momentum", "from 0 to below 1", momentum)
        expect(temperature > 0, "temperature", "above 0", temperature)
        self.plain, self.naive_epoch, self.momentum, self.temperature = plain, naive_epoch, momentum, temperature
        pairs = list(combinations(range(5), 2))
        self.sets = [set(pair) for pair in pairs] + [
            set(range(5)) - set(pair) for pair in pairs
        ]  # s + 10: the rest of s
        self.parts = torch.tensor([[v in part for v in range(graph.num_point)] for part in graph.parts])  # 5, V
        self.joints = torch.stack([self._joints(parts) for parts in self.sets])  # 20, V
        self.count = torch.as_tensor(class_count)
        self.saliency = torch.full((len(self.count), len(self.sets)), 1e-6)
        self.model = self.render = self.mean = None

    def _joints(self, parts):
        """The joints of a set of parts, bool (V,)."""
        return self.parts[sorted(parts)].any(dim=0)

    def begin(self, model, render, mean, logit_scale=1.0):
        """logit_scale * model(render(x)): logits of clips x (N, C, T, V, M), in test mode. mean (C, T, V, M): the mean
        clip.
        """
        self.model, self.render, self.mean, self.logit_scale = model, render, mean, logit_scale

    def state_dict(self):
        return {"saliency": self.saliency.clone()}

    def load_state_dict(self, state):
        self.saliency = state["saliency"].clone()

    def __call__(self, x, label, rng, epoch=0):
        """x (N, C, T, V, M), label (N,) -> (x, Target) of 2 N clips."""
        N, device = len(x), x.device
        own = torch.ones(N, device=device)
        if N < 2:
            return x, Target(label, label, own)
        self._observe(x, label, rng, epoch)
        partner = (torch.arange(N, device=device) + self._draw(rng, 1, max(2, N - 1), device)) % N
        other, y = x[partner], label[partner]
        if self._uniform(rng, device) < self.plain:
            share = self._uniform(rng, device)
            mixed, taken = torch.lerp(x, other, share), own * share
        else:
            mixed, taken = self._paste(x, other, self._chosen(label, y, rng, epoch), rng)
        return torch.cat([x, mixed]), Target(label.repeat(2), torch.cat([label, y]), torch.cat([own, 1 - taken]))

    def _paste(self, x, other, joints, rng):
        """(mixed clips, share of each that comes from the other): joints (N, V) bool, in one window for all."""
        T, V, device = x.shape[2], x.shape[3], x.device
        units = max(1, T // UNIT)
        size = self._draw(rng, max(1, round(WINDOW[0] * units)), round(WINDOW[1] * units) + 1, device)
        start = UNIT * self._draw(rng, 0, units - size + 1, device)
        length = self._draw(rng, size, units + 1, device)
        source = UNIT * self._draw(rng, 0, units - length + 1, device)
        frames = min(UNIT * size, T)
        steps = torch.arange(frames, device=device) * length // size
        mixed = x.clone()
        window = mixed[:, :, start : start + frames]
        pasted = other[:, :, (source + steps).clamp(max=T - 1)]
        window.copy_(torch.where(joints.to(device)[:, None, None, :, None], pasted, window))
        return mixed, joints.sum(dim=1).to(device) * frames / (T * V)

    def _chosen(self, label, other, rng, epoch):
        """The joints (N, V) that each clip takes from the other."""
        if epoch < self.naive_epoch:
            return self.joints[self._draw(rng, 0, len(self.sets), label.device)].expand(len(label), -1)
        label, other = label.cpu(), other.cpu()
        paste = self.count[label] > self.count[other]  # the other is the rarer one
        weight = torch.softmax(self.saliency[torch.where(paste, other, label)] / self.temperature, dim=1)
        draw = torch.rand(len(label), 1, generator=rng, device=rng.device).cpu()
        salient = (weight.cumsum(dim=1) < draw * weight.sum(dim=1, keepdim=True)).sum(dim=1).clamp(max=19)
        return self.joints[torch.where(paste, salient, (salient + 10) % 20)]

    @torch.no_grad()
    def _observe(self, x, label, rng, epoch):
        """Look at one set of parts, in all clips of the batch."""
        s = self._draw(rng, 0, len(self.sets), x.device)
        company = set()
        if epoch >= self.naive_epoch:  # a coalition of random size
            rest = sorted(set(range(5)) - self.sets[s])
            order = torch.randperm(len(rest), generator=rng, device=rng.device).tolist()
            company = {rest[i] for i in order[: self._draw(rng, 0, len(rest) + 1, x.device)]}
        joints = [self._joints(parts).to(x.device)[:, None] for parts in (self.sets[s] | company, company)]  # V, 1 each
        seen = torch.cat([torch.where(shown, x, self.mean) for shown in joints])
        with tensor_cores(), test_mode(self.model):
            logits = self.logit_scale * self.model(self.render(seen))
        with_s, without = logits.float().softmax(dim=1).gather(1, label.repeat(2)[:, None])[:, 0].chunk(2)
        gain = (with_s - without).relu() * 10 / self.joints[s].sum().to(x.device)
        momentum = self.momentum if epoch > self.naive_epoch else 0.0
        for c, value in zip(label.tolist(), gain.tolist(), strict=True):
            self.saliency[c, s] = momentum * self.saliency[c, s] + (1 - momentum) * value

    @staticmethod
    def _draw(rng, low, high, device):
        """A whole number from low to below high."""
        return int(torch.randint(low, high, (1,), generator=rng, device=device))

    @staticmethod
    def _uniform(rng, device):
        return float(torch.rand(1, generator=rng, device=device))
