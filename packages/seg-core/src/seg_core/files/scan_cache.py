"""Remembers what mask and image files hold, per user and across runs: SQLite files in the user's cache folder."""

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from seg_core.__about__ import __version__

if TYPE_CHECKING:
    import sqlite3

__all__ = [
    "CHANNELS",
    "HEADERS",
    "IMAGES",
    "MASKS",
    "ChannelMoments",
    "FileKey",
    "HeaderSummary",
    "ImageSummary",
    "MaskSummary",
    "Table",
    "cache_folder",
    "file_key",
    "recall",
    "remember",
]

_Summary = TypeVar("_Summary", bound="MaskSummary | ImageSummary | HeaderSummary | ChannelMoments")
_Result = TypeVar("_Result")

_CHUNK = 500  # files per query; SQLite allows 999 values in one
_RECENT = 2.0  # seconds; a file changed again within the resolution of its time stamp would look unchanged
_WAIT = 10.0  # seconds to wait for another process that writes


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


class ImageSummary(NamedTuple):
    """What an image holds: height and width in pixels; sums of the values, 0 to 255, and of their squares per channel.

    The sums are exact.
    """

    height: int
    width: int
    sums: tuple[int, int, int]
    squares: tuple[int, int, int]

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.height * self.width


class HeaderSummary(NamedTuple):
    """What the header of an image tells, and what tells its file apart; height and width are as stored.

    Attributes:
        height, width: in pixels; 0 if the image cannot be read.
        tag: orientation, 1 to 8.
        content: hash of the length of the file, its start and its end; 0 if it cannot be read.
        state: `"ok"`, or the kind of fault for which the image cannot be read.
        note: the sentence about this fault, or "".
    """

    height: int
    width: int
    tag: int = 1
    content: int = 0
    state: str = "ok"
    note: str = ""


class ChannelMoments(NamedTuple):
    """What an image of any channels holds, in the unit of its values; pixels without data do not count.

    Attributes:
        height: in pixels.
        width: in pixels.
        pixels: number of pixels with data.
        mean: mean of each channel.
        squares: of each channel the sum of the squared differences from its mean.
    """

    height: int
    width: int
    pixels: int
    mean: tuple[float, ...]
    squares: tuple[float, ...]


@dataclass(frozen=True)
class Table(Generic[_Summary]):
    """Where the summaries of one kind of file are remembered.

    Attributes:
        noun: the files, for messages.
        file: name of the database in the cache folder.
        name: of the table in it.
        column: of what a file holds, beside its height and width.
        encode: returns the text of this column.
        decode: returns the summary of a height, a width and a text; raises TypeError or ValueError if it is damaged.
    """

    noun: str
    file: str
    name: str
    column: str
    encode: Callable[[_Summary], str]
    decode: Callable[[int, int, str], _Summary]

    @property
    def schema(self) -> str:
        """The statement that creates the table."""
        return (
            f"CREATE TABLE IF NOT EXISTS {self.name} (path BLOB, reader TEXT, version TEXT, height INTEGER, width "
            f"INTEGER, {self.column} TEXT, PRIMARY KEY (path, reader)) WITHOUT ROWID"
        )


def _mask(height: int, width: int, text: str) -> MaskSummary:
    return MaskSummary(height, width, {int(raw): number for raw, number in json.loads(text).items()})


def _image(height: int, width: int, text: str) -> ImageSummary:
    red, green, blue, *squares = map(int, json.loads(text))
    red_square, green_square, blue_square = squares
    return ImageSummary(height, width, (red, green, blue), (red_square, green_square, blue_square))


def _header(height: int, width: int, text: str) -> HeaderSummary:
    tag, content, state, note = json.loads(text)
    return HeaderSummary(height, width, int(tag), int(content), str(state), str(note))


