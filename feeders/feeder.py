"""From a store to batches for the model."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import torch

from graph import build_graph
from torchlight.config import bind, nearest
from torchlight.device import counted_generator, one_thread
from torchlight.errors import expect

from .ahead import ahead
from .balance import class_count, epoch_order
from .clips import Clips
from .heat_map import HeatMaps
from .mixing import Target
from .modality import MODALITIES
from .store import CHANNELS, Store
from .transforms import FRAME_SAMPLERS, TRANSFORMS, is_random

CHUNK = 512  # clips that are made at a time for a training, or
CHUNK_BYTES = 16 << 20  # so many that a CPU keeps them in its cache


class Feeder:
    """Clips of one split of a store, as the model takes them; whole batches at a time, on the device.

    data_path   a store file, or a Store
    split       name of the split, or an array of clip indices
    modality    one of MODALITIES; of heat maps joint, or bone: limbs
    transforms  list of names, or {name: {argument: value}}, in order, from TRANSFORMS. Where no "modality" is among
                them it comes last. One of them samples frames. heat_map, the very last, draws the clips.
    num_person  persons of the output: more than the store's are zero, fewer keep the first. None: as the store.
    device      where batches go. They are made on a GPU if the split's frames fit in a quarter of its memory, else on
                the CPU from the mapped file, in advance.

    names (list), label (N,), class_count (K,), classes, graph, num_clips (rows a clip becomes), shape (C, T, V, M), of
    heat maps (V, T, H, W), axes (the letters of shape), form (what of it a model is built for), heat_maps (None, or
    what draws them), random (names of transforms that draw random numbers), clip_bytes (of skeletons, about).
    Raises ValueError for what does not fit; the message says which key or file.
    """

    def __init__(
        self,
        data_path,
        split="test",
        modality="joint",
        transforms=(),
        num_person: int | None = None,
        seed=0,
        device="cpu",
    ):
        store = data_path if isinstance(data_path, Store) else Store(data_path)
        expect(num_person is None or num_person >= 1, "num_person", "at least 1", num_person)
        if modality not in MODALITIES:
            raise ValueError(f"unknown modality {modality!r}; there are {', '.join(MODALITIES)}")
        self.store, self.device, self.seed = store, torch.device(device), seed
        self.index = store.split(split) if isinstance(split, str) else np.asarray(split)
        self.names = [store.name[i] for i in self.index]
        self.label = store.label[self.index]
        self.classes = store.classes
        self.class_count = class_count(self.label, len(store.classes))
        self.graph = build_graph(store.layout)
        self.num_person = num_person or store.keypoint.shape[1]
        self.transforms, self.random, heat_map = parse_transforms(transforms, modality)
        if heat_map is not None and CHANNELS[store.channels] != 2:
            raise ValueError(
                f"transforms: heat_map draws poses in pictures, but the channels of {store.path} are {store.channels}"
            )
        self.heat_maps = None if heat_map is None else HeatMaps(self.graph, **heat_map)
        self._frames, self._offset = self._place_frames()
        self._joints = self._layout_tensors()
        self._length = torch.from_numpy(store.length[self.index])
        self._picture = self._picture_sizes()
        x, _ = self.skeletons([0])
        C, T, V, M = x.shape[1:]
        frames = max(self._length.float().mean().item(), self._length.max().item() / 16)  # the longest may be padded to
        self.clip_bytes = max(x.nbytes, int(frames * self._frames[0].nbytes))
        self.num_clips, self.shape, self.axes, self.form = len(x), (C, T, V, M), "C, T, V, M", (C, V, M)
        if self.heat_maps:
            V, size = self.heat_maps.channels, self.heat_maps.size
            self.num_clips *= self.heat_maps.views
            self.shape, self.axes, self.form = (V, T, size, size), "V, T, H, W", (V,)

    def _layout_tensors(self):
        graph, layout = self.graph, self.graph.layout

        def tensor(indices):
            return torch.tensor(indices, device=self._frames.device)

        return SimpleNamespace(
            parent=tensor([parent for _, parent in graph.bones]),
            grandparent=tensor([g for _, g in graph.skip]),
            mirror=tensor(graph.mirror),
            parts=tensor([[v in part for v in range(graph.num_point)] for part in graph.parts]),
            spine=layout.spine,
            shoulders=layout.shoulders,
            score=CHANNELS[self.store.channels] if self.store.channels.endswith("s") else None,
        )

    def _picture_sizes(self):
        """Width and height of every clip's picture, (N, 2) float64, or None where the store does not say them."""
        meta = self.store.meta
        if CHANNELS[self.store.channels] != 2 or not {"width", "height"} <= set(meta):
            return None
        sizes = np.stack([meta["width"], meta["height"]], axis=1)[self.index]
        return torch.from_numpy(sizes).double().to(self._frames.device)

    def _place_frames(self):
        """The split's frames and the clips' offsets in them: on the GPU if they fit, else the whole mapped file.

        What is free of the GPU's memory does not count, since random numbers would depend on it.
        """
        store, index = self.store, self.index
        mapped, offset = torch.from_numpy(store.keypoint), torch.from_numpy(store.offset[index])
        if self.device.type != "cuda":
            return mapped, offset
        length = store.length[index]
        size = int(length.sum()) * mapped[0].nbytes
        if size > torch.cuda.get_device_properties(self.device).total_memory / 4:
            return mapped, offset
        ranges = [np.arange(first, first + n) for first, n in zip(store.offset[index], length, strict=True)]
        rows = np.concatenate(ranges)
        return mapped[torch.from_numpy(rows)].to(self.device), torch.from_numpy(np.cumsum(length) - length)

    def __len__(self):
        return len(self.index)

    def batch(self, positions, epoch=0, step=0):
        """Clips at these positions of the split: x (N * num_clips, *shape) float32, y (N,) int64.

        Random transforms draw from a generator seeded by (seed, epoch, step): the same arguments give the same batch.
        """
        x, y = self.skeletons(positions, epoch, step)
        return self.render(x), y

    def render(self, x):
        """What the model takes of clips (N, C, T, V, M): themselves, or their heat maps."""
        return self.heat_maps(x) if self.heat_maps else x

    def skeletons(self, positions, epoch=0, step=0, purpose="feeder"):
        """As batch, but x is (N, C, T, V, M) in any case: what mixing acts on. purpose: of counted_generator."""
        positions = torch.as_tensor(positions, dtype=torch.int64)
        device = self._frames.device
        rng = counted_generator(purpose, self.seed, epoch, step, device=device)
        picture = None if self._picture is None else self._picture[positions.to(device)]
        clips = Clips(self._frames, self._offset[positions], self._length[positions], self._joints, device, picture)
        with one_thread() if device.type == "cpu" else nullcontext():
            for transform, arguments in self.transforms:
                transform(clips, rng, **arguments)
            x = clips.x  # N, T, M, V, C
        self.store.touched(len(positions), x.nbytes)
        missing = self.num_person - x.shape[2]
        if missing > 0:
            x = torch.cat([x, x.new_zeros(*x.shape[:2], missing, *x.shape[3:])], dim=2)
        elif missing < 0:
            x = x[:, :, : self.num_person]
        x, y = x.permute(0, 4, 1, 3, 2), torch.from_numpy(self.label[positions.numpy()])
        if device.type != self.device.type:  # pinned, so that nobody waits for the copy
            x, y = x.pin_memory(), y.pin_memory()
        return x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)

    def made(self, requests):
        """Yield skeletons(*request) of each request; where a GPU waits for the CPU, a thread makes them in advance."""
        made = (self.skeletons(*request) for request in requests)
        return ahead(made) if self.in_advance else made

    @property
    def in_advance(self):
        """Whether a thread makes the batches: on the CPU, for a GPU."""
        return self._frames.device.type != self.device.type

    def batches(self, batch_size, part=slice(None)):
        """x of all clips in order, or of a part of them, batch_size clips at a time: a test."""
        positions = range(len(self))[part]
        for x, _ in self.made(
            [positions[first : first + batch_size]] for first in range(0, len(positions), batch_size)
        ):
            yield self.render(x)


