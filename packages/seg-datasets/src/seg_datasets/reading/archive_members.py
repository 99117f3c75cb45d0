"""The members of a zip or tar archive, listed before anything is written.

Everything that can be wrong with an archive is found by listing it: names that would leave the folder or that not every
file system can hold, links, encryption, content that expands without measure, and a tar that is cut off or damaged,
whose compressed stream is read to its checksum. Only the checksums of a zip's members are found while they are read.
"""

import bz2
import contextlib
import gzip
import lzma
import re
import stat
import struct
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from seg_core.errors import CorruptFileError, UserError, counted

__all__ = ["Member", "open_archive"]

_BLOCK = 1 << 20
_MOST_MEMBERS = 2_000_000
_LEAST_MEMBER = 20  # bytes that a member takes in an archive on average; empty files in a tar.gz take 6
_MOST_DIRECTORY = 100 << 20  # bytes of a zip's directory, of which each member takes at least 46
_MOST_TIMES = 200  # images and masks expand a few times; mask files of one value about 100 times
_FREE = 1 << 20  # bytes; content below expands as much as it likes
_MOST_HEADER = 1 << 16  # bytes of a tar's extended header, which holds long names
_DEEPEST = 64
_LONGEST_PART = 255  # bytes, of the file systems in use
_LONGEST = 1000  # bytes, of macOS and of old Windows about as much
_SHOWN = 150  # characters of a library's message, which may hold a damaged name
_OWN = (".seg-unpacked.json", "seg-manifest.json")

