"""Archives that are damaged or made to do harm: one sentence, and nothing is left."""

import bz2
import gzip
import lzma
import random
import stat
import tarfile
import tracemalloc
import zipfile

import pytest

from seg_core.errors import CorruptFileError, WrongTargetError
from seg_datasets.reading.archives import Archive, fetch_archives, unpack
from tests.datasets.reading.hostile_archives import (
    FILES,
    KINDS,
    PACKED,
    archive_of,
    mutated_archive,
    outcome,
    tar_of,
    tree_of,
    zip_of,
)


def refused(tmp_path, name, data, words):
    path = tmp_path / "in" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    with pytest.raises(CorruptFileError, match=words) as error:
        unpack(path, tmp_path / "out", progress=False)
    assert str(path) in str(error.value)
    assert not list((tmp_path / "out").iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}


@pytest.mark.parametrize("kind", KINDS)
def test_unpack_good_archive_of_every_kind(tmp_path, kind):
    (tmp_path / kind).write_bytes(archive_of(kind))
    assert outcome(tmp_path / kind, tmp_path / "out") == "tree"
    assert tree_of(tmp_path / "out") == FILES


# --------------------------------------------------------------------------------------------------------------- names


NAMES = [
    ("a\nb.txt", "characters that cannot be seen"),
    ("a\x1b[31m.txt", "characters that cannot be seen"),
    ("a\x85.txt", "characters that cannot be seen"),
    ("a\u202egnp.txt", "characters that cannot be seen"),
    ("aux.txt", "'aux.txt', which Windows cannot store"),
    ("top/NUL/a.txt", "'NUL', which Windows cannot store"),
    ("com1", "which Windows cannot store"),
    ("top./a.txt", "which Windows cannot store"),
    ("top /a.txt", "which Windows cannot store"),
    ("a.txt:b", "which Windows cannot store"),
    ("top\\a.txt", "whose name has a backslash"),
    ("a?.txt", "which Windows cannot store"),
    ("d/" * 3000 + "a.txt", "in more than 64 folders"),
    ("a" * 300, "a name of over 255 bytes"),
    ("木" * 100, "a name of over 255 bytes"),
    (("a" * 100 + "/") * 20 + "a", "a path of over 1000"),
    (".", "a file without a name"),
    ("./.", "a file without a name"),
    (".seg-unpacked.json", "kept for what was unpacked"),
    (".unpacking-x/a.txt", "kept for what was unpacked"),
]


@pytest.mark.parametrize("make", [zip_of, tar_of])
@pytest.mark.parametrize(("name", "words"), NAMES)
def test_unpack_name_that_not_every_file_system_holds_is_refused(tmp_path, make, name, words):
    refused(tmp_path, "archive", make([("first.txt", b"x"), (name, b"y")]), words)


@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_unpack_member_without_a_name_is_refused(tmp_path, make):
    if make is zip_of:  # zipfile writes none
        data = bytearray(zip_of([("Q", b"y")], zipfile.ZIP_STORED))
        place = data.index(b"PK\1\2")
        data[place + 28] = data[26] = 0
        del data[place + 46], data[30]
        end = data.index(b"PK\5\6")
        data[end + 12] -= 1  # the size of the directory
        data[end + 16] -= 1  # and its place
    else:
        data = make([("", b"y")])
    refused(tmp_path, "archive", bytes(data), "has the member '', an empty name")


def test_unpack_zip_name_with_nul_is_refused(tmp_path):
    data = zip_of([("a_b.txt", b"x")]).replace(b"a_b.txt", b"a\0b.txt")
    refused(tmp_path, "a.zip", data, r"member 'a\\x00b.txt', whose name holds characters that cannot be seen")


