"""Normalisation and augmentation. Each transform takes Clips, changes them in place, and treats every clip by itself.

A transform is called as transform(clips, rng, **arguments); rng is the torch.Generator of the step. Bodies that are
absent (all zero) stay zero. Scores of a pose estimator, where the clips have them, go with their joints.
"""

import math

import torch

from torchlight.errors import expect

from .heat_map import HeatMaps
from .modality import to_modality
from .sampling import crop_resize, linspace_frames, random_frames, uniform_frames


def center(clips, rng, joint=1):
    """Move the origin to a joint of the first body in its first frame (CTR-GCN: joint 1, the spine)."""
    first = clips.first_frame()
    clips.shift(-first[:, _joint(joint, first), : clips.axes])


def align(clips, rng, center=1):
    """Turn the spine to the z axis and the shoulders to the x axis: PYSKL's PreNormalize3D (after 2s-AGCN).

    The body that is in most frames becomes the first; frames without it go. Spine and shoulders are those of its first
    frame, whose joint `center` becomes the origin.
    """
    if clips.joints.spine is None or clips.joints.shoulders is None:
        raise ValueError("transforms: align: this layout names no spine and shoulders")
    _in_space(clips, "align")
    clips.lead()
    first = clips.first_frame()
    clips.shift(-first[:, _joint(center, first)])
    bottom, top = clips.joints.spine
    right, left = clips.joints.shoulders
    z, x = first.new_tensor([0.0, 0.0, 1.0]), first.new_tensor([1.0, 0.0, 0.0])
    to_z = rotation_between(first[:, top] - first[:, bottom], z)
    across = torch.einsum("nij,nj->ni", to_z, (first[:, right] - first[:, left]).double())
    clips.turn((rotation_between(across, x) @ to_z).float())


def _joint(index, frame):
    if not 0 <= index < frame.shape[1]:
        raise ValueError(f"transforms: there is no joint {index}; the clips have {frame.shape[1]}, counted from 0")
    return index


def rotation_between(a, b):
    """Rotation matrices (N, 3, 3) that turn a (N, 3) into the direction of b (3,), about the axis a x b.

    Rodrigues' formula. Where a is 0, or along b or opposite to it, there is no such axis: the identity, as in PYSKL.
    """
    a, b = torch.nn.functional.normalize(a.double(), dim=1), b.double()  # nearly opposite vectors need the digits
    axis = torch.linalg.cross(a, b.expand_as(a))
    sin, cos = axis.norm(dim=1)[:, None, None], (a @ b)[:, None, None]
    x, y, z = torch.nn.functional.normalize(axis, dim=1).unbind(dim=1)
    zero = torch.zeros_like(x)
    K = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).view(-1, 3, 3)  # K v = axis x v
    eye = torch.eye(3, dtype=a.dtype, device=a.device)
    return torch.where(sin < 1e-6, eye, eye + sin * K + (1 - cos) * K @ K)


def _in_space(clips, transform):
    if clips.axes != 3:
        where = "poses in a picture cannot be turned in space (config/custom/ce-2d.yaml turns none)"
        raise ValueError(f"transforms: {transform}: {where}")


def axis_rotations(angles):
    """(N, 3) angles in rad about x, y, z -> three matrices (N, 3, 3), clockwise as in CTR-GCN's and PYSKL's code."""
    axes = torch.eye(3, device=angles.device)
    along = axes[:, :, None] * axes[:, None]  # of each axis what it leaves as it is
    across = torch.linalg.cross(axes[:, None], axes[None], dim=2)  # across[i] v = v x axis i
    cos, sin = angles.cos()[..., None, None], angles.sin()[..., None, None]
    return (cos * (axes - along) + sin * across + along).unbind(dim=1)


def view_rotation(clips, rng, x=60.0, y=60.0):
    """Turn each clip by random angles, up to x and y degrees, about those axes (CTR-GCN, NW-UCLA)."""
    _in_space(clips, "view_rotation")
    limit = torch.tensor([x, y, 0.0], device=clips.device) * (math.pi / 180)
    angles = (2 * torch.rand(len(clips), 3, generator=rng, device=clips.device) - 1) * limit
    clips.turn(_view(angles))


def _view(angles):
    """(N, 3) angles in rad about x, y and nothing -> matrices (N, 3, 3) as CTR-GCN's release turns NW-UCLA by them."""
    about_x, about_y, _ = axis_rotations(angles)
    return (about_y @ about_x).transpose(1, 2)  # the release multiplies points from the left


