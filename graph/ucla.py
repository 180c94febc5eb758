"""NW-UCLA: the 20 joints of Kinect v1."""

from .graph import Layout

JOINTS = (
    "hip centre", "spine", "shoulder centre", "head", "left shoulder", "left elbow", "left wrist", "left hand",
    "right shoulder", "right elbow", "right wrist", "right hand", "left hip", "left knee", "left ankle", "left foot",
    "right hip", "right knee", "right ankle", "right foot",
)  # fmt: skip

UCLA = Layout(
    name="ucla",
    joints=JOINTS,
    bones=(
        (0, 1), (1, 2), (3, 2), (4, 2), (5, 4), (6, 5), (7, 6), (8, 2), (9, 8), (10, 9), (11, 10), (12, 0), (13, 12),
        (14, 13), (15, 14), (16, 0), (17, 16), (18, 17), (19, 18),
    ),
    pairs=((4, 8), (5, 9), (6, 10), (7, 11), (12, 16), (13, 17), (14, 18), (15, 19)),
    parts=((0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11), (12, 13, 14, 15), (16, 17, 18, 19)),
    upper=(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11),
    spine=(0, 1),
    shoulders=(8, 4),
)  # fmt: skip
