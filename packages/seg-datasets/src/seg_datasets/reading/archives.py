"""Downloads, checks and unpacks public archives: no member can leave the folder, nothing is left partially unpacked."""

import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from seg_core.errors import CorruptFileError, UserError, WriteError, WrongTargetError
from seg_core.files.atomic import write_error, write_text
from seg_core.files.download import fetch
from seg_core.files.locks import locked
from seg_core.parsing import parse_json
from seg_core.text import read_text
from seg_datasets.reading.archive_members import open_archive

__all__ = ["Archive", "fetch_archives", "unpack"]

_DONE = ".seg-unpacked.json"  # lists the archives that were unpacked into its folder
_TEMPORARY = ".unpacking-"


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
        with locked(root / _DONE, f"another process is unpacking {path}; waiting for it") as held:
            if name in _unpacked(root):
                continue
            if archive.into and (root / archive.into).is_symlink():
                raise _link(root / archive.into)
            if held:
                _remove_leftovers(root / archive.into)
            unpack(path, root / archive.into, progress)
            done = {**_unpacked(root), name: path.stat().st_size}
            write_text(root / _DONE, json.dumps(done, indent=2, sort_keys=True) + "\n")


def unpack(path: Path, folder: Path, progress: bool = True) -> None:
    """Unpacks a zip or tar archive into a folder, completely or not at all.

    Every member must be a regular file or a folder, with a relative path that stays in `folder` and that every file
    system can hold. Members are first written to a temporary folder and moved when all of them are complete and their
    checksums right; existing files are replaced. Nothing is written through a link in `folder`. A `.txt` file is
    copied.

    Args:
        path: the archive.
        folder: destination; created if it does not exist.
        progress: whether to show progress on stderr.

    Raises:
        CorruptFileError: if the archive is damaged, cut off, encrypted, or expands more than 200 times, or a member is
            a link, a device, would leave the folder, or has the name of another where case is ignored.
        WrongTargetError: if a link, or a folder in place of a file, is in the way; then nothing was unpacked.
        WriteError: if there is too little disk space, or the folder cannot be written to.
    """
    with _folder_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".txt":
            _copy_list(path, folder / path.name)
            return
        temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=folder))
        try:
            if progress:
                print(f"unpacking {path} into {folder}", file=sys.stderr)
            _unpack_members(path, temporary, progress)
            _check_places(temporary, folder)
            _move(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _copy_list(path: Path, target: Path) -> None:
    try:
        text = read_text(path)
    except CorruptFileError as error:
        raise CorruptFileError(f"{error}; or delete it and download it again") from error
    if target.is_symlink():
        raise _link(target)
    write_text(target, text)


def _unpack_members(path: Path, folder: Path, progress: bool) -> None:
    with open_archive(path) as members:
        total = sum(member.size for member in members)
        free = shutil.disk_usage(folder).free
        if total > free:
            raise WriteError(
                f"{path} needs {total / 1e9:.1f} GB unpacked, {folder.parent} has {free / 1e9:.1f} GB free; free "
                "some space, or choose a root on another disk"
            )
        written, shown = 0, 0
        parents: set[Path] = set()
        for member in members:
            target = folder / PurePosixPath(member.name)
            if member.is_folder:
                target.mkdir(parents=True, exist_ok=True)
                continue
            if target.parent not in parents:
                target.parent.mkdir(parents=True, exist_ok=True)
                parents.add(target.parent)
            with target.open("xb") as file:
                for block in member.blocks():
                    file.write(block)
            written += member.size
            tenth = 10 * written // max(total, 1)
            if progress and tenth > shown:
                shown = tenth
                print(f"  {10 * tenth:3} % of {total / 1e6:.1f} MB", file=sys.stderr, flush=True)


def _check_places(new: Path, folder: Path) -> None:
    """Checks that all below `new` can be moved into `folder`, before anything is moved.

    Raises:
        WrongTargetError: if a link is in the way, or a file in that of a folder, or a folder in that of a file.
    """
    for entry in new.iterdir():
        target = folder / entry.name
        if target.is_symlink():
            raise _link(target)
        if target.exists() and target.is_dir() != entry.is_dir():
            kinds = ("folder", "file") if target.is_dir() else ("file", "folder")
            raise WrongTargetError(
                f"nothing was unpacked: {target} is a {kinds[0]}, where the archive has a {kinds[1]}; move it away, or "
                "choose another root"
            )
        if target.is_dir():
            _check_places(entry, target)


def _link(path: Path) -> WrongTargetError:
    return WrongTargetError(
        f"nothing was unpacked: {path} is a symbolic link, through which nothing is written; remove it, or unpack the "
        "archive by hand where it leads"
    )


def _move(new: Path, folder: Path) -> None:
    """Moves all below `new` into `folder`: a folder that is not there yet as a whole."""
    for entry in sorted(new.iterdir()):
        target = folder / entry.name
        if target.is_dir():
            _move(entry, target)
        else:
            entry.replace(target)


def _remove_leftovers(folder: Path) -> None:
    """Removes what a killed process left of an archive that it was unpacking."""
    for path in folder.glob(f"{_TEMPORARY}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def _unpacked(root: Path) -> dict[str, int]:
    """Returns the names and sizes of the archives that were unpacked into `root`."""
    path = root / _DONE
    advice = "delete it to unpack the archives again"
    try:
        done = parse_json(read_text(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CorruptFileError(f"{path} cannot be read: {error}; {advice}") from error
    if not isinstance(done, dict):
        raise CorruptFileError(f"{path} holds no table of archives; {advice}")
    return done


@contextlib.contextmanager
def _folder_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise write_error(f"unpack into {folder}", error) from error