def _channels(height: int, width: int, text: str) -> ChannelMoments:
    pixels, mean, squares = json.loads(text)
    return ChannelMoments(height, width, int(pixels), tuple(map(float, mean)), tuple(map(float, squares)))


MASKS = Table("masks", "masks.sqlite3", "mask_files", "counts", lambda found: json.dumps(found.counts), _mask)
"""Ids of masks."""

IMAGES = Table(
    "images", "images.sqlite3", "image_files", "sums", lambda found: json.dumps([*found.sums, *found.squares]), _image
)
"""Sums of images."""

HEADERS = Table("headers", "headers.sqlite3", "image_headers", "facts", lambda found: json.dumps([*found[2:]]), _header)
"""Headers of images."""

CHANNELS = Table(
    "images",
    "images.sqlite3",
    "channel_files",
    "moments",
    lambda found: json.dumps([found.pixels, found.mean, found.squares]),
    _channels,
)
"""Moments of images of any channels."""


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


def recall(table: Table[_Summary], reader: str, keys: Sequence[FileKey]) -> dict[FileKey, _Summary]:
    """Returns what is remembered of these versions of files; nothing, with a warning, if the cache cannot be used.

    Args:
        table: the kind of files.
        reader: name of the function that reads them: two functions may read a file differently.
        keys: the files.
    """

    def select(database: "sqlite3.Connection") -> dict[FileKey, _Summary]:
        found: dict[FileKey, _Summary] = {}
        for start in range(0, len(keys), _CHUNK):
            wanted = {os.fsencode(key.path): key for key in keys[start : start + _CHUNK]}
            rows = database.execute(
                f"SELECT path, version, height, width, {table.column} FROM {table.name} WHERE reader = ? AND path IN "
                f"({', '.join('?' * len(wanted))})",
                (_versioned(reader), *wanted),
            )
            for path, version, height, width, text in rows:
                key = wanted[path]
                if version == key.version:
                    found[key] = table.decode(height, width, text)
        return found

    return (_use_database(table, select) if keys else None) or {}


def remember(table: Table[_Summary], reader: str, files: Iterable[tuple[FileKey, _Summary]]) -> None:
    """Remembers what files hold, instead of their earlier versions; warns if the cache cannot be used.

    Files that were changed in the last two seconds are left out.
    """
    newest = time.time_ns() - int(_RECENT * 1e9)
    rows = [
        (os.fsencode(key.path), _versioned(reader), key.version, found.height, found.width, table.encode(found))
        for key, found in files
        if key.mtime_ns < newest
    ]

    def insert(database: "sqlite3.Connection") -> None:
        with database:
            database.executemany(f"INSERT OR REPLACE INTO {table.name} VALUES (?, ?, ?, ?, ?, ?)", rows)

    if rows:
        _use_database(table, insert)


def _versioned(reader: str) -> str:
    return f"{reader} {__version__}"  # another version may read a file differently


def _use_database(table: Table[_Summary], action: "Callable[[sqlite3.Connection], _Result]") -> "_Result | None":
    """Returns the result of an action on the database, or None, with a warning, if it cannot be used."""
    try:
        import sqlite3
    except ImportError as error:  # some builds of Python lack it
        _warn_once(table.noun, table.file, str(error))
        return None
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(folder / table.file, timeout=_WAIT)) as database:
            database.execute(table.schema)
            return action(database)
    # a damaged file, a folder that cannot be written, no home folder, damaged contents
    except (sqlite3.Error, OSError, RuntimeError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        _warn_once(table.noun, table.file, f"{type(error).__name__}: {error}")
        return None


@cache
def _warn_once(noun: str, file: str, reason: str) -> None:
    try:
        place = f"{cache_folder() / file}"
    except RuntimeError:
        place = file
    warnings.warn(
        f"the scan of {noun} cannot use its cache {place} ({reason}), so each run reads all {noun} again; delete that "
        "file, or set SEG_CACHE to a folder that can be written",
        stacklevel=2,
    )
