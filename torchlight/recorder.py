"""The run directory: what it holds, who may write to it, and the records written while a run goes on."""

import json
import os
import platform
import shlex
import subprocess
import sys
import time
import traceback
import weakref
from pathlib import Path

import numpy as np
import torch
import yaml
from tensorboardX import SummaryWriter

from . import checkpoint
from .files import lock, read_json, replacing, write_json

RUN_FILES = (
    "config.yaml", "env.json", "log.txt", "metrics.jsonl", "last.pt", "best.pt", "runs.pt", "test_score.pkl",
    "test_label.json", "test_metrics.json", "per_class.csv", "per_class.png", "confusion.png", "curves.png",
    "events.out.tfevents.*",
)  # fmt: skip


class Recorder:
    """Log, JSON lines and TensorBoard scalars of one run directory.

    claim: "new" refuses a directory that already holds a run (ValueError), "overwrite" removes that run's files,
    "resume" continues it, "add" only adds to it (a test). history: the epochs recorded so far. writes: False is a
    recorder that touches no file and prints nothing, of all processes of a training but one. As a context manager it
    keeps the traceback of an exception in log.txt and tells the exception so (attribute `log`). Raises ValueError while
    another process writes there.
    """

    def __init__(self, directory, claim="new", writes=True):
        self.directory, self.writes, self.resumed = Path(directory), writes, claim == "resume"
        self.history = []
        self._board = None
        self._unlock = lambda: None
        if not writes:
            return
        present = []
        if claim in ("new", "overwrite"):
            present = [path for pattern in RUN_FILES for path in self.directory.glob(pattern)]
            run = [path.name for path in present if path.name != "log.txt"]  # that alone is of one that never began
            if run and claim == "new":
                resume = "--resume continues it, " if "last.pt" in run else ""
                raise ValueError(
                    f"{directory} already holds a run ({run[0]}); {resume}"
                    "--overwrite starts it anew, --work-dir takes another place"
                )
        self.directory.mkdir(parents=True, exist_ok=True)
        handle = lock(self.directory)
        if handle is not None:
            self._unlock = weakref.finalize(self, os.close, handle)
        for path in present if claim == "overwrite" else ():
            path.unlink()

    def path(self, name):
        return self.directory / name

    def log(self, message):
        """Print a message and add it, with the time, to log.txt."""
        if not self.writes:
            return
        print(message, flush=True)
        with open(self.path("log.txt"), "a", encoding="utf-8") as file:
            file.write(f"[{time.strftime('%Y-%m-%d %H:%M:%S')}] {message}\n")

    def begin(self, config, devices, facts):
        """config.yaml: every option of this run; it runs again as it is. env.json: versions, device, git commit and
        command line, and of what it began with the `facts`; of each time it was resumed, too, under `resumed`.
        """
        if not self.writes:
            return
        with replacing(self.path("config.yaml"), "w") as file:
            yaml.safe_dump(config, file, sort_keys=False, allow_unicode=True)
        now, path = environment(devices), self.path("env.json")
        if self.resumed and path.is_file():
            began = read_json(path)
            if not isinstance(began, dict):
                raise ValueError(f"{path}: not the environment of a run; without the file it can be continued")
            now = began | {"resumed": [*began.get("resumed", []), now]}
        else:
            now |= facts
        write_json(path, now)

    def save(self, state, name):
        """Write a checkpoint."""
        if self.writes:
            checkpoint.save(state, self.path(name))

    def rewind(self, history):
        """Go back to a checkpoint's history: later epochs leave metrics.jsonl and TensorBoard."""
        self.history = list(history)
        if not self.writes:
            return
        with replacing(self.path("metrics.jsonl"), "w") as file:
            file.writelines(json.dumps(line) + "\n" for line in self.history)

    def epoch(self, line):
        """Record one epoch: a flat dict of numbers, and dicts of numbers under the names of splits."""
        self.history.append(line)
        if not self.writes:
            return
        with open(self.path("metrics.jsonl"), "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self._board is None:
            self._board = SummaryWriter(str(self.directory), purge_step=line["epoch"])
        for key, value in line.items():
            scalars = (
                {f"{key}/{name}": number for name, number in value.items()} if isinstance(value, dict) else {key: value}
            )
            for name, number in scalars.items():
                if isinstance(number, int | float) and key != "epoch":
                    self._board.add_scalar(name, number, line["epoch"])
        self._board.flush()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, Exception) and self.writes:
            error.log = self.path("log.txt")
            with open(error.log, "a", encoding="utf-8") as file:
                file.writelines(traceback.format_exception(error))
        self.close()

    def close(self):
        """Let other processes write there."""
        if self._board is not None:
            self._board.close()
        self._unlock()


def environment(devices):
    """Versions, device, git commit and command line of this process, as a dict."""

    def git(*words):
        try:
            answer = subprocess.run(
                ["git", *words], capture_output=True, text=True, timeout=10, cwd=Path(__file__).parent, check=True
            )
            return answer.stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return None

    texts = ":(top,exclude)*.md", ":(top,exclude)results/records"  # may change while runs go on
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", *texts)
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "git_commit": git("rev-parse", "HEAD"),
        "git_changed": None if changed is None else bool(changed),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "cuda": torch.version.cuda,
        "device": [torch.cuda.get_device_name(d) if d.type == "cuda" else "cpu" for d in devices],
        "cpu_threads": torch.get_num_threads(),
    }