def views(clips, rng, x=(0,), y=(-60, -30, 0, 30, 60)):
    """Turn each clip by every pair of these angles, in degrees about x and y: rows of their own, for a test.

    What view_rotation is to training: the test averages over views that the training has drawn at random. Raises
    ValueError for what is not a list of numbers.
    """
    for axis, angles in (("x", x), ("y", y)):
        if not angles or not all(isinstance(angle, int | float) for angle in angles):
            raise ValueError(f"transforms: views: {axis} takes angles in degrees, not {list(angles)}")
    _in_space(clips, "views")
    N, R = len(clips), len(x) * len(y)
    clips.repeat(R)
    angles = torch.tensor([[i, j, 0] for i in x for j in y], dtype=torch.float32, device=clips.device)
    clips.turn(_view(angles * (math.pi / 180)).repeat(N, 1, 1))


def random_rotation(clips, rng, theta=0.3):
    """Turn each clip by random angles, up to theta rad, about z, y and x; in 2D about the origin (PYSKL, CTR-GCN)."""
    angles = (2 * torch.rand(len(clips), 3, generator=rng, device=clips.device) - 1) * theta
    if clips.axes == 2:
        angles = angles * angles.new_tensor([0, 0, 1])
    about_x, about_y, about_z = axis_rotations(angles)
    clips.turn((about_z @ about_y @ about_x)[:, : clips.axes, : clips.axes])


def random_scale(clips, rng, low=0.9, high=1.1, per_axis=True):
    """Scale each clip by a random factor, one for each axis (PYSKL, BRL) or one for all (CTR-GCN, NW-UCLA)."""
    expect(low > 0, "transforms: random_scale: low", "above 0", low)
    expect(high >= low, "transforms: random_scale: high", f"at least low, {low}", high)
    axes = clips.axes if per_axis else 1
    factor = low + (high - low) * torch.rand(len(clips), axes, generator=rng, device=clips.device)
    clips.turn(torch.diag_embed(factor.expand(-1, clips.axes)))


def flip(clips, rng, p=0.5, mirror=True):
    """With probability p: exchange left and right joints and negate x.

    mirror: False leaves the coordinates and only exchanges the joints, as BRL's release does (Spatial_Flip).
    """
    expect(0 <= p <= 1, "transforms: flip: p", "a probability", p)
    chosen = torch.rand(len(clips), generator=rng, device=clips.device) < p
    clips.exchange(chosen)
    if mirror:
        sign = torch.ones(len(clips), clips.axes, device=clips.device)
        sign[:, 0] -= 2 * chosen
        clips.turn(torch.diag_embed(sign))


def part_drop(clips, rng, p=0.5):
    """With probability p: one of the five body parts, drawn at random, becomes zero (SkeletonAgent: of four limbs)."""
    expect(0 <= p <= 1, "transforms: part_drop: p", "a probability", p)
    N, device = len(clips), clips.device
    chosen = torch.rand(N, generator=rng, device=device) < p
    parts = clips.joints.parts  # 5, V
    dropped = parts[torch.randint(len(parts), (N,), generator=rng, device=device)] & chosen[:, None]
    clips.x = clips.x.masked_fill(dropped[:, None, None, :, None], 0)


def min_max(clips, rng):
    """Scale each axis to [-1, 1] over all joints and frames of the clip (CTR-GCN, NW-UCLA). A flat axis becomes 0."""
    low, high = clips.extremes()
    size = high - low
    scale = torch.where(size > 0, 2 / size, 0)
    clips.turn(torch.diag_embed(scale))
    clips.shift(-(low + high) / 2 * scale)


def compact(clips, rng, padding=0.25, threshold=10.0, picture=()):
    """Let a square around all joints, larger than their box by a share `padding`, be the picture (PYSKL, PoseCompact).

    The square has whole pixels and may reach over the edge. Clips whose box is less than `threshold` pixels wide or
    high stay as they are. What is sampled from one clip gets one square. picture: width and height in pixels, for
    stores that do not say them.
    """
    if picture:
        if len(picture) != 2 or not all(isinstance(n, int | float) and n > 0 for n in picture):
            raise ValueError(f"transforms: compact: picture takes a width and a height in pixels, not {list(picture)}")
        clips.picture = torch.tensor([picture], dtype=torch.float64, device=clips.device).expand(len(clips), 2)
    size = _picture(clips, "compact")
    place = _pixels(clips)
    place = (place * 8192).round() / 8192  # as they were in the file: else the edges might be a pixel off
    seen = (clips.x[..., :2] != 0).any(dim=-1, keepdim=True)
    low = torch.where(seen, place, math.inf).amin(dim=(1, 2, 3)).view(-1, clips.rows, 2).amin(dim=1)
    high = torch.where(seen, place, -math.inf).amax(dim=(1, 2, 3)).view(-1, clips.rows, 2).amax(dim=1)
    half = (high - low).amax(dim=1, keepdim=True) / 2 * (1 + padding)
    first, last = ((low + high) / 2 - half).trunc(), ((low + high) / 2 + half).trunc()
    fits = ((high - low) >= threshold).all(dim=1, keepdim=True)  # of a clip without joints too it is False
    size = size.view(-1, clips.rows, 2)[:, 0]
    first, last = torch.where(fits, first, 0), torch.where(fits, last, size)
    first, last = (edge.repeat_interleave(clips.rows, dim=0) for edge in (first, last))
    _crop(clips, place, first, last - first)


