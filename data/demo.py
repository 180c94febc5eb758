"""Ten human actions made up by kinematics: a long-tailed data set that needs no download.

The joints are those of NTU RGB+D (Kinect v2). Each clip shows a made-up actor (`make_body`) whose pelvis, trunk, wrists
and ankles follow the course of an action (`ACTIONS`, one short function each); elbows and knees follow from the lengths
of the bones (`skeleton`). A camera sees the actor from somewhere and a sensor adds its errors (`record`).

Directions around the actor are (right, up, front). For arms and legs the first one counts outwards, so that the same
numbers are the same gesture on either side. One-sided actions are done with the right side, then mirrored for the
left-handed. Hands are placed in arm lengths from the shoulder, along the axes of the chest; feet and pelvis in leg
lengths from where they are when standing.
"""

from dataclasses import dataclass

import numpy as np

from data.check import describe
from feeders.store import Store, StoreWriter
from graph import build_graph
from torchlight.errors import expect

GRAPH = build_graph("ntu")
ARMS = (GRAPH.parts[2], GRAPH.parts[1])  # right, left: shoulder, elbow, wrist, hand, hand tip, thumb
LEGS = (GRAPH.parts[4], GRAPH.parts[3])  # right, left: hip, knee, ankle, foot
RIGHT, LEFT = 0, 1
OUTWARDS = (np.array([1, 1, 1]), np.array([-1, 1, 1]))  # of the right and the left side, in (right, up, front)

FPS = 30
TRAIN_CLIPS, IMBALANCE = 100, 25  # of the most frequent class; how many times the rarest one
TEST_CLIPS = 25  # of every class
TRAIN_ACTORS, TEST_ACTORS = 24, 12

# Lengths as fractions of the stature; "ankle" is its height above the floor, "hip drop" that of the pelvis above hips.
PROPORTIONS = {
    "lower spine": 0.145, "upper spine": 0.13, "neck": 0.04, "head": 0.085, "shoulder": 0.105, "upper arm": 0.17,
    "forearm": 0.145, "hand": 0.05, "hip": 0.045, "hip drop": 0.02, "thigh": 0.245, "shank": 0.235, "foot": 0.07,
    "ankle": 0.045,
}  # fmt: skip

NOISE = np.full((GRAPH.num_point, 1), 0.004)  # metres
NOISE[[6, 7, 10, 11, 14, 15, 18, 19]] = 0.008
NOISE[[21, 22, 23, 24]] = 0.012


@dataclass
class Body:
    """What stays with an actor. Lengths in metres, angles in radians."""

    length: dict
    left_handed: bool
    tempo: float
    size: float  # of the movements
    trunk: np.ndarray  # (3,) habitual posture: side, pitch, twist
    head: np.ndarray  # (3,) likewise
    hands: np.ndarray  # (3,) where they hang
    stance: float  # of the feet, outwards


@dataclass
class Pose:
    """The course of a body over T frames. Angles are (side, pitch, twist); each pair is (right, left)."""

    pelvis: np.ndarray  # (T, 3) displacement
    trunk: np.ndarray  # (T, 3) angles
    head: np.ndarray  # (T, 3) angles beyond the trunk's
    hands: np.ndarray  # (2, T, 3) wrists
    elbows: np.ndarray  # (2, T, 3) directions in which the elbows point
    feet: np.ndarray  # (2, T, 3) displacement of the ankles


# ---------------------------------------------------------------------------------------------------------------- body


def add_arguments(parser):
    parser.add_argument("--out", default="data/demo.h5", help="the store to write [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other clips [%(default)s]")


def run(arguments):
    """The generated data set to a store."""
    expect(arguments.seed >= 0, "--seed", "at least 0", arguments.seed)
    with StoreWriter(arguments.out, "ntu", list(CLASSES), source=f"procedural, seed {arguments.seed}") as writer:
        for name, label, keypoint, actor, split in demo_clips(arguments.seed):
            writer.add(name, label, keypoint, split, subject=actor)
    describe(Store(arguments.out))


