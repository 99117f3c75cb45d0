"""Remembers what mask files hold, per user and across runs: one SQLite file in the user's cache folder."""

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from seg_core.__about__ import __version__

if TYPE_CHECKING:
    import sqlite3

__all__ = ["FileKey", "MaskSummary", "cache_folder", "file_key", "recall", "remember"]

_Result = TypeVar("_Result")

_FILE = "masks.sqlite3"
_CHUNK = 500  # files per query; SQLite allows 999 values in one
_RECENT = 2.0  # seconds; a file changed again within the resolution of its time stamp would look unchanged
_WAIT = 10.0  # seconds to wait for another process that writes
_TABLE = """\
CREATE TABLE IF NOT EXISTS mask_files (
    path BLOB, reader TEXT, version TEXT, height INTEGER, width INTEGER, counts TEXT, PRIMARY KEY (path, reader)
) WITHOUT ROWID"""


class FileKey(NamedTuple):
    """One version of a file.

    Attributes:
        path: absolute path.
        version: size, time of modification, and what tells files apart whose copies keep that time: the time of the
            last change of the file's entry (its creation, on Windows) and its number in the file system.
        mtime_ns: time of modification in nanoseconds.
    """

    path: str
    version: str
    mtime_ns: int


class MaskSummary(NamedTuple):
    """What a mask holds: height and width in pixels, and its raw ids with their numbers of pixels."""

    height: int
    width: int
    counts: Mapping[int, int]


def cache_folder() -> Path:
    """Returns the folder of this user's caches: `SEG_CACHE`, else `seg` in the platform's cache folder."""
    if own := os.environ.get("SEG_CACHE"):
        return Path(own).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "seg"


def file_key(path: Path) -> FileKey | None:
    """Returns the key of a file as it is now, or None if it does not exist."""
    try:
        found = path.stat()
    except OSError:
        return None
    version = f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_dev} {found.st_ino}"
    return FileKey(os.path.abspath(path), version, found.st_mtime_ns)  # noqa: PTH100 - links stay as they are


def recall(reader: str, keys: Sequence[FileKey]) -> dict[FileKey, MaskSummary]:
    """Returns what is remembered of these versions of files; nothing, with a warning, if the cache cannot be used.

    Args:
        reader: name of the function that reads the ids: two functions may read a file differently.
        keys: the files.
    """

    def select(database: "sqlite3.Connection") -> dict[FileKey, MaskSummary]:
        found: dict[FileKey, MaskSummary] = {}
        for start in range(0, len(keys), _CHUNK):
            wanted = {os.fsencode(key.path): key for key in keys[start : start + _CHUNK]}
            rows = database.execute(
                "SELECT path, version, height, width, counts FROM mask_files WHERE reader = ? AND path IN "
                f"({', '.join('?' * len(wanted))})",
                (_versioned(reader), *wanted),
            )
            for path, version, height, width, counts in rows:
                key = wanted[path]
                if version == key.version:
                    ids = {int(raw): number for raw, number in json.loads(counts).items()}
                    found[key] = MaskSummary(height, width, ids)
        return found

    return (_use_database(select) if keys else None) or {}


def remember(reader: str, masks: Iterable[tuple[FileKey, MaskSummary]]) -> None:
    """Remembers what files hold, instead of their earlier versions; warns if the cache cannot be used.

    Files that were changed in the last two seconds are left out.
    """
    newest = time.time_ns() - int(_RECENT * 1e9)
    rows = [
        (os.fsencode(key.path), _versioned(reader), key.version, height, width, json.dumps(counts))
        for key, (height, width, counts) in masks
        if key.mtime_ns < newest
    ]

    def insert(database: "sqlite3.Connection") -> None:
        with database:
            database.executemany("INSERT OR REPLACE INTO mask_files VALUES (?, ?, ?, ?, ?, ?)", rows)

    if rows:
        _use_database(insert)


def _versioned(reader: str) -> str:
    return f"{reader} {__version__}"  # another version may read a file differently


def _use_database(action: "Callable[[sqlite3.Connection], _Result]") -> "_Result | None":
    """Returns the result of an action on the database, or None, with a warning, if it cannot be used."""
    try:
        import sqlite3
    except ImportError as error:  # some builds of Python lack it
        _warn_once(str(error))
        return None
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(folder / _FILE, timeout=_WAIT)) as database:
            database.execute(_TABLE)
            return action(database)
    # a damaged file, a folder that cannot be written, no home folder, damaged counts
    except (sqlite3.Error, OSError, RuntimeError, ValueError) as error:
        _warn_once(f"{type(error).__name__}: {error}")
        return None


@cache
def _warn_once(reason: str) -> None:
    try:
        place = f"{cache_folder() / _FILE}"
    except RuntimeError:
        place = _FILE
    warnings.warn(
        f"the scan of masks cannot use its cache {place} ({reason}), so each run reads all masks again; delete that "
        "file, or set SEG_CACHE to a folder that can be written",
        stacklevel=2,
    )