def test_unpack_tar_name_in_no_utf_8_is_refused(tmp_path):
    data = tar_of([("aßb.txt", b"x")], tarfile.GNU_FORMAT).replace("ß".encode(), b"\xff\xfe")
    head = bytearray(data[:512])
    head[148:156] = b" " * 8
    head[148:156] = f"{sum(head):06o}\0 ".encode()  # the checksum of the header
    refused(tmp_path, "a.tar", bytes(head) + data[512:], "bytes that are no UTF-8")


@pytest.mark.parametrize("make", [zip_of, tar_of])
@pytest.mark.parametrize(
    "names",
    [
        ("top/a.png", "top/A.png"),
        ("Top/a.png", "top/b.png"),
        ("stra\u00dfe", "STRASSE"),
        ("\u00e9.png", "e\u0301.png"),
        ("a", "a/b"),
        ("a/b", "a"),
        ("a/b", "a//b"),
        ("b.txt", "./b.txt"),
    ],
)
def test_unpack_names_of_one_file_are_refused(tmp_path, make, names):
    refused(tmp_path, "archive", make([(name, b"x") for name in names]), "the same file as")


def test_unpack_folder_that_comes_twice_is_taken(tmp_path):
    folder = tarfile.TarInfo("top")
    folder.type = tarfile.DIRTYPE
    root = tarfile.TarInfo(".")
    root.type = tarfile.DIRTYPE
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of([(root, b""), (folder, b""), ("./top/a.txt", b"x"), (folder, b""), ("top/b.txt", b"y")]))
    assert outcome(path, tmp_path / "out") == "tree"
    assert tree_of(tmp_path / "out") == {"top/a.txt": b"x", "top/b.txt": b"y"}


@pytest.mark.parametrize(
    "kind", [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, b"Z"]
)
def test_unpack_tar_link_device_or_unknown_kind_is_refused(tmp_path, kind):
    info = tarfile.TarInfo("odd")
    info.type, info.linkname = kind, "first.txt"
    refused(tmp_path, "a.tar", tar_of([("first.txt", b"x"), (info, b"")]), "'odd', a link or a device")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_unpack_zip_link_or_device_is_refused(tmp_path, kind):
    info = zipfile.ZipInfo("odd")
    info.create_system, info.external_attr = 3, (kind | 0o777) << 16
    refused(tmp_path, "a.zip", zip_of([("first.txt", b"x"), (info, b"/etc")]), "'odd', a link or a device")


# ------------------------------------------------------------------------------------------------- links in the folder


@pytest.mark.parametrize("kind", ["a.tar", "deflated.zip"])
@pytest.mark.parametrize("place", ["top", "top/masks", "top/b.txt", "c.bin"])
def test_unpack_through_a_link_in_the_folder_is_refused_before_anything_is_moved(tmp_path, kind, place):
    (tmp_path / kind).write_bytes(archive_of(kind))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "b.txt").write_bytes(b"mine")
    link = tmp_path / "out" / place
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere / "b.txt" if place.endswith((".txt", ".bin")) else elsewhere)
    with pytest.raises(WrongTargetError, match="nothing was unpacked: .* is a symbolic link"):
        unpack(tmp_path / kind, tmp_path / "out", progress=False)
    assert tree_of(elsewhere) == {"b.txt": b"mine"}
    assert [path for path in (tmp_path / "out").rglob("*") if not path.is_dir()] in ([link], [])
    assert link.is_symlink()


def test_unpack_into_a_folder_that_is_itself_a_link_is_taken(tmp_path):
    (tmp_path / "a.tar").write_bytes(archive_of("a.tar"))
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    unpack(tmp_path / "a.tar", tmp_path / "out", progress=False)
    assert tree_of(tmp_path / "disk") == FILES


@pytest.mark.parametrize("name", ["a.txt", "a.zip"])
def test_fetch_archives_through_a_link_is_refused(tmp_path, serve, name):
    site, root = tmp_path / "site", tmp_path / "root"
    site.mkdir()
    root.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (site / name).write_bytes(b"a\n" if name == "a.txt" else archive_of("stored.zip"))
    (root / "images").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WrongTargetError, match="images is a symbolic link"):
        fetch_archives((Archive(f"{serve(site)}/{name}", into="images"),), root, "train", progress=False)
    assert tree_of(tmp_path / "elsewhere") == {}


