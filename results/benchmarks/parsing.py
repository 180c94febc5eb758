"""Parsing of .skeleton files, and preparing a store from them."""

import os
import subprocess
import sys
import tempfile
import time
from multiprocessing import Process
from pathlib import Path

import numpy as np

from data import ntu
from data.parallel import ordered_map

from . import ROOT, seconds


def skeleton_file(T, bodies, seed):
    """The text of a .skeleton file of this size, as bytes."""
    rng = np.random.default_rng(seed)
    lines = [str(T)]
    pose = rng.normal(size=(bodies, 25, 3)) * (0.1, 0.6, 0.1) + (0, 0, 3)
    for _ in range(T):
        pose += rng.normal(size=(bodies, 1, 3)) * 0.02
        lines.append(str(bodies))
        for body in range(bodies):
            lines += [f"7205759403794{body:04d} 0 1 1 0 0 0 0.0123456 -0.2345678 2", "25"]
            for x, y, z in pose[body]:
                lines.append(f"{x:.7f} {y:.7f} {z:.7f} 277.4193 185.8224 1027.107 531.7205 -0.2059 0.0500 0.96 -0.1 2")
    return "\n".join(lines).encode()


def line_by_line(data):
    """The yardstick: a straightforward parser, a numpy array for each joint."""
    lines = iter(data.decode().splitlines())
    bodies = {}
    for _ in range(int(next(lines))):
        for _ in range(int(next(lines))):
            body = next(lines).split()[0]
            joints = [np.array(next(lines).split()[:3], dtype=np.float32) for _ in range(int(next(lines)))]
            bodies.setdefault(body, []).append(np.stack(joints))
    return {body: np.stack(joints) for body, joints in bodies.items()}


def load(places):
    return [ntu.load_clip(place) for place in places]


def rows():
    """Yield rows (what, measured, goal)."""
    files = [skeleton_file(84, 1 + (i % 5 == 0), i) for i in range(20)]
    _, parsed = next(iter(ntu.read_skeleton(files[0])[1].values()))
    assert np.array_equal(parsed, next(iter(line_by_line(files[0]).values())))
    yardstick = seconds(lambda: [line_by_line(data) for data in files])
    ours = seconds(lambda: [ntu.read_skeleton(data) for data in files])
    text = f"{yardstick / ours:.1f} x ({ours / len(files) * 1e3:.2f} against {yardstick / len(files) * 1e3:.2f} ms)"
    yield ".skeleton parser against a line-by-line one, one core", text, "4 x"
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with tempfile.TemporaryDirectory() as directory:
        places = []
        for i in range(1500):
            places.append(f"{directory}/S001C001P001R001A{i:04d}.skeleton")
            Path(places[-1]).write_bytes(files[i % len(files)])
        alone = together = limit = float("inf")
        for _ in range(3):  # in turns, and the shortest time of each, since other programs may run
            start = time.perf_counter()
            one = load(places)
            alone, start = min(alone, time.perf_counter() - start), time.perf_counter()
            many = list(ordered_map(ntu.load_clip, places, workers))
            together, start = min(together, time.perf_counter() - start), time.perf_counter()
            apart = [Process(target=load, args=(places[i::workers],)) for i in range(workers)]
            for process in apart:
                process.start()
            for process in apart:
                process.join()
            limit = min(limit, time.perf_counter() - start)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(one, many, strict=True))
    text = f"{alone / together:.2f} x with {workers} processes ({alone / limit:.2f} x if they give nothing back)"
    yield "preparing clips in parallel against one process", text, f"{0.85 * workers:.2f} x"
    peaks = [peak_of_preparing(files, clips) for clips in (500, 3000)]
    text = f"{peaks[0]:.0f} MB for 500 clips, {peaks[1]:.0f} MB for 3,000"
    yield "peak memory of `prepare.py ntu60`, the larger of its processes", text, "1,000 MB for any number"


def peak_of_preparing(files, clips):
    """MB that the command holds at most while it makes a store of so many clips."""
    with tempfile.TemporaryDirectory() as directory:
        for i in range(clips):
            name = f"S{i // 960 + 1:03d}C001P{i // 60 % 8 + 1:03d}R{i // 480 % 2 + 1:03d}A{i % 60 + 1:03d}"
            Path(directory, f"{name}.skeleton").write_bytes(files[i % len(files)])
        words = ["ntu60", "--source", directory, "--out", f"{directory}/x.h5"]
        code = (  # ru_maxrss of a process begins with the peak of the one that started it: VmHWM does not
            "import resource, sys; from data.prepare import main; main(sys.argv[1:]); "
            "own = dict(line.split(':', 1) for line in open('/proc/self/status'))['VmHWM']; "
            "print(max(int(own.split()[0]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))"
        )
        run = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=True)
        assert f"{clips} of 56880 published clips" in run.stdout
        return int(run.stdout.split()[-1]) / 1024
