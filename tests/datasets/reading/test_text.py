"""Text files of other programs: byte-order marks, line ends, encodings."""

import codecs

import pytest

from seg_core import CorruptFileError, DatasetNotFoundError
from seg_datasets.reading.text import read_lines, same_name, shown


@pytest.mark.parametrize(
    "content",
    [
        "a\nß b\n".encode(),
        codecs.BOM_UTF8 + "a\r\nß b\r\n".encode(),
        codecs.BOM_UTF16_LE + "a\r\nß b\r\n".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "a\nß b".encode("utf-16-be"),
        codecs.BOM_UTF32_LE + "a\nß b".encode("utf-32-le"),
        "a\r\r ß b \t\r".encode(),
        "a\n\ufeffß b\n".encode(),
    ],
)
def test_read_lines_any_mark_and_line_end_gives_the_names(tmp_path, content):
    (tmp_path / "list.txt").write_bytes(content)
    assert read_lines(tmp_path / "list.txt") == ["a", "ß b"]


@pytest.mark.parametrize(
    ("content", "match"), [(b"caf\xe9\n", r"list.txt is not UTF-8.*save it as UTF-8"), (b"a\0\n\0", "UTF-16 without")]
)
def test_read_lines_other_encoding_error_says_what_to_save(tmp_path, content, match):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(CorruptFileError, match=match):
        read_lines(tmp_path / "list.txt")


def test_read_lines_no_such_file_error_names_it(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"no.txt does not exist"):
        read_lines(tmp_path / "no.txt")


def test_same_name_composed_and_decomposed_are_equal():
    assert same_name("o\u0308l") == same_name("\xf6l") == "\xf6l"


@pytest.mark.parametrize(
    ("name", "expected"), [("straße_1", "straße_1"), ("a\ufeff", r"'a\ufeff'"), ("a ", "'a '"), ("a\xa0b", r"'a\xa0b'")]
)
def test_shown_invisible_characters_are_escaped(name, expected):
    assert shown(name) == expected


def test_shown_long_names_are_cut():
    assert shown("a" * 1_000_000) == "a" * 200 + "... (1000000 characters)"


def test_read_lines_long_line_error_names_it(tmp_path):
    (tmp_path / "list.txt").write_text("a\n" + "b" * 10_001 + "\nc\n")
    with pytest.raises(CorruptFileError, match="list.txt is no list of names: line 2 has 10001 characters"):
        read_lines(tmp_path / "list.txt")
