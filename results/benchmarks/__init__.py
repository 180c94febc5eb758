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


def turns(functions, rounds):
    """The wall times of each function, lists over the rounds, in which they take turns: other programs may run."""
    times = []
    for _ in range(rounds):
        for function in functions:
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
    return [times[i :: len(functions)] for i in range(len(functions))]


def in_turns(functions, rounds=5):
    """The shortest wall time of each function in so many rounds of `turns`."""
    return [min(times) for times in turns(functions, rounds)]