def make_body(seed, actor):
    """The Body of an actor."""
    rng = np.random.default_rng([0, seed, actor])
    stature = rng.normal(1.70, 0.09)
    build = {name: rng.normal(1, 0.05) for name in ("spine", "shoulder", "arm", "leg")}
    part = {"upper arm": "arm", "forearm": "arm", "hand": "arm", "thigh": "leg", "shank": "leg", "foot": "leg",
            "shoulder": "shoulder"}  # fmt: skip
    return Body(
        length={name: x * stature * build[part.get(name, "spine")] for name, x in PROPORTIONS.items()},
        left_handed=rng.random() < 0.2,
        tempo=rng.uniform(0.8, 1.25),
        size=rng.uniform(0.75, 1.25),
        trunk=rng.normal((0, 0.06, 0), 0.05),
        head=rng.normal((0, 0.1, 0), 0.08),
        hands=rng.normal((0.15, -0.95, 0.1), 0.03),
        stance=rng.uniform(0, 0.08),
    )


def stand(body, T, rng):
    """The Pose of a body that stands idly, swaying a little."""
    return Pose(
        pelvis=drift(rng, (T, 3), 0.012),
        trunk=body.trunk + drift(rng, (T, 3), 0.03),
        head=body.head + drift(rng, (T, 3), 0.08),
        hands=body.hands + drift(rng, (2, T, 3), 0.02),
        elbows=np.array([0.4, -0.6, -0.6]) + drift(rng, (2, T, 3), 0.1),
        feet=np.zeros((2, T, 3)) + [body.stance, 0, 0],
    )


def turn(angle, i, j):
    """(T,) radians -> (T, 3, 3) rotations of axis i towards axis j."""
    R = np.zeros((len(angle), 3, 3)) + np.eye(3)
    R[:, i, i] = R[:, j, j] = np.cos(angle)
    R[:, j, i] = np.sin(angle)
    R[:, i, j] = -R[:, j, i]
    return R


def rotation(angles):
    """(T, 3) side, pitch, twist (positive: to the right, forwards, to the right) -> (T, 3, 3)"""
    return turn(angles[:, 2], 2, 0) @ turn(angles[:, 1], 1, 2) @ turn(angles[:, 0], 1, 0)


def unit(x):
    """(..., 3) vectors of length 1"""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def bend(root, target, upper, lower, pole):
    """Inverse kinematics of two bones: from root as far towards target as they reach, bending towards pole.

    root, target, pole (T, 3), upper, lower metres -> middle, end (T, 3)
    """
    reach = np.linalg.norm(target - root, axis=1, keepdims=True).clip(0.3 * upper, 0.998 * (upper + lower))
    axis = unit(target - root)
    along = (upper**2 - lower**2 + reach**2) / (2 * reach)
    aside = unit(pole - (pole * axis).sum(axis=1, keepdims=True) * axis)
    return root + along * axis + np.sqrt(upper**2 - along**2) * aside, root + reach * axis


def skeleton(body, pose):
    """Joints (T, 25, 3) of a body in a pose, (right, up, front) in metres from the floor below the standing pelvis."""
    L = body.length
    arm, leg = L["upper arm"] + L["forearm"], L["thigh"] + L["shank"]
    pelvis = pose.pelvis * leg + [0, L["ankle"] + 0.985 * leg + L["hip drop"], 0]
    hips, waist, chest = (rotation(pose.trunk * share) for share in (0.4, 0.7, 1.0))
    joints = np.empty((len(pelvis), GRAPH.num_point, 3))
    joints[:, 0] = pelvis
    joints[:, 1] = joints[:, 0] + waist @ [0, L["lower spine"], 0]
    joints[:, 20] = joints[:, 1] + chest @ [0, L["upper spine"], 0]
    joints[:, 2] = joints[:, 20] + chest @ [0, L["neck"], 0]
    joints[:, 3] = joints[:, 2] + rotation(pose.trunk + pose.head) @ [0, L["head"], 0]
    for side, outwards in enumerate(OUTWARDS):
        shoulder = joints[:, 20] + chest @ (outwards * [L["shoulder"], -0.1 * L["shoulder"], 0])
        target, pole = (np.einsum("tij,tj->ti", chest, outwards * x[side]) for x in (pose.hands * arm, pose.elbows))
        elbow, wrist = bend(shoulder, shoulder + target, L["upper arm"], L["forearm"], pole)
        forearm = unit(wrist - elbow)
        across = unit(np.cross(forearm, wrist - shoulder)) * outwards[0]
        hand = wrist + L["hand"] * forearm
        tip, thumb = hand + L["hand"] * forearm, hand + 0.5 * L["hand"] * (forearm + across)
        joints[:, ARMS[side]] = np.stack((shoulder, elbow, wrist, hand, tip, thumb), axis=1)

        hip = pelvis + hips @ (outwards * [L["hip"], -L["hip drop"], 0])
        target = outwards * (pose.feet[side] * leg + [L["hip"], L["ankle"], 0])
        knee, ankle = bend(hip, target, L["thigh"], L["shank"], chest[:, :, 2] * [1, 0, 1] + outwards * [0.15, 0, 0])
        lifted = (pose.feet[side, :, 1:2] / 0.15).clip(0, 1)  # a foot in the air hangs square to the shank
        shank = unit(ankle - knee)
        front = np.array([0.2, -0.3, 1]) * outwards
        square = front - (front * shank).sum(axis=1, keepdims=True) * shank
        foot = ankle + L["foot"] * unit(mix(unit(front), unit(square), lifted))
        joints[:, LEGS[side]] = np.stack((hip, knee, ankle, foot), axis=1)
    return joints


