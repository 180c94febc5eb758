"""One clear line for every failure."""

import sys
import traceback


def guarded(main, log=None):
    """Run main(argv) and exit. Bad input (ValueError, OSError) prints one line and exits with 2, Ctrl-C with 130.

    Any other exception is a fault of the program: one line, status 1. log: called without arguments, gives the path of
    the log file or None; the traceback goes there, or to the standard error where there is no log yet.
    """
    try:
        status = main(sys.argv[1:])
    except BrokenPipeError:
        status = 1
    except KeyboardInterrupt:
        status = 130
    except (ValueError, OSError) as error:
        _keep_traceback(log, otherwise_print=False)
        print(f"error: {one_line(error)}", file=sys.stderr)
        status = 2
    except Exception as error:
        where = _keep_traceback(log, otherwise_print=True)
        hint = f" (traceback in {where})" if where else ""
        print(f"error: {type(error).__name__}: {one_line(error)}{hint}", file=sys.stderr)
        status = 1
    sys.exit(status)


def one_line(error):
    """An exception's message on one line; of an OSError the file comes first."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def _keep_traceback(log, otherwise_print):
    path = log() if log else None
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(traceback.format_exc())
    elif otherwise_print:
        traceback.print_exc()
    return path
