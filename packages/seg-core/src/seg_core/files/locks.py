"""Locks between processes that work on one file.

Unlike those of the package filelock, they leave no file behind: these folders are the user's.
"""

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["locked", "size_of"]

_POLL = 0.02  # seconds


@contextlib.contextmanager
def locked(path: Path, waiting: str = "", give_up_after: float | None = None) -> Iterator[bool]:
    """Keeps other processes from working on a file during the block, once no other process does.

    Yields whether it could. Otherwise the block runs without a lock: on a file system that has none, in a folder that
    cannot be written, or where the other process is stuck.

    Args:
        path: of the file; the lock is a file beside it, and ends with its process.
        waiting: what to print on stderr while waiting for another process.
        give_up_after: seconds without growth of `path` after which the other process counts as stuck; None waits for
            ever, for work that does not change `path`.
    """
    lock = path.with_name(path.name + ".lock")
    handle = None
    with contextlib.suppress(OSError):  # a file system without locks, or a folder that cannot be written
        size, since = -1, time.monotonic()
        while (handle := _try_lock(lock)) is None:
            if waiting:
                print(waiting, file=sys.stderr)
                waiting = ""
            found = size_of(path)
            if found != size:
                size, since = found, time.monotonic()
            elif give_up_after is not None and time.monotonic() - since > give_up_after:
                break
            time.sleep(_POLL)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            with contextlib.suppress(OSError):  # Windows keeps a file that is open
                lock.unlink()
            os.close(handle)


def _try_lock(lock: Path) -> int | None:
    """Returns the open lock file, or None while another process has it."""
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # its last holder may have removed the file meanwhile; then the lock would exclude nobody
        if os.path.samestat(os.fstat(handle), lock.stat()):
            return handle
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            os.close(handle)
            lock.unlink(missing_ok=True)
            raise
    os.close(handle)
    return None


def size_of(path: Path) -> int:
    """Returns the size of a file in bytes, 0 if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