class TrainBatches:
    """The batches of a training: class sampling, repetition, shuffling, mixing.

    sampler: a name in balance.SAMPLERS; mixing: None or a callable (x, label, rng, epoch) -> (x, Target), see
    mixing.py. The last batch of an epoch is left out if it is not full, unless it is the only one.

    Batches are made several at a time, in chunks that are the same wherever an epoch is begun: what is done to a few
    clips takes a CPU or a GPU hardly longer for a few hundred.
    """

    def __init__(self, feeder, batch_size, sampler="uniform", repeat=1, mixing=None):
        self.feeder, self.batch_size = feeder, batch_size
        self.sampler, self.repeat, self.mixing = sampler, repeat, mixing
        self.clips = len(self._order(0))
        self.chunk = max(1, min(CHUNK, CHUNK_BYTES // feeder.clip_bytes) // batch_size)  # batches

    def __len__(self):
        return max(1, self.clips // self.batch_size)

    def _order(self, epoch):
        generator = counted_generator("order", self.feeder.seed, epoch)
        return epoch_order(self.feeder.label, len(self.feeder.classes), self.sampler, self.repeat, generator)

    def begin(self, model, logit_scale=1.0):
        """Before the first epoch: a mixing that watches the model gets to know it, and the mean training clip.

        logit_scale: what the loss multiplies the model's output by before the softmax.
        """
        if hasattr(self.mixing, "begin"):
            feeder, places = self.feeder, range(len(self.feeder))
            requests = ((places[first : first + 64], 0, first, "mean") for first in places[::64])
            mean = sum(x.sum(dim=0) for x, _ in feeder.made(requests)) / len(feeder)
            self.mixing.begin(model, feeder.render, mean, logit_scale)

    def state_dict(self):
        """What a mixing has learned so far."""
        return self.mixing.state_dict() if hasattr(self.mixing, "state_dict") else {}

    def load_state_dict(self, state):
        if state:
            self.mixing.load_state_dict(state)

    def epoch(self, epoch, start=0):
        """Yield (x, Target, names) of each batch of an epoch from batch `start` on; names() lists its clips."""
        feeder, size = self.feeder, self.batch_size
        chunks = self._order(epoch)[: len(self) * size].split(self.chunk * size)
        number = start // self.chunk
        made = feeder.made((positions, epoch, i) for i, positions in enumerate(chunks[number:], number))
        for i, (x, y) in enumerate(made, number):
            batches = zip(x.split(size), y.split(size), chunks[i].split(size), strict=True)
            for step, (x, y, positions) in enumerate(batches, i * self.chunk):
                if step < start:
                    continue
                target = Target(y)
                if self.mixing:
                    rng = counted_generator("mixing", feeder.seed, epoch, step, device=feeder.device)
                    x, target = self.mixing(x, y, rng, epoch)
                yield feeder.render(x), target, lambda positions=positions: [feeder.names[n] for n in positions]


def parse_transforms(transforms, modality):
    """A config's list of transforms, checked: ([(function, arguments)], names of the random ones, heat_map).

    The modality goes where the list has "modality", or last. heat_map: its arguments, or None where it is not in the
    list. Raises ValueError naming the transform and the argument.
    """
    if not isinstance(transforms, list | tuple):
        raise ValueError(f"transforms must be a list, not {transforms!r}")
    parsed = {}
    for item in transforms:
        name, arguments = next(iter(item.items())) if isinstance(item, dict) and len(item) == 1 else (item, None)
        if not isinstance(name, str) or name not in TRANSFORMS:
            raise ValueError(
                f"transforms: unknown transform {name!r}{nearest(name, TRANSFORMS)}; there are {', '.join(TRANSFORMS)}"
            )
        if name in parsed:
            raise ValueError(f"transforms: {name} is there twice")
        if name == "modality" and arguments:
            raise ValueError("transforms: modality takes no arguments here; set the option `modality`")
        arguments = bind(TRANSFORMS[name], arguments or {}, f"transforms: {name}", skip=("clips", "rng", "graph"))
        for size in {"length", "num_clips"} & set(arguments):
            expect(arguments[size] >= 1, f"transforms: {name}: {size}", "at least 1", arguments[size])
        parsed[name] = arguments
    heat_map = None
    if "heat_map" in parsed:
        if list(parsed)[-1] != "heat_map":
            raise ValueError("transforms: heat_map must be the last")
        heat_map = parsed.pop("heat_map")
        if heat_map.get("limb") is None:
            heat_map["limb"] = modality == "bone"
        if modality not in ("joint", "bone") or (modality == "bone" and not heat_map["limb"]):
            raise ValueError(f"transforms: heat_map draws joints, or limbs for the modality bone, not {modality}")
        modality = "joint"  # limbs are drawn from joint to joint
    parsed.setdefault("modality", {})["name"] = modality
    if sum(name in parsed for name in FRAME_SAMPLERS) != 1:
        raise ValueError(f"transforms: exactly one must sample frames: {', '.join(FRAME_SAMPLERS)}")
    random = [name for name, arguments in parsed.items() if is_random(name, arguments)]
    return [(TRANSFORMS[name], arguments) for name, arguments in parsed.items()], random, heat_map
