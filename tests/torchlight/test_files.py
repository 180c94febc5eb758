import contextlib
import io
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from torchlight import checkpoint
from torchlight.files import load_pickle, output, read_json, read_names, replacing

ROOT = Path(__file__).parents[2]


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path, "w") as file:
        file.write("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with replacing(path, "w") as file:
        file.write("new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_the_names_of_outputs(tmp_path):
    assert output(tmp_path / "x.PNG", ".png", "--plot") == tmp_path / "x.PNG"
    with pytest.raises(ValueError, match="--plot: .*x.h5: its name must end with .png"):
        output(tmp_path / "x.h5", ".png", "--plot")


def test_a_directory_is_no_file_to_write(tmp_path):
    with pytest.raises(IsADirectoryError, match=f"{tmp_path} is a directory"), replacing(tmp_path) as file:
        file.write(b"x")
    assert not list(tmp_path.iterdir()) and not list(tmp_path.parent.glob(".*.tmp"))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_arrays(tmp_path, protocol):
    content = {
        "a": np.arange(3, dtype=np.float32),
        1: [np.float64(2.5), (1, "x", None, b"y")],
        "f": np.asfortranarray(np.ones((2, 3))),
    }
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content, protocol))
    read = load_pickle(tmp_path / "x.pkl")
    assert (read["a"] == [0, 1, 2]).all() and read[1] == [2.5, (1, "x", None, b"y")] and (read["f"] == 1).all()


class Harmful:
    def __reduce__(self):
        return print, ("code from a pickle ran",)


def test_pickles_are_data_not_code(tmp_path, capsys):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": Harmful()}))
    with pytest.raises(ValueError, match=r"x.pkl: .*builtins.print; only numpy arrays and plain containers"):
        load_pickle(tmp_path / "x.pkl")
    assert "ran" not in capsys.readouterr().out


def test_damaged_files_are_named(tmp_path):
    whole = pickle.dumps({"a": np.ones(100)})
    for name, content in (("cut.pkl", whole[:-40]), ("text.pkl", b"hello"), ("empty.pkl", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}: not a readable pickle"):
            load_pickle(tmp_path / name)
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(ValueError, match="x.json: not valid JSON"):
        read_json(tmp_path / "x.json")


def test_names(tmp_path):
    (tmp_path / "bom.txt").write_bytes(b"\xef\xbb\xbfone\r\n\r\ntwo\r\n")
    assert read_names(tmp_path / "bom.txt") == ["one", "two"]
    for content, message in ((b"caf\xe9\n", "not UTF-8 text"), (b"\n", "holds no names")):
        (tmp_path / "x.txt").write_bytes(content)
        with pytest.raises(ValueError, match=f"x.txt: {message}"):
            read_names(tmp_path / "x.txt")


def test_checkpoints(tmp_path):
    path = tmp_path / "x.pt"
    checkpoint.save({"model": {"w": torch.ones(3)}, "epoch": 3, "history": [{"lr": 0.1, "few": None}]}, path)
    assert checkpoint.load(path)["history"] == [{"lr": 0.1, "few": None}]
    torch.save({"meta": {"acc": np.float64(0.5), "clips": np.int64(3), "best": np.bool_(True)}}, path)
    assert checkpoint.load(path)["meta"] == {"acc": 0.5, "clips": 3, "best": True}
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="x.pt: not a checkpoint"):
        checkpoint.load(path)


def test_ctrl_c_while_a_checkpoint_is_written_stays_ctrl_c(tmp_path, monkeypatch):
    class Interrupted(io.BytesIO):
        def write(self, data):
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "replacing", lambda path: contextlib.nullcontext(Interrupted()))
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save({"w": torch.ones(3)}, tmp_path / "x.pt")


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
from pathlib import Path
import numpy as np
import torch
from feeders import StoreWriter
from torchlight import checkpoint
from torchlight.errors import guarded
from torchlight.files import write_json

def main(words):
    kind, path = words
    if kind == "json":
        write_json(Path(path), list(range(50_000)))
    if kind == "checkpoint":
        checkpoint.save({"w": torch.rand(100_000)}, path)
    if kind == "store":
        with StoreWriter(path, "ucla", ["a"], source="x") as writer:
            for i in range(100):
                writer.add(f"clip{i}", 0, np.ones((100, 1, 20, 3)))

guarded(main)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
@pytest.mark.parametrize("kind", ["json", "checkpoint", "store"])
def test_a_full_disk_names_the_file_and_leaves_what_was_there(tmp_path, kind):
    path = tmp_path / "x"
    process = subprocess.run([sys.executable, "-c", FULL, kind, path], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 2 and process.stderr.startswith(f"error: {path}: "), process.stderr
    assert len(process.stderr.splitlines()) == 1 and list(tmp_path.iterdir()) == []
