import numpy as np
from matplotlib import image

from data.prepare import main
from feeders import StoreWriter


def test_clips_are_drawn(tiny_store, tmp_path):
    assert main(["check", str(tiny_store), "--plot", str(tmp_path / "clips.png")]) == 0
    pixels = image.imread(tmp_path / "clips.png")[..., :3]
    blue, orange = pixels[..., 2] - pixels[..., 0] > 0.3, pixels[..., 0] - pixels[..., 2] > 0.3
    assert blue.sum() > 500 and orange.sum() > 500  # left and right limbs


def test_a_clip_without_any_body(tmp_path):
    with StoreWriter(tmp_path / "x.h5", "ucla", ["a"], "test") as writer:
        writer.add("empty", 0, np.zeros((3, 1, 20, 3)), "train")
    assert main(["check", str(tmp_path / "x.h5"), "--plot", str(tmp_path / "new" / "clips.png")]) == 1
    assert (tmp_path / "new" / "clips.png").exists()
