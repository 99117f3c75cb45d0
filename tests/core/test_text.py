"""Text of people's files: marks, line ends, other encodings."""

import io

import pytest

from seg_core.errors import CorruptFileError, InvalidArgumentError
from seg_core.text import VisibleStream, check_encodable, decode_text, read_text, short, visible, visible_lines

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


# ---- what is shown ---------------------------------------------------------------------------------------------------

HOSTILE = "a\x1b[2J\r\x9b31m\u202eb\u2028\x07\x00\udcff\ud800"
SHOWN = r"a\x1b[2J\x0d\x9b31m\u202eb\u2028\x07\x00\xff\ud800"


def test_visible_makes_control_characters_readable_and_keeps_letters():
    assert visible(HOSTILE + "\n\t") == SHOWN + r"\x0a\x09"
    assert visible("Straße 木 ‍é 😀") == "Straße 木 ‍é 😀"
    assert visible_lines(HOSTILE + "\nb") == SHOWN + "\nb"


def test_visible_stream_shows_what_is_printed_and_lets_progress_bars_rewrite_their_line():
    inside = io.StringIO()
    stream = VisibleStream(inside)
    print(HOSTILE, "b\tc", file=stream, flush=True)
    stream.writelines(["\r 50 %", "\x1b[A\x1b[A", "\x1b[A x\n"])
    assert inside.getvalue() == f"{SHOWN} b\tc\n\r 50 %\x1b[A\x1b[A\\x1b[A x\n"
    assert stream.rich_proxied_file is inside
    assert not stream.isatty()


def test_short_shows_a_value_however_deep_it_is():
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert short(deep) == "a list that is nested very deep"
    assert short("x" * 100) == "'" + "x" * 76 + "..."
    assert short({"a": 1}) == "{'a': 1}"


@pytest.mark.parametrize(
    ("text", "words"),
    [("a\ud800", r"label = 'a\\ud800' holds half a character, '\\ud800'"), ("abcdef", "label has 6 characters")],
)
def test_check_encodable_names_what_no_file_can_hold(text, words):
    with pytest.raises(InvalidArgumentError, match=words):
        check_encodable("label", text, 5)
    check_encodable("label", "a\x1b木", 5)
