import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_name_that_the_terminal_cannot_show():
    code = "from torchlight.errors import guarded; guarded(lambda words: print('caf\u00e9'))"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True)
    assert process.returncode == 0 and process.stdout.split() == [b"caf\\xe9"]
