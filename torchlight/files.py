"""Files that are whole or absent, and pickles read as data. No PyTorch here: what fuses scores starts at once."""

import errno
import json
import os
import pickle
import re
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextmanager
def replacing(path, mode="wb"):
    """Open a temporary file beside `path`. If the block ends well it becomes `path`, flushed; else it is removed.

    Missing parent directories are made. Raises OSError where `path` is a directory.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory, not a file to write")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        name_file(error, path, temporary)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def name_file(error, path, temporary=None):
    """Let an OSError of a full disk, which names no file, or of the temporary one, name the file that was asked for."""
    full = error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if full or (temporary and error.filename == str(temporary)):
        error.filename, error.filename2 = str(path), None


def output(path, suffix, option):
    """The Path that an option names for what is to be written. Raises ValueError where it does not end with `suffix`: a
    picture or a table takes no other file's place by mistake.
    """
    if Path(path).suffix.lower() != suffix:
        raise ValueError(f"{option}: {path}: its name must end with {suffix}")
    return Path(path)


def lock(path, wait=False):
    """Keep other processes that ask for it out of a directory or file; an end of this one, too, lets them in.

    Returns a file descriptor to close, or None where there are no such locks. Raises ValueError if one has it, or
    waits for it.
    """
    if fcntl is None:
        return None
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(handle)
        raise ValueError(f"{path}: another process is writing to it") from None
    except OSError:  # a network's file system may know none
        os.close(handle)
        return None
    return handle


def write_json(path, content):
    with replacing(path, "w") as file:
        json.dump(content, file, indent=1)
        file.write("\n")


def read_json(path):
    """Raises ValueError or OSError naming the file."""
    with open(path, encoding="utf-8") as file:
        try:
            return json.load(file)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: not valid JSON ({error})") from None


def read_names(path):
    """Names of a text file, one a line; empty lines do not count. Raises ValueError naming a file without any."""
    with open(path, encoding="utf-8-sig") as file:
        try:
            names = [line.strip() for line in file if line.strip()]
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not UTF-8 text ({error.reason})") from None
    if not names:
        raise ValueError(f"{path}: holds no names")
    return names


class _ArrayUnpickler(pickle.Unpickler):
    """Admits numpy arrays and scalars and plain containers, nothing that could run code."""

    ALLOWED = re.compile(
        r"(numpy\.(_core|core)\.multiarray (_reconstruct|scalar)|numpy (ndarray|dtype)"
        r"|numpy\.(_core|core)\.numeric _frombuffer|collections OrderedDict|_codecs encode)$"
    )

    def find_class(self, module, name):
        if not self.ALLOWED.match(f"{module} {name}"):
            raise pickle.UnpicklingError(f"it holds {module}.{name}; only numpy arrays and plain containers are read")
        return super().find_class(module, name)


def load_pickle(path):
    """Read a pickle of numpy arrays and plain containers. Raises ValueError or OSError naming the file."""
    with open(path, "rb") as file:
        try:
            return _ArrayUnpickler(file, encoding="latin1").load()
        except Exception as error:  # a damaged pickle can raise nearly anything
            message = str(error)[:200] or type(error).__name__
            raise ValueError(f"{path}: not a readable pickle of arrays ({message})") from None
