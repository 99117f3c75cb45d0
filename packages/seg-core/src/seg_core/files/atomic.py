"""Atomic writing: to a temporary file in the same folder, which is then renamed."""

import contextlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from seg_core.errors import UserError, WriteError, WrongTargetError
from seg_core.files.temporaries import temporary_file

__all__ = [
    "atomic_path",
    "check_folder",
    "is_full",
    "is_leftover",
    "remove_leftovers",
    "torch_write_error",
    "write_error",
    "write_text",
]

_FULL = 2**20  # bytes; a disk with less free space is full

# as `atomic_path` names its temporary files
_LEFTOVER = re.compile(r"\..+-[a-z0-9_]{8}(\.[^.]+)?")


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path in the folder of `path`; the file is renamed to `path` if the block ends without error.

    The temporary file is synced to the disk before the rename, so that a loss of power leaves the old file or the new
    one. It keeps the suffix of `path`, since writers choose their format by it. Missing folders are created. Those that
    a killed process left in the folder are removed, when the folder is first written to.

    A link stays, and the file that it leads to is replaced. What is no file, such as a pipe or `/dev/stdout`, is not
    replaced either: it gets the content when the block has ended.

    Raises:
        WriteError: if the folder or the file cannot be written, or the disk is full.
    """
    target = Path(path)
    try:
        if _is_special(target):
            with tempfile.TemporaryDirectory() as folder:
                yield (content := Path(folder) / target.name)
                with content.open("rb") as file, target.open("wb") as sink:
                    shutil.copyfileobj(file, sink)
            return
        if target.is_symlink():
            target = Path(os.path.realpath(target))
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary_file(target) as temporary:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            # mkstemp creates files that only their owner can read; results get the usual permissions of new files
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(target)
    except UserError:
        raise
    except OSError as error:
        raise write_error(f"write {target}", error) from error


def _is_special(path: Path) -> bool:
    """Returns whether a path exists and is neither a file nor a folder, but a pipe, a socket or a device."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def write_error(action: str, error: OSError) -> WriteError:
    """Returns the error to raise if the system refuses to write.

    Args:
        action: what failed, such as "write labels/a.png".
        error: the error of the system.
    """
    reason = f"cannot {action}: {error.strerror or error}"
    if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
        return WrongTargetError(
            f"{reason}; a file is in the place of a folder, or a folder in that of the file: choose another path"
        )
    return WriteError(f"{reason}; check the folder's permissions and free space")


def torch_write_error(path: str | os.PathLike[str], error: RuntimeError) -> WriteError:
    """Returns the error for a file that torch could not write: its own text names no reason, such as a full disk.

    Args:
        path: the file, whose unfinished part is still there.
        error: that of torch's writer.
    """
    reason = (
        "no space left on its disk"
        if is_full(path)
        else f"{str(error).splitlines()[0]}; is there a limit on file sizes?"
    )
    return WriteError(f"cannot write {path}: {reason}; check the free space of its disk")


def is_full(path: str | os.PathLike[str]) -> bool:
    """Returns whether the disk of a file is full, or has less than 1 MiB left.

    Args:
        path: the file, which need not exist.
    """
    folder = next(here for here in Path(path).absolute().parents if here.is_dir())
    return shutil.disk_usage(folder).free < _FULL


def check_folder(folder: str | os.PathLike[str], argument: str) -> None:
    """Checks before the work that a folder exists or can be created, as far as that is known without writing.

    Args:
        folder: the folder.
        argument: the argument that names it or a file in it, with its value, for the message.

    Raises:
        WrongTargetError: if it, or a folder above it, is a file.
    """
    path = Path(folder)
    existing = next((here for here in (path, *path.parents) if here.exists()), None)
    if existing is not None and not existing.is_dir():
        raise WrongTargetError(f"{argument} cannot be written, since {existing} is a file; choose another path")


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a UTF-8 text file atomically.

    Raises:
        WriteError: if it cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def is_leftover(path: Path) -> bool:
    """Returns whether a file has a name like the temporary ones of `atomic_path`."""
    return bool(_LEFTOVER.fullmatch(path.name)) and path.is_file()


def remove_leftovers(folder: str | os.PathLike[str]) -> list[Path]:
    """Removes temporary files that a killed process left in `folder` and its subfolders; returns their paths.

    Call it only when no other process writes there.
    """
    found = [path for path in Path(folder).rglob(".*") if is_leftover(path)]
    for path in found:
        path.unlink(missing_ok=True)
    return found
