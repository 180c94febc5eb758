"""One clear line for every failure."""

import os
import signal
import sys
import traceback


def guarded(main):
    """Run main(argv) and exit. Bad input (ValueError, OSError, or what asks for more memory than there is) prints one
    line and exits with 2, Ctrl-C with 130, SIGTERM with 143; what is half-written goes.

    A training that diverged (FloatingPointError) prints one line and exits with 1; so does any other exception, a fault
    of the program. An exception that passed through a Recorder left its traceback in that run's log (its
    attribute `log`); a fault without a log prints it.
    """
    for stream in (sys.stdout, sys.stderr):  # a terminal that cannot show a name shows its code
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if "RANK" not in os.environ:  # of torchrun's processes one may wait for the others, where Python handles no signal
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        status = main(sys.argv[1:])
    except BrokenPipeError:
        status = 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    except Exception as error:
        bad_input = isinstance(error, (ValueError, OSError, MemoryError)) or fills_memory(error)
        status = 2 if bad_input else 1
        if bad_input or isinstance(error, FloatingPointError):
            print(f"error: {one_line(error)}", file=sys.stderr)
        else:
            log = getattr(error, "log", None)
            if log is None:
                traceback.print_exc()
            hint = f" (traceback in {log})" if log else ""
            print(f"error: {type(error).__name__}: {one_line(error)}{hint}", file=sys.stderr)
    sys.exit(status)


def fills_memory(error):
    """Whether an exception is PyTorch's for what asks for more memory than there is, on a GPU or the CPU."""
    words = "out of memory", "can't allocate memory", "not enough memory"
    return isinstance(error, RuntimeError) and any(text in str(error) for text in words)


def expect(right, name, must, value):
    """Raise ValueError where a value is not right: `name` must be `must`."""
    if not right:
        raise ValueError(f"{name} must be {must}, not {value}")


def one_line(error):
    """An exception's message on one line; of an OSError the file comes first."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())
