"""Downloads, checks and unpacks public archives: no member can leave the folder, nothing is left partially unpacked."""

import contextlib
import json
import shutil
import stat
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from seg_core.errors import CorruptFileError, UserError, WriteError
from seg_core.files.atomic import write_error, write_text
from seg_core.files.download import fetch
from seg_core.files.json_text import read_json
from seg_core.files.locks import locked

__all__ = ["Archive", "fetch_archives", "unpack"]

_DONE = ".seg-unpacked.json"  # lists the archives that were unpacked into its folder
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """A public archive.

    Attributes:
        url: its URL; a file that is not an archive, such as a list of names, is copied.
        digest: `"md5:"` and the published md5, or the sha256; empty if none was published: then the size that the
            server reports is checked, and later downloads are compared with the sha256 of the first.
        into: folder below the root that it is unpacked into.
        splits: the splits that need it; empty for all.
        provides: a file or folder in it. If that exists below one of the layout's prefixes, for example because the
            archive was unpacked by hand, the archive is not downloaded. Empty: always download unless unpacked here.
    """

    url: str
    digest: str = ""
    into: str = ""
    splits: tuple[str, ...] = ()
    provides: str = ""


def fetch_archives(
    archives: tuple[Archive, ...], root: Path, split: str, progress: bool = True, prefixes: tuple[str, ...] = ("",)
) -> None:
    """Downloads and unpacks the missing archives of a split; archives are kept in `root`.

    Args:
        archives: the archives of the dataset.
        root: folder for the archives and their content.
        split: name of the split.
        progress: whether to show progress on stderr.
        prefixes: folders below `root` to look in for what archives provide.

    Raises:
        CorruptFileError: if an archive is not the published one, is damaged, or has a member that would leave the
            folder.
        WriteError: if an archive cannot be downloaded or unpacked; a partial download is resumed by the next try.
    """
    for archive in archives:
        if archive.splits and split not in archive.splits:
            continue
        name = archive.url.rsplit("/", 1)[-1]
        with _folder_errors(root):
            root.mkdir(parents=True, exist_ok=True)
        by_hand = archive.provides and any((root / prefix / archive.provides).exists() for prefix in prefixes)
        if by_hand or name in _unpacked(root):
            continue
        path = fetch(archive.url, archive.digest, progress, folder=root, argument="root= of the unpacked folder")
        # the processes of one run call this at the same time: one unpacks, the others wait
        with locked(root / _DONE, f"another process is unpacking {path}; waiting for it"):
            if name in _unpacked(root):
                continue
            unpack(path, root / archive.into, progress)
            done = {**_unpacked(root), name: path.stat().st_size}
            write_text(root / _DONE, json.dumps(done, indent=2, sort_keys=True) + "\n")


def unpack(path: Path, folder: Path, progress: bool = True) -> None:
    """Unpacks a zip or tar archive into a folder, completely or not at all.

    Every member must be a regular file or a folder, with a relative path that stays in `folder`. Members are first
    written to a temporary folder and moved when all of them are complete; existing files are replaced. A `.txt` file
    is copied.

    Args:
        path: the archive.
        folder: destination; created if it does not exist.
        progress: whether to show progress on stderr.

    Raises:
        CorruptFileError: if the archive is damaged, or a member is a link, a device, or would leave the folder.
        WriteError: if there is too little disk space, or the folder cannot be written to.
    """
    with _folder_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".txt":
            write_text(folder / path.name, path.read_text(encoding="utf-8"))
            return
        temporary = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder))
        try:
            if progress:
                print(f"unpacking {path} into {folder}", file=sys.stderr)
            try:
                _unpack_members(path, temporary, progress)
            except (zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError) as error:
                raise CorruptFileError(
                    f"{path} cannot be unpacked: {error}; delete it and download it again"
                ) from error
            for file in sorted(temporary.rglob("*")):
                target = folder / file.relative_to(temporary)
                if file.is_dir():
                    target.mkdir(exist_ok=True)
                else:
                    file.replace(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@dataclass(frozen=True)
class _Member:
    """One member of a zip or tar archive.

    Attributes:
        name: its name in the archive.
        size: unpacked size in bytes.
        is_folder: whether it is a folder.
        problem: why it must not be unpacked; empty if it may.
        open: opens its content.
    """

    name: str
    size: int
    is_folder: bool
    problem: str
    open: Callable[[], IO[bytes]]


def _unpack_members(path: Path, folder: Path, progress: bool) -> None:
    with _members(path) as members:
        for member in members:
            problem = member.problem or _escape(member.name)
            if problem:
                raise CorruptFileError(
                    f"{path} has the member {member.name!r}, {problem}; nothing was unpacked. The published archive "
                    "has no such member: get it from its official page"
                )
        total = sum(member.size for member in members)
        free = shutil.disk_usage(folder).free
        if total > free:
            raise WriteError(
                f"{path} needs {total / 1e9:.1f} GB unpacked, {folder.parent} has {free / 1e9:.1f} GB free; free "
                "some space, or choose a root on another disk"
            )
        written, shown = 0, 0
        for member in members:
            target = folder / PurePosixPath(member.name)
            if member.is_folder:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with member.open() as source, target.open("wb") as file:
                shutil.copyfileobj(source, file, _BLOCK)
            written += member.size
            tenth = 10 * written // max(total, 1)
            if progress and tenth > shown:
                shown = tenth
                print(f"  {10 * tenth:3} % of {total / 1e6:.1f} MB", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _members(path: Path) -> Iterator[list[_Member]]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield [_zip_member(archive, info) for info in archive.infolist()]
    else:
        with tarfile.open(path) as tape:
            yield [_tar_member(tape, info) for info in tape.getmembers()]


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 if the archive was not made on Unix
    problem = "" if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "a link or a device"
    return _Member(info.filename, info.file_size, info.is_dir(), problem, lambda: archive.open(info))


def _tar_member(tape: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    def open_member() -> IO[bytes]:
        file = tape.extractfile(info)
        assert file is not None  # a regular file, as `problem` ensures
        return file

    problem = "" if info.isfile() or info.isdir() else "a link or a device"
    return _Member(info.name, info.size, info.isdir(), problem, open_member)


def _escape(name: str) -> str:
    """Returns why a member's name would leave the folder; empty if it would not."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or (len(name) > 1 and name[1] == ":"):
        return "an absolute path"
    return "a path that leaves the folder" if ".." in parts else ""


def _unpacked(root: Path) -> dict[str, int]:
    """Returns the names and sizes of the archives that were unpacked into `root`."""
    try:
        done = read_json(root / _DONE)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CorruptFileError(
            f"{root / _DONE} cannot be read: {error}; delete it to unpack the archives again"
        ) from error
    return dict(done)


@contextlib.contextmanager
def _folder_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise write_error(f"unpack into {folder}", error) from error
