"""The clips that config/custom/data.yaml describes: two stick figures, generated.

Directions are (right, up, front) of each figure, in metres.
"""

import csv
import json

import numpy as np

from data.demo import bend, ease, hold

COLUMNS = ("file", "label", "split", "take")  # of the manifest
JOINTS = (
    "pelvis", "chest", "head", "left shoulder", "left elbow", "left hand", "right shoulder", "right elbow",
    "right hand", "left hip", "left knee", "left foot", "right hip", "right knee", "right foot",
)  # fmt: skip
RIGHT, LEFT = 0, 1
EXAMPLE_CLIPS = {"train": (20, 12, 8, 5), "test": (6, 6, 6, 6)}  # of each action


class Figure:
    """What a figure does in T frames: hands (2, T, 3) from the shoulders, the first number counted outwards; lean (T,)
    of the chest and place (T,) to the front; stride (T,): how far the right foot is in front of the left one.
    """

    def __init__(self, T):
        self.hands = np.zeros((2, T, 3)) + [0.05, -0.56, 0.08]
        self.lean, self.place, self.stride = np.zeros((3, T))

    def reach(self, side, target, share):
        """Move a hand: 0 of the way to the target where share (T,) is 0, all of it where share is 1."""
        self.hands[side] += share[:, None] * (target - self.hands[side])

    def joints(self):
        """(T, 15, 3), from the floor below where it began."""
        lean = self.lean[:, None] * [0, 0, 1]
        x = np.zeros((len(lean), len(JOINTS), 3))
        x[:, 0], x[:, 1], x[:, 2] = [0, 0.95, 0], lean + [0, 1.4, 0], 1.4 * lean + [0, 1.68, 0]
        for side, outwards, arm, leg in ((RIGHT, np.array([1, 1, 1]), 6, 12), (LEFT, np.array([-1, 1, 1]), 3, 9)):
            x[:, arm] = x[:, 1] + outwards * [0.2, -0.02, 0]
            hand = x[:, arm] + outwards * self.hands[side]
            x[:, arm + 1], x[:, arm + 2] = bend(x[:, arm], hand, 0.3, 0.3, outwards * [0.4, -1, -0.4])
            x[:, leg] = x[:, 0] + outwards * [0.1, 0, 0]
            foot = x[:, leg] - [0, 0.9, 0] + outwards[0] * self.stride[:, None] * [0, 0, 0.5]
            x[:, leg + 1], x[:, leg + 2] = bend(x[:, leg], foot, 0.46, 0.46, np.array([0, 0, 1]))
        return x + self.place[:, None, None] * [0, 0, 1]


def push(one, other, u, rng):
    """One shoves the other away with both hands."""
    for side in (RIGHT, LEFT):
        one.reach(side, np.array([-0.1, 0, 0.55]), hold(u, 0.4) ** 2)
    away = ease((u - 0.3) / 0.3)
    other.place -= rng.uniform(0.3, 0.6) * away
    other.lean -= rng.uniform(0.15, 0.3) * hold(away, 0.5)


def shake_hands(one, other, u, rng):
    """The right hands meet and go up and down."""
    shake = 0.15 * np.sin(2 * np.pi * rng.uniform(2.5, 4) * u)[:, None] * [0, 1, 0]
    for figure in (one, other):
        figure.reach(RIGHT, np.array([-0.2, -0.1, 0.42]) + shake, hold(u, 0.25))


def pass_object(one, other, u, rng):
    """Both bend over something heavy; one lets go of it, the other lifts it to the chest."""
    give, take, lift = hold(u / 0.7, 0.4), ease((u - 0.1) / 0.25), ease((u - 0.5) / 0.25)
    for side in (RIGHT, LEFT):
        one.reach(side, np.array([-0.1, -0.45, 0.35]), give)
        other.reach(side, np.array([-0.1, -0.45, 0.35]), take)
        other.reach(side, np.array([-0.1, -0.25, 0.2]), lift)
    one.lean += rng.uniform(0.2, 0.3) * give
    other.lean += rng.uniform(0.2, 0.3) * (take - lift)


def walk_towards(one, other, u, rng):
    """Both walk up to each other."""
    for figure in (one, other):
        stride = np.sin(2 * np.pi * (rng.uniform(1.5, 2.5) * u + rng.random()))
        figure.stride += 0.5 * stride
        figure.hands[:, :, 2] += np.stack([-0.25 * stride, 0.25 * stride])
        figure.place += rng.uniform(0.5, 0.8) * (u - 1)


EXAMPLE = {"push": push, "shake hands": shake_hands, "pass an object": pass_object, "walk towards": walk_towards}


def example_clip(action, rng):
    """(T, 2, 15, 3) float32: x right, y up, z towards the viewer. The first person stands on the left."""
    T = int(rng.integers(20, 46))
    one, other = Figure(T), Figure(T)
    EXAMPLE[action](one, other, np.linspace(0, 1, T) ** rng.uniform(0.8, 1.25), rng)
    gap, yaw, place = rng.uniform(1.0, 1.2), rng.normal(0, 0.3), rng.normal(0, 0.3, 3) * [1, 0, 1]
    clip = np.empty((T, 2, len(JOINTS), 3))
    for person, figure in enumerate((one, other) if rng.random() < 0.5 else (other, one)):
        right, up, front = np.moveaxis(figure.joints() * rng.uniform(0.9, 1.1), 2, 0)
        facing = 1 - 2 * person
        x, z = facing * (front - gap / 2), facing * right
        clip[:, person] = np.stack([x * np.cos(yaw) + z * np.sin(yaw), up, z * np.cos(yaw) - x * np.sin(yaw)], axis=2)
    return (clip + place + rng.normal(0, 0.01, clip.shape)).round(3).astype(np.float32)


def write_example(directory, seed=0):
    """Write the clips that config/custom/data.yaml describes, in all four kinds of files, and manifest.csv."""
    rng = np.random.default_rng(seed)
    rows = []
    for split, counts in EXAMPLE_CLIPS.items():
        (directory / split).mkdir(parents=True, exist_ok=True)
        for action, count in zip(EXAMPLE, counts, strict=True):
            for take in range(count):
                kind = (".npy", ".npy", ".npz", ".npy", ".json", ".csv")[len(rows) % 6]
                file = f"{split}/{action.replace(' ', '_')}_{take:02}{kind}"
                write_clip(directory / file, example_clip(action, rng))
                rows.append((file, action, split, take))
    with open(directory / "manifest.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    print(f"{directory}: {len(rows)} clips and manifest.csv, which config/custom/data.yaml describes")


def write_clip(path, clip):
    """A clip (T, M, V, C) as the kind of file that the path's suffix says."""
    if path.suffix == ".npy":
        np.save(path, clip)
    elif path.suffix == ".npz":
        np.savez_compressed(path, keypoint=clip)
    elif path.suffix == ".json":
        path.write_text(json.dumps({"keypoint": clip.tolist()}), encoding="utf-8")
    else:
        M, V, C = clip.shape[1:]
        heading = ",".join(f"p{m} j{v} {c}" for m in range(M) for v in range(V) for c in "xyz"[:C])
        np.savetxt(path, clip.reshape(len(clip), -1), "%.9g", ",", header=heading, comments="")
