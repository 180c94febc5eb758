import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from feeders.ahead import ahead


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "ahead"]


def test_everything_comes_in_order():
    assert list(ahead(iter(range(100)))) == list(range(100)) and list(ahead(iter([]))) == []
    assert not threads()


def test_items_are_made_in_advance_but_not_all():
    made = []
    items = ahead(made.append(i) or i for i in range(100))
    assert next(items) == 0
    end = time.monotonic() + 10
    while len(made) < 3 and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.05)
    assert made == [0, 1, 2]  # the one taken, one that waits, one that does not get in
    items.close()


def test_an_exception_comes_where_its_item_would_have():
    def broken():
        yield 1
        raise FloatingPointError("clip 2")

    items = ahead(broken())
    assert next(items) == 1
    with pytest.raises(FloatingPointError, match="clip 2"):
        next(items)
    assert not threads()


def test_the_thread_ends_with_the_loop():
    for _ in ahead(iter(range(100))):
        break
    assert not threads()


def test_the_program_ends_with_items_left():
    code = "from itertools import count; from feeders.ahead import ahead; items = ahead(count()); print(next(items))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, cwd=Path(__file__).parents[2])
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"0\n", b"")
