"""Making batches while the model computes."""

from queue import Full, Queue
from threading import Event, Thread, main_thread


def ahead(items, depth=1):
    """Yield what the iterator `items` yields; a thread makes up to `depth` + 1 items before they are asked for.

    An exception of the thread is raised where its item would have come. The thread ends with the items, when this
    generator is closed or forgotten, and with the program.
    """
    queue, stopped = Queue(depth), Event()

    def put(entry):
        while not stopped.is_set() and main_thread().is_alive():
            try:
                return queue.put(entry, timeout=0.1)
            except Full:  # look whether anyone still waits for it
                pass

    def work():
        try:
            for item in items:
                put((item, None))
                if stopped.is_set() or not main_thread().is_alive():
                    return
            put((None, StopIteration()))
        except BaseException as error:  # the reader has to know, whatever it is
            put((None, error))

    thread = Thread(target=work, name="ahead")
    thread.start()
    try:
        while True:
            item, error = queue.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stopped.set()
        thread.join()
