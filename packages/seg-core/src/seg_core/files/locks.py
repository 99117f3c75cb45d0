"""File locks between processes."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from seg_core.spec import takes

__all__ = ["file_lock", "locked", "size_of"]

_POLL = 0.02  # seconds


def file_lock(path: str | os.PathLike[str]) -> FileLock:
    """Returns the lock of the lock file at `path`, not yet acquired; the system releases it when the process ends.

    If the file system does not support locks, acquiring it raises NotImplementedError or OSError.
    """
    # a lock file without the system's support would outlive a killed process; older filelocks have no such fallback
    strict: dict[str, Any] = {"fallback_to_soft": False} if takes(FileLock.__init__, "fallback_to_soft") else {}
    return FileLock(path, thread_local=False, **strict)


@contextlib.contextmanager
def locked(path: Path, waiting: str = "", give_up_after: float | None = None) -> Iterator[bool]:
    """Holds an exclusive lock on a file during the block; waits for it while another process holds it.

    Yields whether the lock was acquired. The block runs without it on a file system without locks, in a folder that
    cannot be written, or if the other process is stuck.

    Args:
        path: path of the file; the lock file is created in the same folder and removed afterwards.
        waiting: what to print on stderr while waiting for another process.
        give_up_after: seconds without growth of `path` after which the other process is considered stuck; None
            waits forever, for work that does not change `path`.
    """
    lock = file_lock(path.with_name(path.name + ".lock"))
    size, since = -1, time.monotonic()
    try:
        while not lock.is_locked:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                if waiting:
                    print(waiting, file=sys.stderr)
                    waiting = ""
                found = size_of(path)
                if found != size:
                    size, since = found, time.monotonic()
                elif give_up_after is not None and time.monotonic() - since > give_up_after:
                    break
                time.sleep(_POLL)
    except (OSError, NotImplementedError):  # a file system without locks, or a folder that cannot be written
        with contextlib.suppress(OSError):
            Path(lock.lock_file).unlink(missing_ok=True)
    try:
        yield lock.is_locked
    finally:
        if lock.is_locked:
            # Removed while it is held, so that the folder stays as it was: a process that waits for the removed file
            # notices that it is gone (filelock does from 3.21 on) and locks a new one. Windows keeps an open file.
            with contextlib.suppress(OSError):
                Path(lock.lock_file).unlink()
            lock.release()


def size_of(path: Path) -> int:
    """Returns the size of a file in bytes, 0 if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
