"""Work through many files with several processes, in order, with little memory."""

import os
import pickle
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from itertools import islice

from torchlight.errors import expect


def check_workers(workers):
    """Raise ValueError for a number of processes, or None, that is none."""
    expect(workers is None or workers >= 1, "--workers", "at least 1", workers)


def ordered_map(function, tasks, workers=None, chunk=32):
    """Yield function(task) for all tasks, in their order.

    workers: processes; None: as many as there are cores; 1: none but this one. At most two chunks of tasks a worker
    are under way, so results do not pile up if the consumer is slow. function must be importable by name.
    """
    workers = workers or os.cpu_count()
    if workers == 1:
        yield from map(function, tasks)
        return
    tasks = iter(tasks)
    with ProcessPoolExecutor(workers) as pool:
        pending = deque()
        try:
            while True:
                while len(pending) < 2 * workers and (part := list(islice(tasks, chunk))):
                    pending.append(pool.submit(_apply, function, part))
                if not pending:
                    return
                yield from pickle.loads(pending.popleft().result())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _apply(function, tasks):
    """The results, pickled: the newest protocol, which the pool itself does not use, copies arrays less often."""
    return pickle.dumps([function(task) for task in tasks], pickle.HIGHEST_PROTOCOL)
