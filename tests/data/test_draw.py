from matplotlib import image

from data.prepare import main


def test_clips_are_drawn(tiny_store, tmp_path):
    assert main(["check", str(tiny_store), "--plot", str(tmp_path / "clips.png")]) == 0
    pixels = image.imread(tmp_path / "clips.png")[..., :3]
    blue, orange = pixels[..., 2] - pixels[..., 0] > 0.3, pixels[..., 0] - pixels[..., 2] > 0.3
    assert blue.sum() > 500 and orange.sum() > 500  # left and right limbs