@pytest.mark.parametrize("place", ["top/b.txt/x", "top"])
def test_unpack_where_a_folder_and_a_file_meet_moves_nothing(tmp_path, place):
    (tmp_path / "a.tar").write_bytes(archive_of("a.tar"))
    (tmp_path / "out" / place).parent.mkdir(parents=True)
    (tmp_path / "out" / place).write_bytes(b"mine")
    with pytest.raises(WrongTargetError, match="nothing was unpacked: .*, where the archive has a (file|folder)"):
        unpack(tmp_path / "a.tar", tmp_path / "out", progress=False)
    assert tree_of(tmp_path / "out") == {place: b"mine"}


# -------------------------------------------------------------------------------------------------------------- damage


def encrypted_zip(flag):
    data = bytearray(zip_of([("a.txt", b"x" * 100)]))
    for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(mark) + place] |= flag
    return bytes(data)


@pytest.mark.parametrize("flag", [0x01, 0x41])
def test_unpack_encrypted_zip_is_refused(tmp_path, flag):
    refused(tmp_path, "a.zip", encrypted_zip(flag), "'a.txt', which is encrypted")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("byte", [0, 0x55, 0xFF])
def test_unpack_changed_bytes_in_a_zip_member_are_refused(tmp_path, compression, byte):
    data = bytearray(zip_of([("a.bin", random.Random(0).randbytes(3000))], compression))
    data[100:110] = bytes([byte]) * 10
    refused(tmp_path, "a.zip", bytes(data), "a.zip cannot be unpacked: .*; delete it and download it again")


@pytest.mark.parametrize("kind", ["a.tar.gz", "a.tar.xz", "a.tar.bz2", "a.tar"])
@pytest.mark.parametrize("left", [0.3, 0.7, 0.99, -1])
def test_unpack_cut_off_tar_is_refused(tmp_path, kind, left):
    data = tar_of([("a.bin", random.Random(0).randbytes(30_000)), ("b.bin", b"")])
    data = data[:31_744] if kind == "a.tar" else PACKED[kind](data)  # without the zeros at its end
    data = data[: int(left * len(data)) if left > 0 else left]
    refused(tmp_path, kind, data, "cannot be unpacked: ")


def test_unpack_tar_that_ends_after_a_member_is_refused(tmp_path):
    data = tar_of([("a.bin", b"x" * 512), ("b.bin", b"")])
    refused(tmp_path, "a.tar", data[:1024], "the end is missing, after 1 member")
    refused(tmp_path, "a.tar.gz", gzip.compress(data[:1024]), "the end is missing, after 1 member")
    damaged = data[:1024] + b"?" * 512 + data[1536:]
    refused(tmp_path, "a.tar.xz", lzma.compress(damaged), "a header is damaged")


def test_unpack_changed_byte_in_a_stored_member_of_a_tar_gz_is_refused(tmp_path):
    data = bytearray(gzip.compress(tar_of([("a.bin", random.Random(0).randbytes(3000))]), compresslevel=0))
    data[2000] ^= 1
    refused(tmp_path, "a.tar.gz", bytes(data), "cannot be unpacked: CRC check failed")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz", "a.tar.bz2"])
@pytest.mark.parametrize("data", [b"", b"PK", b"\x1f\x8b", b"\xfd7zXZ\0", b"BZh9", b"no archive at all" * 100])
def test_unpack_what_is_no_archive_is_refused(tmp_path, name, data):
    refused(tmp_path, name, data, "cannot be unpacked: ")


def test_unpack_list_in_another_encoding_is_refused(tmp_path):
    refused(tmp_path, "names.txt", "Straße".encode("latin-1"), "is not UTF-8: .*or delete it and download it again")


