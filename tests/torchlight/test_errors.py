import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_name_that_the_terminal_cannot_show():
    code = "from torchlight.errors import guarded; guarded(lambda words: print('caf\u00e9'))"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True)
    assert process.returncode == 0 and process.stdout.split() == [b"caf\\xe9"]


def test_sigterm_leaves_nothing_half_written(tmp_path):
    code = (
        "import os, signal, time, pathlib\n"
        "from torchlight.errors import guarded\nfrom torchlight.files import replacing\n"
        "def main(words):\n"
        f"    with replacing(pathlib.Path({str(tmp_path / 'x.txt')!r}), 'w') as file:\n"
        "        file.write('half')\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(60)\n"
        "guarded(main)\n"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
    assert process.returncode == 128 + signal.SIGTERM and list(tmp_path.iterdir()) == [] and not process.stderr


def test_memory_that_pytorch_does_not_get_is_bad_input():
    code = "import torch\nfrom torchlight.errors import guarded\nguarded(lambda words: torch.empty(1 << 60))"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 2 and len(process.stderr.splitlines()) == 1 and "memory" in process.stderr