_DIGITS = re.compile(rb"\d{40}")
_NOT_ON_WINDOWS = re.compile(r'[<>:"|?*\\]')
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3]) *(\..*)?", re.IGNORECASE)
_UNSEEN = re.compile("[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


@dataclass(frozen=True)
class Member:
    """One member of an archive.

    Attributes:
        name: its path below the folder, with `/` between its parts.
        size: unpacked size in bytes; 0 for a folder.
        is_folder: whether it is a folder.
        blocks: yields its content, `size` bytes in blocks of at most 1 MiB; raises CorruptFileError if it is damaged.
    """

    name: str
    size: int
    is_folder: bool
    blocks: Callable[[], Iterator[bytes]]


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[list[Member]]:
    """Yields the members of a zip or tar archive, which may be compressed with gzip, bzip2 or xz.

    Args:
        path: the archive.

    Raises:
        CorruptFileError: if it is damaged, cut off or encrypted, holds links, devices or names that are refused, or
            more members or content than its size allows.
    """
    with contextlib.ExitStack() as stack:
        with _reading(path):
            with path.open("rb") as file:
                start = file.read(6)
            if start.startswith(b"PK"):
                count = _count_in_directory(path)
                archive = stack.enter_context(zipfile.ZipFile(path))
                found = [_zip_member(path, archive, info) for info in archive.infolist()]
                if len(found) & 0xFFFF != count:  # which zipfile does not compare
                    raise ValueError(
                        f"its directory has {counted(len(found), 'member')}, its end tells of another number"
                    )
            else:
                found = _tar_members(path, stack, start)
            _check(path, found)
        yield found


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns every error of a library that reads a damaged archive into one sentence."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except OSError as error:
        if error.errno is None:  # of gzip and bz2, for damaged data
            raise _damaged(path, str(error)) from error
        raise CorruptFileError(
            f"{path} cannot be read: {error.strerror}; check its permissions and its disk"
        ) from error
    except Exception as error:  # zipfile and tarfile raise a dozen kinds
        reason = "it has headers within headers" if isinstance(error, RecursionError) else _line(error)
        raise _damaged(path, reason) from error


def _damaged(path: Path, reason: str) -> CorruptFileError:
    return CorruptFileError(f"{path} cannot be unpacked: {reason}; delete it and download it again")


def _line(error: Exception) -> str:
    text = next(iter(str(error).splitlines()), "")
    return ascii(text)[1:-1][:_SHOWN] or type(error).__name__


def _refused(path: Path, name: str, problem: str) -> CorruptFileError:
    shown = name if len(name) <= 100 else f"{name[:100]}..."
    return CorruptFileError(
        f"{path} has the member {shown!r}, {problem}; nothing was unpacked. The published archive has no such member: "
        "get it from its official page"
    )


# ---------------------------------------------------------------------------------------------------------------- zip


def _count_in_directory(path: Path) -> int:
    """Returns the lower 16 bits of the number of members of a zip, as its end tells it.

    Raises:
        CorruptFileError: if the directory is too large: zipfile reads it into memory as a whole.
    """
    with path.open("rb") as file:
        length = file.seek(0, 2)
        file.seek(max(0, length - (1 << 16) - 200))
        end = file.read()
    place = end.rfind(b"PK\x05\x06")
    if not 0 <= place <= len(end) - 22:
        raise ValueError("its end is missing")
    count, size = struct.unpack_from("<HL", end, place + 10)
    large = end.rfind(b"PK\x06\x06", 0, place)  # of an archive with more members or bytes than fit these
    if 0 <= large <= len(end) - 56 and (count == 0xFFFF or size == 0xFFFFFFFF):
        count, size = struct.unpack_from("<QQ", end, large + 32)
    if size > _MOST_DIRECTORY:
        raise _damaged(path, f"its directory has {size} bytes, at most {_MOST_DIRECTORY} are read")
    return int(count) & 0xFFFF


def _zip_member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    name = info.orig_filename  # `filename` ends at a NUL character
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 if the archive was not made on Unix
    if not name:
        raise _refused(path, name, "an empty name")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refused(path, name, "a link or a device")
    if info.flag_bits & 0x41:  # encrypted, also with strong encryption
        raise _refused(path, name, "which is encrypted")
    if info.is_dir() and info.file_size:
        raise _refused(path, name, "a folder with content")
    return Member(
        name, info.file_size, info.is_dir(), lambda: _blocks(path, lambda: archive.open(info), info.file_size)
    )


# ---------------------------------------------------------------------------------------------------------------- tar


class _Bounded:
    """A stream of which no more is unpacked than its archive's size allows, and no more kept in memory at once."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file, self._limit = file, limit
        self.is_listed = False
        """Whether all headers were read, so that content is read."""

    def read(self, size: int = -1) -> bytes:
        if not self.is_listed and not 0 <= size <= _MOST_HEADER:
            raise ValueError(f"a header has {size} bytes, at most {_MOST_HEADER} are read")
        data = self._file.read(size)
        self._check(self._file.tell())
        if not self.is_listed and len(data) > tarfile.BLOCKSIZE and _DIGITS.search(data):
            # tarfile's time would grow with the square of their number
            raise ValueError("a header holds a number of more than 40 digits")
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0:
            self._check(offset)
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read_to_end(self) -> None:
        while self._file.read(_BLOCK):
            self._check(self._file.tell())

    def _check(self, offset: int) -> None:
        if offset > self._limit:
            raise ValueError(_expands(self._limit))


def _expands(limit: int) -> str:
    return f"its content has more than {limit} bytes, over {_MOST_TIMES} times its size"


def _tar_members(path: Path, stack: contextlib.ExitStack, start: bytes) -> list[Member]:
    size = path.stat().st_size
    file: IO[bytes]
    if start.startswith(b"\x1f\x8b"):
        file = cast(IO[bytes], gzip.GzipFile(path, "rb"))
    elif start.startswith(b"BZh"):
        file = bz2.BZ2File(path, "rb")
    elif start.startswith(b"\xfd7zXZ\0"):
        file = lzma.LZMAFile(path, "rb")  # noqa: SIM115 - entered below
    else:
        file = path.open("rb")
    stack.enter_context(file)
    is_plain = not isinstance(file, gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile)
    stream = _Bounded(file, size if is_plain else _limit(size))
    tape = stack.enter_context(tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:"))  # noqa: SIM115 - stack
    found, most = [], _most_members(size)
    for info in tape:
        found.append(_tar_member(path, tape, info))
        if len(found) > most:
            raise ValueError(f"it has more than {most} members, too many for its size")
    # tarfile takes a damaged header and the end of the file for the end of the archive, which is a block of zeros
    stream.seek(tape.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise ValueError(f"a header is damaged, or the end is missing, after {counted(len(found), 'member')}")
    if not is_plain:
        stream.read_to_end()  # where the checksum stands
    stream.is_listed = True
    return found


def _tar_member(path: Path, tape: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    if not (info.isfile() or info.isdir()):
        raise _refused(path, info.name, "a link or a device")
    if info.issparse():
        raise _refused(path, info.name, "a sparse file")
    if info.size < 0:
        raise _refused(path, info.name, f"of {info.size} bytes")
    if info.isdir():
        return Member(info.name, 0, True, lambda: iter(()))

    def open_member() -> IO[bytes]:
        file = tape.extractfile(info)
        assert file is not None  # a regular file
        return file

    return Member(info.name, info.size, False, lambda: _blocks(path, open_member, info.size))


def _blocks(path: Path, open_member: Callable[[], IO[bytes]], size: int) -> Iterator[bytes]:
    left = size
    with contextlib.ExitStack() as stack:
        with _reading(path):
            source = stack.enter_context(open_member())
        while True:
            with _reading(path):
                block = source.read(_BLOCK)  # at the end too, where a zip's checksum is compared
                left -= len(block)
                if left < 0 or (left and not block):
                    raise ValueError(f"a member has another size than the {size} bytes in its header")
            if not block:
                return
            yield block


# -------------------------------------------------------------------------------------------------------------- checks


def _limit(size: int) -> int:
    return max(_MOST_TIMES * size, _FREE)


def _most_members(size: int) -> int:
    return min(_MOST_MEMBERS, 10_000 + size // _LEAST_MEMBER)


def _check(path: Path, members: list[Member]) -> None:
    size = path.stat().st_size
    if len(members) > _most_members(size):
        raise _damaged(path, f"it has {len(members)} members, too many for its size")
    limit = _limit(size)
    if sum(member.size for member in members) > limit:
        raise _damaged(path, _expands(limit))
    taken: dict[str, tuple[str, bool]] = {}  # path as a file system sees it that ignores case and composition
    folders = {""}
    for member in members:
        if problem := _problem(member.name):
            raise _refused(path, member.name, problem)
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        if not parts:
            if member.is_folder:  # that of all members, as in `tar cf a.tar .`
                continue
            raise _refused(path, member.name, "a file without a name")
        if parts[0].lower() in _OWN or parts[0].startswith(".unpacking-"):
            raise _refused(path, member.name, "a name that is kept for what was unpacked")
        known_parent = "/".join(parts[:-1]) in folders
        for end in range(len(parts) if known_parent else 1, len(parts) + 1):
            name, is_folder = "/".join(parts[:end]), end < len(parts) or member.is_folder
            key = _folded(name)
            other, was_folder = taken.get(key, (name, is_folder))
            if key in taken and not (other == name and was_folder and is_folder):  # only a folder may come again
                raise _refused(path, member.name, f"which is the same file as {other!r}, here or where case is ignored")
            taken[key] = (name, is_folder)
            if is_folder:
                folders.add(name)


def _problem(name: str) -> str:
    """Returns why a member's name is refused; "" if it is not."""
    if not name:
        return "an empty name"
    if name.startswith(("/", "\\")) or re.match("[A-Za-z]:", name):
        return "an absolute path"
    parts = name.replace("\\", "/").split("/")
    if ".." in parts:
        return "a path that leaves the folder"
    if _UNSEEN.search(name) or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        return "whose name holds characters that cannot be seen, or bytes that are no UTF-8"
    if len(parts) > _DEEPEST:
        return f"in more than {_DEEPEST} folders"
    if len(name.encode()) > _LONGEST or any(len(part.encode()) > _LONGEST_PART for part in parts):
        return f"a name of over {_LONGEST_PART} bytes, or a path of over {_LONGEST}"
    if "\\" in name:
        return "whose name has a backslash, which stands between folders on Windows alone"
    for part in parts:
        is_dots = part in ("", ".")
        if _NOT_ON_WINDOWS.search(part) or _RESERVED.fullmatch(part) or (part.endswith((".", " ")) and not is_dots):
            return f"a path with {part!r}, which Windows cannot store"
    return ""


def _folded(name: str) -> str:
    return (
        name.lower() if name.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    )