# ------------------------------------------------------------------------------------------------------------- courses


def ease(x):
    """0 below 0, 1 above 1, smooth in between."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def hold(u, rise):
    """0 at the ends of u = 0 ... 1 and 1 between, after a rise of the given length."""
    return ease(u / rise) * ease((1 - u) / rise)


def repeat(u, times):
    """The progress within each of several repetitions."""
    return np.clip(u, 0, 1) * times % 1


def mix(a, b, share):
    """a where share is 0, b where it is 1. share (T,) or (T, 1) for a and b (T, 3)"""
    return a + (b - a) * share.reshape(-1, 1)


def path(u, *keys):
    """(T, 3) through keys (time, value) with eased stretches; a value is (3,) or (T, 3)."""
    x = np.zeros((len(u), 3)) + keys[0][1]
    for (begin, _), (end, value) in zip(keys, keys[1:], strict=False):
        x = mix(x, value, ease((u - begin) / (end - begin)))
    return x


def drift(rng, shape, scale):
    """Slow wandering about 0, (..., T, 3): three waves of 0.1 to 0.7 Hz, of the given standard deviation together."""
    *lead, T, D = shape
    rate, phase = rng.uniform(0.1, 0.7, (3, *lead, 1, D)), rng.random((3, *lead, 1, D))
    seconds = np.arange(T)[:, None] / FPS
    return scale * np.sqrt(2 / 3) * np.sin(2 * np.pi * (rate * seconds + phase)).sum(axis=0)


# ------------------------------------------------------------------------------------------------------------- actions
# Each takes the idle Pose, the progress u (T,) from 0 to 1, a random generator and the size of the movements, and
# changes the pose in place. The second five are rare, and each looks like the frequent one that stands five before it.


def wave(pose, u, rng, size):
    """The forearm, upright beside the head, swings sideways."""
    swing = np.sin(2 * np.pi * (rng.uniform(1.5, 3.5) * u + rng.random()))
    place = rng.normal((0.35, 0.5, 0.25), 0.06) + size * swing[:, None] * rng.normal((0.2, -0.03, 0.05), 0.04)
    pose.hands[RIGHT] = mix(pose.hands[RIGHT], place, hold(u, 0.2))


def walk(pose, u, rng, size):
    """Steps, in place or forwards, with the arms swinging against the legs."""
    cycles, phase = rng.uniform(1.5, 3), rng.random()
    stride, lift = size * rng.uniform(0, 0.25), size * rng.uniform(0.1, 0.25)
    for side in (RIGHT, LEFT):
        q = (cycles * u + phase + side / 2) % 1
        swing = np.clip((q - 0.6) / 0.4, 0, 1)  # the foot stands for the first 0.6 of the cycle
        front = np.where(q < 0.6, 0.5 - q / 0.6, ease(swing) - 0.5)
        pose.feet[side, :, 1] += lift * np.sin(np.pi * swing)
        pose.feet[side, :, 2] += stride * front
        pose.hands[side] -= size * front[:, None] * [0, 0, 0.4]
    travel = stride * cycles / 0.6 * (u - 0.5)  # as fast as the standing foot goes back
    pose.feet[:, :, 2] += travel
    pose.pelvis[:, 2] += travel
    pose.pelvis[:, 1] -= 0.01 + stride**2 / 6


def drink(pose, u, rng, size):
    """A cup goes to the mouth; the head tips back."""
    up = hold(repeat(u, rng.integers(1, 3)), rng.uniform(0.2, 0.35))
    pose.hands[RIGHT] = mix(pose.hands[RIGHT], rng.normal((-0.22, 0.05, 0.4), 0.04), up)
    pose.elbows[RIGHT] = mix(pose.elbows[RIGHT], rng.normal((0.4, -1, 0), 0.15), up)
    pose.head[:, 1] -= size * rng.uniform(0.2, 0.5) * up**3


def squat(pose, u, rng, size):
    """The knees bend and the pelvis sinks, with the arms hanging or stretched forward."""
    down = hold(repeat(u, rng.integers(1, 3)), 0.4)
    pose.pelvis += size * down[:, None] * rng.normal((0, -0.4, -0.12), (0, 0.06, 0.03))
    pose.trunk[:, 1] += down * rng.uniform(0.3, 0.9)
    pose.hands += (rng.random() < 0.5) * (rng.normal((0, 0.9, 0.8), 0.1) * down[:, None])


def clap(pose, u, rng, size):
    """The hands meet in front of the chest, again and again."""
    gap = 0.14 + size * rng.uniform(0.16, 0.26) * (1 + np.sin(2 * np.pi * (rng.uniform(2.5, 5) * u + rng.random())))
    place = rng.normal((0, -0.08, 0.6), (0, 0.08, 0.05))
    for side in (RIGHT, LEFT):
        pose.hands[side] = mix(pose.hands[side], place + (gap[:, None] - 0.33) * [1, 0, 0], hold(u, 0.2))


def throw(pose, u, rng, size):
    """The hand goes back beside the head and shoots forward and down."""
    u = repeat(u, rng.integers(1, 3))
    back, front = rng.normal((0.35, 0.45, 0.1), 0.08), rng.normal((0.0, 0.3, 0.8), 0.08)
    down, rest = rng.normal((-0.3, -0.5, 0.6), 0.08), pose.hands[RIGHT]
    pose.hands[RIGHT] = path(u, (0, rest), (0.35, back), (0.5, front), (0.65, down), (1, rest))
    zero, reach = np.zeros(3), size * rng.uniform(0.5, 1.2)
    pose.trunk += reach * path(u, (0, zero), (0.35, [0, -0.1, 0.35]), (0.6, [0, 0.25, -0.35]), (1, zero))


def kick(pose, u, rng, size):
    """The leg goes back and shoots forward."""
    u = repeat(u, rng.integers(1, 3))
    zero, front = np.zeros(3), size * rng.normal((-0.05, 0.3, 0.55), 0.05)
    swing = path(u, (0.05, zero), (0.35, [0, 0.2, -0.35]), (0.55, front), (0.95, zero))
    pose.feet[RIGHT] += swing
    pose.trunk[:, 1] -= 0.3 * swing[:, 2]
    pose.pelvis[:, 0] -= 0.05 * hold(u, 0.3)
    pose.hands += size * swing[:, 2:] * np.array([[[0.1, 0.1, -0.4]], [[0.1, 0.1, 0.4]]])


def phone(pose, u, rng, size):
    """The hand goes to the ear; the head leans towards it."""
    up = hold(u, rng.uniform(0.15, 0.3))
    pose.hands[RIGHT] = mix(pose.hands[RIGHT], rng.normal((0.02, 0.2, 0.15), 0.04), up)
    pose.elbows[RIGHT] = mix(pose.elbows[RIGHT], rng.normal((0.5, -1, -0.2), 0.15), up)
    pose.head[:, 0] += size * rng.uniform(0.1, 0.3) * up


def bow(pose, u, rng, size):
    """The trunk bends forward over straight legs."""
    down = hold(repeat(u, rng.integers(1, 3)), 0.4)
    pose.pelvis += down[:, None] * rng.normal((0, -0.08, -0.12), (0, 0.03, 0.03))
    pose.trunk[:, 1] += size * down * rng.uniform(0.7, 1.1)
    pose.hands += rng.uniform(0, 0.5) * down[:, None] * [0, 0.2, 1]


def rub(pose, u, rng, size):
    """The palms slide along each other in front of the chest."""
    slide = size * rng.uniform(0.08, 0.14) * np.sin(2 * np.pi * (rng.uniform(2.5, 5) * u + rng.random()))
    place = rng.normal((-0.17, -0.3, 0.5), (0.02, 0.08, 0.05))
    for side, sign in ((RIGHT, 1), (LEFT, -1)):
        shifted = place + sign * slide[:, None] * [0, 0.5, 1]
        pose.hands[side] = mix(pose.hands[side], shifted, hold(u, 0.2))


ACTIONS = {
    "drink": drink, "clap": clap, "squat": squat, "walk": walk, "wave": wave,
    "phone call": phone, "rub hands": rub, "bow": bow, "kick": kick, "throw": throw,
}  # fmt: skip
CLASSES = tuple(ACTIONS)


# --------------------------------------------------------------------------------------------------- clips and cameras


def progress(rng, tempo):
    """(T,) from about 0 to about 1: cut somewhere, now faster and now slower, perhaps with a pause. 30 to 90 frames"""
    T = int(np.clip(FPS * rng.uniform(1.2, 2.6) / tempo, 30, 90))
    speed = 1 + rng.uniform(0, 0.5) * np.cos(2 * np.pi * (np.arange(T) / T + rng.random()))
    if rng.random() < 0.3:
        begin = rng.integers(T)
        speed[begin : begin + T // 8] *= 0.1
    return rng.uniform(-0.05, 0.15) + rng.uniform(0.85, 0.95) * np.cumsum(speed) / speed.sum()


def record(joints, rng):
    """Joints (T, 25, 3) around the actor -> as a sensor sees them: (x, y, depth) in metres from it, with its errors.

    x grows to the right of the mirrored picture, the side of the actor's right hand when facing the sensor.
    """
    T, V, _ = joints.shape
    yaw, tilt = rng.normal(0, (0.4, 0.08))[:, None]
    seen = joints @ turn(yaw, 2, 0)[0].T
    seen = np.array([1, 1, -1]) * seen + [rng.uniform(-0.4, 0.4), -rng.uniform(0.8, 1.6), rng.uniform(2.5, 4)]
    seen = seen @ turn(tilt, 1, 2)[0].T
    seen += NOISE * rng.normal(size=(T, V, 3)) + (NOISE * drift(rng, (V, T, 3), 1).swapaxes(0, 1))
    if rng.random() < 0.2:  # a limb is lost for some frames
        limb, begin = GRAPH.parts[rng.integers(1, 5)][1:], rng.integers(T)
        seen[begin : begin + rng.integers(2, 6), limb] += rng.normal(0, 0.1, 3)
    return seen


def make_clip(seed, split, label, repetition, body):
    """One clip (T, 1, 25, 3) float32: x right, y up, depth, in metres from the sensor."""
    rng = np.random.default_rng([1, seed, ("train", "test").index(split), label, repetition])
    u = progress(rng, body.tempo)
    pose = stand(body, len(u), rng)
    ACTIONS[CLASSES[label]](pose, u, rng, body.size * rng.uniform(0.85, 1.15))
    joints = skeleton(body, pose)
    if body.left_handed:
        joints = joints[:, GRAPH.mirror] * [-1, 1, 1]
    return record(joints, rng)[:, None].astype(np.float32)


def demo_clips(seed=0):
    """Yield (name, label, keypoint, actor, split).

    name "demo_a03_p12_r01" (label, actor, which time the actor does it), keypoint (T, 1, 25, 3) float32 in metres from
    the sensor (x right, y up, depth), split "train" (long-tailed) or "test" (balanced, other actors)
    """
    bodies = [make_body(seed, actor) for actor in range(TRAIN_ACTORS + TEST_ACTORS)]
    actors = {"train": range(TRAIN_ACTORS), "test": range(TRAIN_ACTORS, len(bodies))}
    for split, cast in actors.items():
        for label in range(len(CLASSES)):
            tail = int(TRAIN_CLIPS * (1 / IMBALANCE) ** (label / (len(CLASSES) - 1)))
            for repetition in range(tail if split == "train" else TEST_CLIPS):
                actor = cast[(5 * label + repetition) % len(cast)]
                name = f"demo_a{label:02}_p{actor:02}_r{repetition // len(cast):02}"
                yield name, label, make_clip(seed, split, label, repetition, bodies[actor]), actor, split
