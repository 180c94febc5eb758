"""OpenPose: the 18 joints of Kinetics-Skeleton (Yan et al., ST-GCN, AAAI 2018)."""

from .graph import Layout

JOINTS = (
    "nose", "neck", "right shoulder", "right elbow", "right wrist", "left shoulder", "left elbow", "left wrist",
    "right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle", "right eye", "left eye",
    "right ear", "left ear",
)  # fmt: skip

OPENPOSE = Layout(
    name="openpose",
    joints=JOINTS,
    bones=(
        (0, 1), (2, 1), (3, 2), (4, 3), (5, 1), (6, 5), (7, 6), (8, 2), (9, 8), (10, 9), (11, 5), (12, 11), (13, 12),
        (14, 0), (15, 0), (16, 14), (17, 15),
    ),
    pairs=((5, 2), (6, 3), (7, 4), (11, 8), (12, 9), (13, 10), (15, 14), (17, 16)),
    parts=((0, 1, 14, 15, 16, 17), (5, 6, 7), (2, 3, 4), (11, 12, 13), (8, 9, 10)),
    upper=(0, 1, 2, 3, 4, 5, 6, 7, 14, 15, 16, 17),
    shoulders=(2, 5),
)  # fmt: skip
