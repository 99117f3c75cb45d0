"""Archives: hostile members, and damage anywhere; nothing may appear outside of the folder, or stay half unpacked."""

import bz2
import gzip
import io
import lzma
import random
import tarfile
import warnings
import zipfile
from pathlib import Path

from seg_core.errors import UserError
from seg_datasets.reading.archives import unpack
from tests.fuzz.harness import Difference, Harness
from tests.fuzz.mutations import HOSTILE_TEXTS, damaged

_NAMES = (
    "a.txt",
    "a",
    "b/c.png",
    "b",
    "b/",
    "./d",
    "b/../e",
    "../out.txt",
    "/tmp/seg-fuzz-out.txt",  # an absolute name, which `_attempt` looks for
    "B",
    "x//y",
    "q\\r",
    ".seg-unpacked.json",
)
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_TAR_TYPES = (
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.FIFOTYPE,
    tarfile.DIRTYPE,
    tarfile.CONTTYPE,
    b"Z",
)
_PACKERS = {".tar": bytes, ".tar.gz": gzip.compress, ".tar.bz2": bz2.compress, ".tar.xz": lzma.compress}
_SEPARATOR = b"\n"  # between the suffix and the contents of an input


def _member_name(rng: random.Random) -> str:
    if rng.random() < 0.1:
        return rng.choice(HOSTILE_TEXTS)
    return "/".join(["n"] * rng.choice((50, 3000))) if rng.random() < 0.02 else rng.choice(_NAMES)


def _content(rng: random.Random) -> bytes:
    return rng.choice((b"", b"hello", bytes(2000), rng.randbytes(300)))


def _zip(rng: random.Random) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore")  # of names that are there twice
        for _ in range(rng.choice((0, 1, 2, 4))):
            info = zipfile.ZipInfo(_member_name(rng).encode("utf-8", "replace").decode()[:60_000])
            info.compress_type = rng.choice(_ZIP_METHODS)
            if rng.random() < 0.1:
                info.external_attr = rng.choice((0o120777, 0o010644, 0o020644, 0o140644, 0o100000)) << 16
            archive.writestr(info, _content(rng))
    data = bytearray(buffer.getvalue())
    if rng.random() < 0.1 and data.startswith(b"PK\x03\x04"):
        data[6] |= 1  # says that it is encrypted
    return bytes(data)


def _tar(rng: random.Random) -> bytes:
    buffer = io.BytesIO()
    kind = rng.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT))
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        for _ in range(rng.choice((0, 1, 2, 4))):
            info, content = tarfile.TarInfo(_member_name(rng)), _content(rng)
            if rng.random() < 0.2:
                info.type, info.linkname = rng.choice(_TAR_TYPES), rng.choice(_NAMES)
            info.size = len(content) if info.isreg() else 0
            info.mode = rng.choice((0o644, 0o755, 0, 0o7777))
            try:
                archive.addfile(info, io.BytesIO(content))
            except (ValueError, UnicodeError):  # a name that the format cannot hold
                continue
    return buffer.getvalue()


def _make(rng: random.Random) -> bytes:
    if rng.random() < 0.05:
        return b".txt" + _SEPARATOR + damaged("names\nä\n".encode(), rng)
    if rng.random() < 0.5:
        suffix, data = ".zip", _zip(rng)
    else:
        suffix = rng.choice(list(_PACKERS))
        data = _tar(rng)
        if rng.random() < 0.4:
            data = damaged(data, rng)
        data = _PACKERS[suffix](data)
    if rng.random() < 0.7:
        data = damaged(data, rng)
    return suffix.encode() + _SEPARATOR + data


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def _attempt(data: bytes, folder: Path) -> None:
    suffix, _, contents = data.partition(_SEPARATOR)
    place = folder / "place" / "inner"
    place.mkdir(parents=True)
    (place / "former.txt").write_text("stays")
    path = folder / f"archive{suffix.decode('ascii', 'replace')[:8].replace('/', '')}"
    path.write_bytes(contents)
    before = _files(folder)
    try:
        unpack(path, place, progress=False)
    except UserError:
        if added := _files(folder) - before:
            raise Difference(f"refused, and yet {sorted(added)[:5]} appeared") from None
        raise
    finally:
        outside = {name for name in _files(folder) - before if not name.startswith("place/inner/")}
        if outside or Path("/tmp/seg-fuzz-out.txt").exists():
            raise Difference(f"written outside of the folder: {sorted(outside)[:5]}")
    hidden = [name for name in _files(place) if ".unpacking-" in name]
    if hidden or (place / "former.txt").read_text() != "stays":
        raise Difference(f"left behind: {hidden[:5]}, or a file was changed that the archive does not hold")
    if links := [file for file in place.rglob("*") if file.is_symlink() or not (file.is_file() or file.is_dir())]:
        raise Difference(f"unpacked {links[0].name}, which is neither a file nor a folder")


def _many_folders() -> bytes:
    """Returns a tar of one file below 3,000 folders."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("/".join(["n"] * 3000)), io.BytesIO())
    return b".tar" + _SEPARATOR + buffer.getvalue()


HARNESS = Harness(_make, _attempt, ".archive", {"many-folders": _many_folders})
