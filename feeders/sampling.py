"""Which frames of a clip the model sees. Each function takes Clips and leaves clips of one length."""

import torch

from torchlight.errors import expect


def linspace_frames(clips, rng, length=52):
    """`length` frames at equal distances from the first to the last, rounded down (CTR-GCN, NW-UCLA test)."""
    step = (clips.length.double() - 1) / max(1, length - 1)
    index = (torch.arange(length, device=clips.device) * step[:, None]).long()  # to the bit what numpy.linspace gives
    if length > 1:
        index[:, -1] = clips.length - 1
    clips.take(index)


def random_frames(clips, rng, length=52):
    """`length` frames drawn independently and sorted, so short clips repeat frames (CTR-GCN, NW-UCLA training)."""
    draw = torch.rand(len(clips), length, generator=rng, device=clips.device)
    if draw.device.type == "cpu":
        draw.numpy().sort(axis=1)  # ten times as fast as PyTorch
    else:
        draw = draw.sort(dim=1).values
    clips.take((draw * clips.length[:, None]).long().clamp(max=clips.length[:, None] - 1))


def uniform_frames(clips, rng, length=64, num_clips=1, seed: int | None = None):
    """One random frame of each of `length` equal segments (PYSKL, UniformSampleFrames; BRL, section III-C).

    A clip shorter than `length` starts anywhere and is repeated in a loop; one of up to twice the length leaves out
    random frames. num_clips: draw so many samples of every clip; they become rows of their own. seed: draw the same
    numbers for every clip and in every call (a test).
    """
    N, n = len(clips), clips.length[:, None, None]  # N, 1, 1
    rows, device = N, clips.device
    if seed is not None:  # on the CPU, so that every device draws the same
        expect(0 <= seed < 2**63, "uniform_frames: seed", "a whole number from 0 to 2^63 - 1", seed)
        rng, rows, device = torch.Generator().manual_seed(seed), 1, "cpu"
    draw = torch.rand(rows, num_clips, length + 1, generator=rng, device=device).to(clips.device)
    start = torch.rand(rows, num_clips, 1, generator=rng, device=device).to(clips.device)
    steps = torch.arange(length, device=clips.device)
    # n < length: a loop from a random frame; in a test the starts are spread over the clip
    if seed is not None:
        spread = torch.arange(num_clips, device=clips.device)[None, :, None]
        first = torch.where(n < num_clips, spread, spread * n // num_clips)
    else:
        first = (start * n).long()
    looped = (first + steps) % n
    # length <= n < 2 * length: n - length of the length + 1 gaps are one frame wider
    wider = draw.argsort(dim=-1).argsort(dim=-1) < n - length
    spaced = steps + wider.cumsum(dim=-1)[..., :length]
    # otherwise a frame of each segment
    low, high = steps * n // length, (steps + 1) * n // length
    segments = low + (draw[..., :length] * (high - low)).long()
    index = torch.where(n < length, looped, torch.where(n < 2 * length, spaced, segments))
    clips.take(torch.minimum(index, n - 1).expand(N, -1, -1))


def crop_resize(clips, rng, length=64, p_interval=(0.5, 1.0)):
    """Crop a share of the clip and resize it to `length` frames by linear interpolation (CTR-GCN, NTU RGB+D).

    p_interval: two numbers: a random share between them, at least `length` frames, at a random place; one number: that
    share from the centre. Raises ValueError for shares outside (0, 1].
    """
    numbers = all(isinstance(p, int | float) and 0 < p <= 1 for p in p_interval)
    if not numbers or len(p_interval) not in (1, 2) or p_interval[0] > p_interval[-1]:
        raise ValueError(f"crop_resize: p_interval takes one or two shares over 0 and up to 1, not {list(p_interval)}")
    n = clips.length
    if len(p_interval) == 1:
        start = ((1 - p_interval[0]) * n.double() / 2).long()
        size = n - 2 * start
    else:
        low, high = p_interval
        share, place = torch.rand(2, len(clips), generator=rng, device=clips.device)
        size = torch.minimum(((low + (high - low) * share) * n).long().clamp(min=length), n)
        start = (place * (n - size + 1)).long()
    steps = torch.arange(length, device=clips.device) + 0.5
    position = (steps * size[:, None] / length - 0.5).clamp(min=0)
    below = position.long().clamp(max=size[:, None] - 1)
    above = (below + 1).clamp(max=size[:, None] - 1)
    clips.blend(start[:, None] + below, start[:, None] + above, position - below)
