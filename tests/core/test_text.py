"""Text of people's files: marks, line ends, other encodings."""

import pytest

from seg_core.errors import CorruptFileError
from seg_core.text import decode_text, read_text

TEXT = 'labels = ["Straße", "木"]\nname = "a"\n'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_read_text_with_and_without_mark_and_any_line_end_gives_the_same(tmp_path, encoding, end):
    path = tmp_path / "a.toml"
    path.write_bytes(TEXT.replace("\n", end).encode(encoding))
    assert read_text(path) == TEXT


@pytest.mark.parametrize("codec", ["utf-16-be", "utf-32-be"])
def test_read_text_big_endian_with_mark_is_read(codec):
    assert decode_text(f"\ufeff{TEXT}".encode(codec), "a.toml") == TEXT


def test_read_text_latin_1_error_names_file_byte_line_and_what_it_may_read(tmp_path):
    path = tmp_path / "a.toml"
    path.write_bytes('x = 1\nlabels = ["Straße"]\n'.encode("latin-1"))
    words = r"metadata file .*a.toml is not UTF-8: byte 0xdf in line 2. .*Latin-1.* it reads .*Straße.*save it as UTF-8"
    with pytest.raises(CorruptFileError, match=words):
        read_text(path, "metadata file")


def test_decode_text_without_mark_and_with_broken_mark_error_names_the_encoding():
    with pytest.raises(CorruptFileError, match="a.toml contains zero bytes: it is UTF-16 without a byte-order mark"):
        decode_text("x = 1".encode("utf-16-le"), "a.toml")
    with pytest.raises(CorruptFileError, match="a.toml has the byte-order mark of UTF-16, but is not valid UTF-16"):
        decode_text("x".encode("utf-16") + b"y", "a.toml")


def test_read_text_absent_file_raises_what_open_raises(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "none.toml")


def test_read_text_without_an_end_is_refused(monkeypatch):
    monkeypatch.setattr("seg_core.text.MAX_TEXT", 1 << 20)
    with pytest.raises(CorruptFileError, match="list /dev/zero has more than 1 MiB"):
        read_text("/dev/zero", "list")


def test_read_text_of_a_path_that_no_file_can_have_is_refused():
    with pytest.raises(CorruptFileError, match="cannot be read: embedded null byte; correct the path"):
        read_text("a\0.toml", "list")
