"""main.py, but it stops where it logs a text until it is told to end: python tests/hold.py TEXT, main.py's words."""

import sys
import time

import main
from torchlight.errors import guarded
from torchlight.recorder import Recorder
from torchlight.trainer import Trainer

text, told = sys.argv[1], []
log, stop = Recorder.log, Trainer._stop


def held(self, message):
    log(self, message)
    while text in message and not told:
        time.sleep(0.02)


def noted(self, number, frame):
    told.append(number)
    stop(self, number, frame)


Recorder.log, Trainer._stop = held, noted
sys.argv = ["main.py", *sys.argv[2:]]
guarded(main.main)
