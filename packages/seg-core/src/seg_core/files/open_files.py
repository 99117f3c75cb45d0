"""Keeps a few image files open between the reads of parts of them.

A file is handed to one thread at a time, and none is kept over a fork: GDAL's files may be used by one process only.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["OpenFiles", "file_state"]

Opened = TypeVar("Opened")


class OpenFiles:
    """The files of a process that were used last, open.

    Args:
        limit: how many are kept open.
    """

    def __init__(self, limit: int = 8) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._idle: list[tuple[Hashable, AbstractContextManager[Any], Any]] = []  # the last used at the end
        if hasattr(os, "register_at_fork"):
            # before, not in the child: there a lock of GDAL may be held by a thread that does not exist
            os.register_at_fork(before=self.close, after_in_child=self._renew_lock)

    @contextlib.contextmanager
    def use(self, key: Hashable, opened: Callable[[], AbstractContextManager[Opened]]) -> Iterator[Opened]:
        """Yields an opened file, which no other thread uses meanwhile, and keeps it open afterwards.

        Args:
            key: the file, and its state: a file that was replaced has another key.
            opened: opens it, if it is not open.
        """
        with self._lock:
            place = next((i for i, (found, _, _) in enumerate(self._idle) if found == key), None)
            manager, file = (None, None) if place is None else self._idle.pop(place)[1:]
        if manager is None:
            manager = opened()
            file = manager.__enter__()
        try:
            yield file  # type: ignore[misc]  # None only if there is no manager
        except BaseException:
            manager.__exit__(None, None, None)
            raise
        with self._lock:
            self._idle.append((key, manager, file))
            surplus = self._idle[: -self._limit]
            del self._idle[: -self._limit]
        _close(surplus)

    def close(self) -> None:
        """Closes the files that are not in use."""
        with self._lock:
            idle, self._idle = self._idle, []
        _close(idle)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()
        self._idle = []


def _close(files: list[tuple[Hashable, AbstractContextManager[Any], Any]]) -> None:
    for _, manager, _ in files:
        manager.__exit__(None, None, None)


def file_state(path: Path) -> tuple[Any, ...]:
    """Returns the path and what changes if the file is replaced, for `OpenFiles.use`."""
    try:
        status = path.stat()
    except OSError:
        return (path,)  # opening it tells what is wrong
    return path, status.st_mtime_ns, status.st_size, status.st_ino
