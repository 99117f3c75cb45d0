"""Temporary files and folders beside results, and removing those that a killed process left.

Each is locked while its process lives: what is not locked was left behind. The lock ends with the process, however that
ends, and needs no number of a process, which another one may have by now, or on another machine.
"""

import contextlib
import os
import re
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where nothing is removed
    fcntl = None  # type: ignore[assignment]

__all__ = ["sweep", "temporary_file", "temporary_folder"]

_MARK = "~seg-"
_NAME = re.compile(r"\..*~seg-[a-z0-9_]{8}(\.[^.]+)?", re.DOTALL)
_STEM = 40  # letters of a stem; the name may be as long as the system allows
_swept: set[str] = set()  # folders, once per process
_swept_by = [os.getpid()]
_lock = threading.Lock()


@contextlib.contextmanager
def temporary_file(target: Path) -> Iterator[Path]:
    """Yields the path of a new file in the folder of `target`, with its suffix; the file is removed if it is left.

    Raises:
        OSError: if none can be created.
    """
    sweep(target.parent)
    prefix = f".{target.stem[:_STEM]}{_MARK}"
    while True:
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=target.suffix, dir=target.parent)
        if _is_locked_by_us(handle):
            break
        os.close(handle)  # another process took it for one that was left
    try:
        yield Path(name)
    finally:
        os.close(handle)
        Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def temporary_folder(parent: Path, stem: str) -> Iterator[Path]:
    """Yields the path of a new folder in `parent`, which is removed at the end.

    Raises:
        OSError: if none can be created.
    """
    sweep(parent)
    with tempfile.TemporaryDirectory(prefix=f".{stem[:_STEM]}{_MARK}", dir=parent, ignore_cleanup_errors=True) as name:
        handle = os.open(name, os.O_RDONLY) if fcntl is not None else None
        try:
            if handle is not None:
                _is_locked_by_us(handle)
            yield Path(name)
        finally:
            if handle is not None:
                os.close(handle)


def sweep(folder: Path) -> None:
    """Removes the temporary files and folders in a folder that a killed process left, once per process and folder."""
    key = os.path.abspath(folder)  # noqa: PTH100 - links are not followed
    with _lock:
        if _swept_by[0] != os.getpid():  # after a fork
            _swept_by[0] = os.getpid()
            _swept.clear()
        if fcntl is None or key in _swept:
            return
        _swept.add(key)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        found = [entry.path for entry in entries if _NAME.fullmatch(entry.name) and not entry.is_symlink()]
        for path in found:
            with contextlib.suppress(OSError):
                _remove_if_left(path)


def _remove_if_left(path: str) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        mode = os.fstat(handle).st_mode
        if not _is_locked_by_us(handle):
            return
        if stat.S_ISDIR(mode):
            shutil.rmtree(path, ignore_errors=True)
        elif stat.S_ISREG(mode):
            Path(path).unlink(missing_ok=True)
    finally:
        os.close(handle)


def _is_locked_by_us(handle: int) -> bool:
    """Locks an opened file or folder; returns whether that worked and it is still there."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks, on which no other process removes anything either
    return os.fstat(handle).st_nlink > 0
