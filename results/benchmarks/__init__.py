"""The parts of `make bench`. Each has rows(), which yields (what, measured, goal), three texts."""

import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def seconds(function, at_least=1.0):
    """The shortest processor time of a call, of at least three calls and `at_least` seconds."""
    times, begin = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begin < at_least:
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def wall(function):
    """The wall time of one call, in seconds."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def in_turns(functions, rounds=5):
    """The shortest wall time of each function in so many rounds, in which they take turns: other programs may run."""
    times = [wall(function) for _ in range(rounds) for function in functions]
    return [min(times[i :: len(functions)]) for i in range(len(functions))]
