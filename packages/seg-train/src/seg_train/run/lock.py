"""One process per run folder: a lock that the operating system drops with its process, and a note of who holds it."""

import contextlib
import errno
import inspect
import json
import os
import shlex
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from seg_core.errors import UsageError, WriteError

__all__ = ["LOCK_FILES", "RunLockedError", "check_unlocked", "locked"]

_LOCK, _HOLDER = ".lock", ".lock.json"
LOCK_FILES = (_LOCK, _HOLDER)

# A killed process may leave workers behind that keep its lock until they notice, after some five seconds.
_PATIENCE = 15.0
_POLL = 0.1
_COMMAND_SHOWN = 200
_NO_LOCKS_HERE = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


class RunLockedError(UsageError):
    """Another process uses the run folder; nothing was started."""


@dataclass(frozen=True)
class _Holder:
    pid: int
    host: str
    since: str
    command: str

    @classmethod
    def of_this_process(cls) -> "_Holder":
        command = shlex.join(sys.argv)
        since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        return cls(os.getpid(), socket.gethostname(), since, command[:_COMMAND_SHOWN])

    @classmethod
    def read(cls, folder: Path) -> "_Holder | None":
        try:
            values = json.loads((folder / _HOLDER).read_text(encoding="utf-8"))
            return cls(int(values["pid"]), str(values["host"]), str(values["since"]), str(values["command"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def may_be_alive(self) -> bool:
        if self.host != socket.gethostname() or sys.platform == "win32":  # os.kill ends processes there
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:  # of another user
            return True
        return True

    def __str__(self) -> str:
        own = ", which is this process," if (self.pid, self.host) == (os.getpid(), socket.gethostname()) else ""
        return f"process {self.pid} on {self.host}{own} since {self.since} ({self.command})"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps all other processes from using a run folder, which is made where it is not there.

    The lock ends with the block, and with the process however it ends. Where the file system has no locks, a warning
    says so and there is none.

    Raises:
        RunLockedError: if another process holds it; the message says which.
        WriteError: if the folder cannot be written.
    """
    lock = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _acquire(folder)
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS_HERE:
            raise WriteError(
                f"cannot lock the run folder {folder}: {error.strerror or error}; check its permissions and free space"
            ) from error
        warnings.warn(
            f"the file system of {folder} has no locks: nothing keeps a second run from using the folder at the same "
            "time",
            stacklevel=4,
        )
    holder = folder / _HOLDER
    if lock is not None:
        with contextlib.suppress(OSError):  # a note for others; the lock holds without it
            holder.write_text(json.dumps(asdict(_Holder.of_this_process())), encoding="utf-8")
    try:
        yield
    finally:
        if lock is not None:
            # The lock file stays: whoever removes it may remove that of the next process.
            with contextlib.suppress(OSError):
                holder.unlink(missing_ok=True)
            lock.release()


def check_unlocked(folder: Path) -> None:
    """Raises RunLockedError if a process uses a run folder; writes nothing."""
    if not (folder / _LOCK).exists():
        return
    with contextlib.suppress(OSError, NotImplementedError):  # `locked` says what is wrong there
        _acquire(folder).release()


def _acquire(folder: Path) -> FileLock:
    lock = _make_lock(folder / _LOCK)
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            lock.acquire(timeout=0)
            return lock
        except Timeout as error:
            holder = _Holder.read(folder)
            if (holder is not None and holder.may_be_alive) or time.monotonic() > end:
                raise RunLockedError(
                    f"the run folder {folder} is in use by {holder or 'another process'}; wait until that run ends or "
                    f"stop it, then go on with: seg train --resume {folder}. For a run beside it name another folder "
                    "by -s paths.run=NAME"
                ) from error
        time.sleep(_POLL)


def _make_lock(path: Path) -> FileLock:
    # A lock without the system's support would outlive a killed process; older versions of filelock have none.
    strict: dict[str, Any] = {"fallback_to_soft": False}
    if "fallback_to_soft" not in inspect.signature(FileLock.__init__).parameters:
        strict = {}
    return FileLock(path, thread_local=False, **strict)
