"""One process per run folder: a file lock, which the system releases with its process, and a file about its holder."""

import contextlib
import errno
import json
import os
import shlex
import socket
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from seg_core.errors import UsageError
from seg_core.files.atomic import write_error
from seg_core.files.locks import file_lock
from seg_core.parsing import read_json

__all__ = ["LOCK_FILES", "RunLockedError", "check_unlocked", "locked"]

_LOCK, _HOLDER = ".lock", ".lock.json"
LOCK_FILES = (_LOCK, _HOLDER)

# Workers of a killed process keep its lock until they notice, after about five seconds.
_PATIENCE = 15.0
_COMMAND_SHOWN = 200
_MAX_PID = 1 << 31  # of Linux and macOS; os.kill takes no larger one, and 0 and -1 are groups of processes
_NO_LOCKS_HERE = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


class RunLockedError(UsageError):
    """Another process uses the run folder; nothing was started."""


@dataclass(frozen=True)
class _Holder:
    """The process that holds a lock, as its description file says."""

    pid: int
    host: str
    since: str
    command: str

    @classmethod
    def read(cls, folder: Path) -> "_Holder | None":
        try:
            values = read_json(folder / _HOLDER)
            pid, *texts = (values[key] for key in ("pid", "host", "since", "command"))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if type(pid) is not int or not 0 < pid < _MAX_PID or not all(isinstance(text, str) for text in texts):
            return None
        host, since, command = (text[:_COMMAND_SHOWN] for text in texts)
        return cls(pid, host, since, command)

    @property
    def may_be_alive(self) -> bool:
        if self.host != socket.gethostname() or sys.platform == "win32":  # on Windows os.kill ends a process
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:  # a process of another user
            return True
        return True

    def __str__(self) -> str:
        own = ", which is this process," if (self.pid, self.host) == (os.getpid(), socket.gethostname()) else ""
        return f"process {self.pid} on {self.host}{own} since {self.since} ({self.command})"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps all other processes from using a run folder; creates the folder if necessary.

    The lock ends with the block, or with the process. If the file system has no locks, a warning says so and the folder
    is used without one.

    Raises:
        RunLockedError: if another process holds the lock; the message says which.
        WriteError: if the folder cannot be written.
    """
    lock = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _acquire(folder)
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS_HERE:
            raise write_error(f"lock the run folder {folder}", error) from error
        warnings.warn(
            f"the file system of {folder} has no locks: nothing prevents a second run from using the folder at the "
            "same time",
            stacklevel=4,
        )
    note = folder / _HOLDER
    if lock is not None:
        since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        holder = _Holder(os.getpid(), socket.gethostname(), since, shlex.join(sys.argv)[:_COMMAND_SHOWN])
        with contextlib.suppress(OSError):  # only information for others; the lock works without it
            note.write_text(json.dumps(asdict(holder)), encoding="utf-8")
    try:
        yield
    finally:
        if lock is not None:
            # The lock file stays: removing it could remove the lock of the next process.
            with contextlib.suppress(OSError):
                note.unlink(missing_ok=True)
            lock.release()


def check_unlocked(folder: Path) -> None:
    """Raises RunLockedError if a process uses a run folder; writes nothing."""
    if not (folder / _LOCK).exists():
        return
    with contextlib.suppress(OSError, NotImplementedError):  # `locked` reports what is wrong
        _acquire(folder).release()


def _acquire(folder: Path) -> FileLock:
    lock = file_lock(folder / _LOCK)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            holder = _Holder.read(folder)
            lock.acquire(timeout=0 if holder is not None and holder.may_be_alive else _PATIENCE)
    except Timeout as error:
        holder = _Holder.read(folder)
        raise RunLockedError(
            f"the run folder {folder} is in use by {holder or 'another process'}; wait until that run ends or stop it, "
            f"then resume with: seg train --resume {folder}. For another run at the same time, name another folder by "
            "-s paths.run=NAME"
        ) from error
    return lock
