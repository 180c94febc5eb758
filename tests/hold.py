"""main.py, but it stops where it logs a text until a file is there: python tests/hold.py TEXT FILE, main.py's words."""

import sys
import time
from pathlib import Path

import main
from torchlight.errors import guarded
from torchlight.recorder import Recorder

text, file = sys.argv[1], Path(sys.argv[2])
log = Recorder.log


def held(self, message):
    log(self, message)
    while text in message and not file.exists():
        time.sleep(0.02)


Recorder.log = held
sys.argv = ["main.py", *sys.argv[3:]]
guarded(main.main)