def test_fetch_archives_with_a_damaged_note_of_what_is_there_says_what_to_do(tmp_path):
    for text in ("[1]", "3", "[" * 5000, "\ufffe"):
        (tmp_path / ".seg-unpacked.json").write_text(text)
        with pytest.raises(CorruptFileError, match=r"\.seg-unpacked\.json .*; delete it to unpack the archives again"):
            fetch_archives((Archive("http://127.0.0.1:1/a.zip"),), tmp_path, "train", progress=False)


# ------------------------------------------------------------------------------------------------------ size and memory


BOMBS = {
    "a.zip": lambda: zip_of([("a.bin", bytes(8 << 20))]),
    "a.tar.gz": lambda: gzip.compress(tar_of([("a.bin", bytes(8 << 20))])),
    "a.tar.xz": lambda: lzma.compress(tar_of([("a.bin", bytes(8 << 20))]), preset=0),
    "a.tar.bz2": lambda: bz2.compress(tar_of([("a.bin", bytes(8 << 20))])),
    "end.tar.bz2": lambda: bz2.compress(tar_of([("a.bin", b"")]) + bytes(8 << 20)),  # behind the last member
}


@pytest.mark.parametrize("name", BOMBS)
def test_unpack_archive_that_expands_without_measure_is_refused(tmp_path, name):
    refused(tmp_path, name, BOMBS[name](), "its content has more than [0-9]+ bytes, over 200 times its size")


def test_unpack_headers_that_ask_for_memory_or_time_are_refused_without(tmp_path):
    long_name = tarfile.TarInfo("x" * (4 << 20))
    huge = tar_of([(long_name, b"")], tarfile.GNU_FORMAT)
    digits = tarfile.TarInfo("a")
    digits.pax_headers = {"comment": "1" * 60_000}
    chain = tarfile.TarInfo("././@LongLink")
    chain.type = tarfile.GNUTYPE_LONGNAME
    tracemalloc.start()
    try:
        refused(tmp_path, "a.tar.bz2", bz2.compress(huge), "cannot be unpacked: a header has 4[0-9]+ bytes, at most")
        refused(tmp_path, "digits.tar.gz", gzip.compress(tar_of([(digits, b"")])), "more than 40 digits")
        refused(tmp_path, "chain.tar", tar_of([(chain, b"")] * 3000), "headers within headers")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 60 << 20


def test_unpack_archive_with_too_many_members_for_its_size_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("seg_datasets.reading.archive_members._most_members", lambda size: 100 + size // 20)
    members = [(f"{number}.txt", b"") for number in range(400)]
    refused(tmp_path, "a.tar.xz", lzma.compress(tar_of(members)), "more than [0-9]+ members, too many for its size")
    monkeypatch.setattr("seg_datasets.reading.archive_members._most_members", lambda size: 399)
    refused(tmp_path, "a.zip", zip_of(members), "it has 400 members, too many for its size")


def test_unpack_zip_with_a_huge_directory_is_refused_before_it_is_read(tmp_path):
    data = bytearray(zip_of([("a.txt", b"x")]))
    place = data.index(b"PK\5\6")
    data[place + 12 : place + 16] = (200 << 20).to_bytes(4, "little")
    refused(tmp_path, "a.zip", bytes(data), "its directory has 209715200 bytes")


# ----------------------------------------------------------------------------------------------------------- mutations


def test_unpack_mutated_archives_end_in_one_sentence_or_a_right_tree(tmp_path):
    rng = random.Random(7)
    seen = set()
    for number in range(240):
        name, data, is_checked = mutated_archive(number, rng)
        (tmp_path / name).write_bytes(data)
        seen.add(outcome(tmp_path / name, tmp_path / f"out{number}", FILES if is_checked else None))
    assert seen == {"CorruptFileError", "tree"}
