"""Archives that are damaged or made to do harm, and a reader of trees that tells what came of one."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from pathlib import Path

from seg_core.errors import UserError
from seg_datasets.reading.archives import unpack

FILES = {
    "top/images/a.jpg": bytes(range(256)) * 12,
    "top/masks/a.png": b"mask" * 1000,
    "top/b.txt": b"a\nb\n",
    "c.bin": b"",
}
PACKED = {"a.tar.gz": gzip.compress, "a.tar.xz": lzma.compress, "a.tar.bz2": bz2.compress, "a.tar": lambda data: data}
KINDS = ("stored.zip", "deflated.zip", *PACKED)


def tar_of(infos, form=tarfile.PAX_FORMAT):
    """Returns a tar of members, each a name or a TarInfo, and its content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tape:
        for info, content in infos:
            member = tarfile.TarInfo(info) if isinstance(info, str) else info
            if content:
                member.size = len(content)
            tape.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(infos, compression=zipfile.ZIP_DEFLATED):
    """Returns a zip of members, each a name or a ZipInfo, and its content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for info, content in infos:
            archive.writestr(info, content)
    return buffer.getvalue()


def archive_of(kind, files=FILES):
    """Returns an archive of one of `KINDS`."""
    if kind.endswith(".zip"):
        return zip_of(files.items(), zipfile.ZIP_STORED if kind == "stored.zip" else zipfile.ZIP_DEFLATED)
    return PACKED[kind](tar_of(files.items()))


def tree_of(folder):
    """Returns path -> content of all files below a folder, None for other than files and folders."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in Path(folder).rglob("*")
        if path.is_symlink() or not path.is_dir()
    }


def mutate(data, rng):
    """Returns a damaged copy of an archive: bytes changed, cut off, left out, doubled, or set to what numbers fear."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        if not data:
            break
        at = rng.randrange(len(data))
        if rng.random() < 0.3:  # near the end, where a zip has its directory, and a stream its checksum
            at = max(0, len(data) - 1 - rng.randrange(300))
        way = rng.randrange(7)
        if way == 0:
            data[at] = rng.randrange(256)
        elif way == 1:
            data[at] ^= 1 << rng.randrange(8)
        elif way == 2:
            del data[at:]
        elif way == 3:
            del data[at : at + rng.choice([1, 2, 4, 512])]
        elif way == 4:
            data[at:at] = data[at : at + rng.choice([1, 4, 46, 512, 1024])]
        elif way == 5:
            value = rng.choice(
                [b"\0" * 4, b"\xff" * 4, b"\xff" * 8, b"\xff\xff\xff\x7f", b"../", b"77777777777", b"-1"]
            )
            data[at : at + len(value)] = value
        else:
            data[at : at + 8] = bytes(rng.randrange(256) for _ in range(8))
    return bytes(data)


def mutated_archive(number, rng):
    """Returns the name and the bytes of a damaged archive, and whether a checksum covers the damage."""
    kind = KINDS[number % len(KINDS)]
    if kind in PACKED and rng.random() < 0.5:
        return kind, PACKED[kind](mutate(_TAR, rng)), False
    return kind, mutate(_ARCHIVES[kind], rng), kind != "a.tar"


def outcome(path, folder, expected=None):
    """Unpacks an archive into a new folder; returns the kind of the error, or `"tree"`.

    Raises:
        AssertionError: if it left anything behind after an error, or if the tree is not the expected one.
    """
    try:
        unpack(path, folder, progress=False)
    except UserError as error:
        message = str(error)
        assert path.name in message or folder.name in message
        assert "\n" not in message and len(message) < 800, message
        assert tree_of(folder) == {}
        return type(error).__name__
    tree = tree_of(folder)
    assert None not in tree.values()
    assert expected is None or tree == expected
    return "tree"


_TAR = tar_of(FILES.items())
_ARCHIVES = {kind: archive_of(kind) for kind in KINDS}
