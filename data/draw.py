"""Pictures of clips as stick figures."""

import numpy as np

from graph import build_graph
from torchlight.files import replacing
from torchlight.plot import plt  # without a display, and with names of classes that are no formulas

COLORS = ("#4a5568", "#2b6cb0", "#dd6b20", "#2b6cb0", "#dd6b20")  # trunk, left arm, right arm, left leg, right leg


def draw_clips(store, indices, path, steps=8):
    """Draw clips of a Store, one a row, `steps` frames from first to last side by side, seen from the front (x, y).

    Poses in a picture have y downwards. Bones have the colour of their body part: left blue, right orange.
    """
    graph, planar = build_graph(store.layout), store.channels != "xyz"
    part = {joint: number for number, part in enumerate(graph.parts) for joint in part}
    figure, rows = plt.subplots(len(indices), 1, figsize=(1.3 * steps, 1.75 * len(indices)), squeeze=False)
    for axes, index in zip(rows[:, 0], indices, strict=True):
        clip = store.clip(index).copy()
        if planar:
            clip[..., 1] *= -1
        frames = clip[np.linspace(0, len(clip) - 1, steps).astype(int)]
        seen = frames[(frames != 0).any(axis=(2, 3))]  # bodies that are there
        if not len(seen):
            seen = frames[:1, 0]
        low, high = seen[..., :2].min(axis=(0, 1)), seen[..., :2].max(axis=(0, 1))
        width, height = high - low
        gap = 0.15 * width if store.keypoint.shape[1] == 1 else 0.5 * height  # pairs stand apart from pairs
        step = max(width + gap, 1e-6)
        for column, bodies in enumerate(frames):
            for body in bodies[(bodies != 0).any(axis=(1, 2))]:
                for joint, parent in graph.bones:
                    if planar and not (body[joint, :2].any() and body[parent, :2].any()):
                        continue  # the pose estimator did not see it
                    x, y = body[[joint, parent], 0] + column * step, body[[joint, parent], 1]
                    axes.plot(x, y, color=COLORS[part[joint]], linewidth=1.6, solid_capstyle="round")
        axes.set(aspect="equal", xlim=(low[0] - 0.1 * step, high[0] + (steps - 1) * step + 0.1 * step))
        axes.axis("off")
        axes.set_anchor("W")
        name = store.classes[store.label[index]] if store.label[index] >= 0 else "no label"
        label = f"{name}\n{len(clip)} frames"
        axes.annotate(label, (0, 0.5), (-8, 0), "axes fraction", "offset points", ha="right", va="center", fontsize=9)
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
