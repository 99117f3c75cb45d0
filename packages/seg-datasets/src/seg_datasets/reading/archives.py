"""Public archives of datasets: fetched, checked and unpacked, so that nothing leaves the folder or is half there."""

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
from seg_core.files.atomic import write_text
from seg_core.files.download import fetch
from seg_core.files.locks import locked

__all__ = ["Archive", "fetch_archives", "unpack"]

_DONE = ".seg-unpacked.json"  # which archives lie unpacked beside it
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """A public archive.

    Attributes:
        url: where it is; a file that is no archive, as a list of names, is put where it belongs as it is.
        digest: `"md5:"` and its published md5, or the sha256; empty where none was published: then the size that the
            server says is checked, and the sha256 of the first download ever after.
        into: folder below the root that it is unpacked into.
        splits: the splits that need it; all where empty.
        provides: what it holds, below one of the layout's prefixes; where that is there already, as after unpacking by
            hand, the archive is not fetched. Empty: only what was unpacked here counts.
    """

    url: str
    digest: str = ""
    into: str = ""
    splits: tuple[str, ...] = ()
    provides: str = ""


def fetch_archives(
    archives: tuple[Archive, ...], root: Path, split: str, progress: bool = True, prefixes: tuple[str, ...] = ("",)
) -> None:
    """Downloads and unpacks what a split needs and is not there yet; the archives themselves stay in `root`.

    Args:
        archives: of the dataset.
        root: where they and what they hold go.
        split: what is wanted.
        progress: whether to show on stderr how far it is.
        prefixes: folders below `root` in which what archives provide may lie.

    Raises:
        CorruptFileError: if an archive is not the published one, is damaged, or holds a member that would leave the
            folder.
        WriteError: if an archive cannot be fetched or unpacked; what came of it is kept for the next try.
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
        # several processes of one run ask at once: one unpacks, the others wait
        with locked(root / _DONE, f"another process is unpacking {path}; waiting for it"):
            if name in _unpacked(root):
                continue
            unpack(path, root / archive.into, progress)
            done = {**_unpacked(root), name: path.stat().st_size}
            write_text(root / _DONE, json.dumps(done, indent=2, sort_keys=True) + "\n")


def unpack(path: Path, folder: Path, progress: bool = True) -> None:
    """Unpacks a zip or tar archive into a folder: all of it, or nothing.

    Every member must be a plain file or a folder with a relative path that stays inside. Members are written to a
    temporary folder first and moved when all of them are there; files of the same name are replaced. A file that is no
    archive is copied.

    Args:
        path: the archive.
        folder: where to; it is made if it is not there.
        progress: whether to show on stderr how far it is.

    Raises:
        CorruptFileError: if the archive is damaged, or a member is a link, a device, or would leave the folder.
        WriteError: if there is too little space, or the folder cannot be written to.
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
    """One entry of an archive, of either kind.

    Attributes:
        name: as the archive has it.
        size: bytes unpacked.
        is_folder: whether it is one.
        problem: why it must not be unpacked, or nothing.
        open: opens what it holds.
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
                    f"{path} holds the member {member.name!r}, {problem}; nothing was unpacked. The published archive "
                    "holds no such thing: get it from its official page"
                )
        total = sum(member.size for member in members)
        free = shutil.disk_usage(folder).free
        if total > free:
            raise WriteError(
                f"{path} needs {total / 1e9:.1f} GB unpacked, {folder.parent} has {free / 1e9:.1f} GB free; make room, "
                "or give a root elsewhere"
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
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was not made on Unix
    problem = "" if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "a link or a device"
    return _Member(info.filename, info.file_size, info.is_dir(), problem, lambda: archive.open(info))


def _tar_member(tape: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    def open_it() -> IO[bytes]:
        file = tape.extractfile(info)
        assert file is not None  # a plain file, as `problem` made sure
        return file

    problem = "" if info.isfile() or info.isdir() else "a link or a device"
    return _Member(info.name, info.size, info.isdir(), problem, open_it)


def _escape(name: str) -> str:
    """Returns how a member's name would leave the folder, or nothing."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or (len(name) > 1 and name[1] == ":"):
        return "an absolute path"
    return "a path that leaves the folder" if ".." in parts else ""


def _unpacked(root: Path) -> dict[str, int]:
    """Returns the names and sizes of the archives that were unpacked into `root`."""
    try:
        done = json.loads((root / _DONE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CorruptFileError(
            f"{root / _DONE} cannot be read: {error}; delete it: the archives are then unpacked once more"
        ) from error
    return dict(done)


@contextlib.contextmanager
def _folder_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise WriteError(
            f"cannot unpack into {folder}: {error.strerror or error}; check the folder's permissions and free space"
        ) from error
