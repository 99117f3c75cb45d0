"""Weighs a file of `torch.save` before it is read: what it asks for must be in proportion to its size.

A few bytes of a zip archive or a pickle can stand for terabytes: members that expand a thousand times, lists that hold
the list before twice, storages and views of any size, calls that copy, keys whose hash takes forever. `weigh` follows
the operations of the pickles on stand-ins, which take no memory, and refuses such files. What it accepts is read in
time and memory that are in proportion to the file.
"""

import io
import os
import struct
import tarfile
import warnings
import zipfile
from pathlib import Path
from typing import IO

import torch

from seg_core.errors import CorruptFileError
from seg_core.model_files.pickle_scale import PickleScale, refuse

__all__ = ["is_zip", "load_plain", "weigh", "weigh_archive"]

_ZIP_MAGIC = b"PK\x03\x04"
_SLACK = 2**26  # bytes that any file may ask for
_EXPANSION = 4  # times its size beyond that; torch compresses nothing, so a file of its own needs 1
_LONGEST_END = 2**16 + 100  # bytes of the end of an archive with its comment
_END_64 = 76  # bytes of the two records before it in a large one
_LARGEST_PICKLE = 2**28  # bytes
_LEGACY_PICKLES = 5  # magic number, protocol, system, content, keys of the storages


def is_zip(file: IO[bytes]) -> bool:
    """Returns whether an open file is a zip archive, as torch decides it; its position is the start afterwards."""
    file.seek(0)
    magic = file.read(len(_ZIP_MAGIC))
    file.seek(0)
    return magic == _ZIP_MAGIC


def load_plain(path: str | os.PathLike[str]) -> object:
    """Returns what a file of `torch.save` holds, tensors on the CPU: plain containers and tensors only.

    It is weighed before; none of its code runs.

    Raises:
        CorruptFileError: as `weigh`.
        Exception: of torch's readers, if it is damaged, of another kind, or holds pickled objects.
    """
    weigh(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of parts of a pickle that it goes on to refuse
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    return content


def weigh(path: str | os.PathLike[str]) -> None:
    """Checks that reading a file of `torch.save` needs time and memory in proportion to its size.

    Nothing of it is built, and none of its names is imported. For a file that is no such file, any error may be raised.

    Args:
        path: the file.

    Raises:
        CorruptFileError: if it asks for too much, or is a tar archive, which torch wrote before 2017.
        Exception: of the readers of archives and pickles, if it is damaged.
    """
    with Path(path).open("rb") as file:
        if is_zip(file):
            room = weigh_archive(path)
            content = torch._C.PyTorchFileReader(file).get_record("data.pkl")
            PickleScale(path, room).weigh(io.BytesIO(content))
            return
        if tarfile.is_tarfile(file):
            raise CorruptFileError(
                f"{os.fspath(path)} is a tar archive, which torch wrote before 2017 and which is not supported; if you "
                "trust it, load it with torch and save its state_dict again"
            )
        file.seek(0)
        size = os.fstat(file.fileno()).st_size
        scale = PickleScale(path, _room(size))
        for _ in range(_LEGACY_PICKLES):
            scale.weigh(_Bounded(file, size))


def weigh_archive(path: str | os.PathLike[str]) -> int:
    """Checks that the members of a zip archive are, unpacked, in proportion to its size.

    Args:
        path: the archive.

    Returns:
        The number of bytes that a file of this size may stand for.

    Raises:
        CorruptFileError: if they are larger, or encrypted.
        zipfile.BadZipFile: if it is damaged.
    """
    room = _room(Path(path).stat().st_size)
    _check_directory(path)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    largest = max((member.file_size for member in members if member.filename.endswith(".pkl")), default=0)
    if largest > _LARGEST_PICKLE:
        refuse(path, f"its pickle is over {_LARGEST_PICKLE >> 20} MiB")
    if sum(member.file_size for member in members) > room:
        refuse(path, "unpacked, its members would be far larger than the file")
    if any(member.flag_bits & 1 for member in members):
        raise CorruptFileError(f"{os.fspath(path)} holds encrypted members, which torch does not write; unpack it")
    return room


def _check_directory(path: str | os.PathLike[str]) -> None:
    """Checks that the directory of an archive is where its end says, right before it.

    Python takes the one before the end, torch the one that the end names; of files joined together they differ.
    """
    size = Path(path).stat().st_size
    with Path(path).open("rb") as file:
        file.seek(max(0, size - _LONGEST_END))
        tail = file.read()
    end = tail.rfind(b"PK\5\6")
    if end < 0 or end + 20 > len(tail):
        raise zipfile.BadZipFile("it has no directory")
    length, offset = struct.unpack_from("<LL", tail, end + 12)
    if end >= _END_64 and tail[end - 20 :].startswith(b"PK\6\7"):  # of a large archive
        end -= _END_64
        length, offset = struct.unpack_from("<QQ", tail, end + 40)
    if offset + length != size - len(tail) + end:
        raise zipfile.BadZipFile("it holds something in front of its archive, or is truncated")


def _room(size: int) -> int:
    return _EXPANSION * size + _SLACK


class _Bounded:
    """The rest of a file, of which no more is asked for than there is: `read` allocates what it is asked for."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size = file, size
        self.tell = file.tell

    def read(self, count: int) -> bytes:
        return self._file.read(min(count, self._size - self._file.tell()))

    def readline(self) -> bytes:
        return self._file.readline(_LARGEST_PICKLE)