def random_resized_crop(clips, rng, size=64, area=(0.56, 1.0), ratio=(3 / 4, 4 / 3)):
    """Let a random box be the picture, of a share `area` of it and a ratio of width to height (PYSKL, MMAction2).

    The picture's pixels are those that its shorter side has `size` of; of ten boxes the first that fits in is taken,
    else the square in the middle. Raises ValueError for a share outside (0, 1] and ratios of 0 or less.
    """
    for name, interval, top in (("area", area, 1), ("ratio", ratio, math.inf)):
        numbers = all(isinstance(n, int | float) for n in interval)
        if len(interval) != 2 or not numbers or not 0 < interval[0] <= interval[1] <= top:
            raise ValueError(
                f"transforms: random_resized_crop: {name} takes two numbers over 0"
                f"{' and up to 1' if name == 'area' else ''}, the smaller first, not {list(interval)}"
            )
    whole = _picture(clips, "random_resized_crop")
    scale = size / whole.amin(dim=1, keepdim=True)
    whole = (whole * scale + 0.5).floor()  # N, 2
    draw = torch.rand(4, len(clips), 10, generator=rng, device=clips.device, dtype=torch.float64)
    shape = torch.exp(math.log(ratio[0]) + (math.log(ratio[1]) - math.log(ratio[0])) * draw[0])
    pixels = (area[0] + (area[1] - area[0]) * draw[1]) * whole.prod(dim=1, keepdim=True)
    box = torch.stack([(pixels * shape).sqrt(), (pixels / shape).sqrt()], dim=2).round()  # N, 10, 2
    first = ((whole[:, None] - box + 1) * draw[2:].permute(1, 2, 0)).floor()
    fits = (box <= whole[:, None]).all(dim=2)  # N, 10
    chosen = fits.int().argmax(dim=1)[:, None, None].expand(-1, 1, 2)
    box, first, fits = box.gather(1, chosen)[:, 0], first.gather(1, chosen)[:, 0], fits.any(dim=1, keepdim=True)
    box = torch.where(fits, box, whole.amin(dim=1, keepdim=True))
    first = torch.where(fits, first, ((whole - box) / 2).floor())
    clips.picture = whole
    _crop(clips, _pixels(clips), first, box)


def _picture(clips, name):
    """Width and height of the clips' pictures, (N, 2). Raises ValueError where there are none."""
    if clips.axes != 2:
        raise ValueError(f"transforms: {name} is for poses in pictures (channels xy or xys), not in space")
    if clips.picture is None:
        raise ValueError(
            f"transforms: {name}: the store does not say how large its pictures are; "
            "compact: {picture: [width, height]} does"
        )
    return clips.picture


def _pixels(clips):
    """Places (N, T, M, V, 2) in pixels of the picture."""
    return (clips.x[..., :2].double() + 1) / 2 * clips.picture[:, None, None, None]


def _crop(clips, place, first, size):
    """Let the box at `first` (N, 2), of this size (N, 2), be the picture; place: _pixels. Joints not seen stay 0."""
    moved = ((place - first[:, None, None, None]) / size[:, None, None, None] * 2 - 1).float()
    moved = torch.where(moved == 0, 1e-7, moved)  # 0 is for joints that are not seen
    clips.move(torch.where((clips.x[..., :2] != 0).any(dim=-1, keepdim=True), moved, 0))
    clips.picture = size


TRANSFORMS = {
    "center": center,
    "align": align,
    "view_rotation": view_rotation,
    "views": views,
    "random_rotation": random_rotation,
    "random_scale": random_scale,
    "flip": flip,
    "part_drop": part_drop,
    "min_max": min_max,
    "compact": compact,
    "random_resized_crop": random_resized_crop,
    "modality": to_modality,
    "linspace_frames": linspace_frames,
    "random_frames": random_frames,
    "uniform_frames": uniform_frames,
    "crop_resize": crop_resize,
    "heat_map": HeatMaps,  # the last one: it draws what has been mixed
}
FRAME_SAMPLERS = ("linspace_frames", "random_frames", "uniform_frames", "crop_resize")


def is_random(name, arguments):
    """Whether a transform with these arguments draws random numbers, so that it does not belong into a test."""
    if name == "uniform_frames":
        return arguments.get("seed") is None
    if name == "crop_resize":
        return len(arguments.get("p_interval", (0, 1))) == 2
    return name in (
        "view_rotation",
        "random_rotation",
        "random_scale",
        "flip",
        "part_drop",
        "random_resized_crop",
        "random_frames",
    )
