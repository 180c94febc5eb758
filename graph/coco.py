"""COCO: the 17 joints of 2D pose estimators (HRNet in PYSKL's annotations); limbs as PoseC3D's networks order them."""

from .graph import Layout

JOINTS = (
    "nose", "left eye", "right eye", "left ear", "right ear", "left shoulder", "right shoulder", "left elbow",
    "right elbow", "left wrist", "right wrist", "left hip", "right hip", "left knee", "right knee", "left ankle",
    "right ankle",
)  # fmt: skip

COCO = Layout(
    name="coco",
    joints=JOINTS,
    bones=(
        (1, 0), (2, 0), (3, 1), (4, 2), (5, 0), (6, 0), (7, 5), (8, 6), (9, 7), (10, 8), (11, 5), (12, 6), (13, 11),
        (14, 12), (15, 13), (16, 14),
    ),
    pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    parts=((0, 1, 2, 3, 4), (5, 7, 9), (6, 8, 10), (11, 13, 15), (12, 14, 16)),
    upper=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
    shoulders=(6, 5),
    limbs=(
        (0, 5), (0, 6), (5, 7), (7, 9), (6, 8), (8, 10), (5, 11), (11, 13), (13, 15), (6, 12), (12, 14), (14, 16),
        (0, 1), (0, 2), (1, 3), (2, 4), (11, 12),
    ),
)  # fmt: skip
