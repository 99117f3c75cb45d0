"""Text from outside: the text files that people write, and how names and labels of others are shown.

Text files are UTF-8 with or without a byte-order mark, UTF-16 and UTF-32 with one, with any line ends. Whatever is
shown in a terminal, on a page or in a table goes through `visible`, so that no label or file name can move the cursor,
change what was printed before, or turn the direction of the text. What is stored stays as it is.
"""

import codecs
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from seg_core.errors import CorruptFileError, InvalidArgumentError, visible, visible_lines

__all__ = [
    "MAX_TEXT",
    "VisibleStream",
    "check_encodable",
    "decode_text",
    "read_text",
    "short",
    "visible",
    "visible_lines",
]

_CURSOR_UP = re.compile("(\x1b\\[A)+")
_SHOWN = 80  # characters of a value in messages
# the mark of UTF-32 LE begins with that of UTF-16 LE, so it comes first; these codecs remove the mark
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
MAX_TEXT = 1 << 28
"""Bytes of a text file that is read, 256 MiB: about ten million lines of a list of images."""

_SAVE = "save it as UTF-8 (in Windows Notepad: Save as, Encoding: UTF-8)"


class VisibleStream:
    """A text stream for people: what is written to it goes through `visible_lines`, except tabs.

    A carriage return at the start of what is written stays, with which progress bars rewrite their line. What formats
    text for terminals itself, such as rich, writes to the stream inside.

    Args:
        stream: the stream inside; other attributes are its own.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def rich_proxied_file(self) -> TextIO:
        """The stream inside, to which rich writes."""
        return self._stream

    def write(self, text: str) -> int:
        """Writes a text; returns its length."""
        start = text[:1] if text[:1] == "\r" else ""
        if _CURSOR_UP.fullmatch(text):  # of nested progress bars
            start = text
        parts = text[len(start) :].split("\t")
        self._stream.write(start + "\t".join(map(visible_lines, parts)))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def short(value: object, most: int = _SHOWN) -> str:
    """Returns a value as Python writes it, shortened to a number of characters, for messages."""
    try:
        text = repr(value)
    except RecursionError:
        text = f"a {type(value).__name__} that is nested very deep"
    return text if len(text) <= most else text[: most - 3] + "..."


def check_encodable(what: str, text: str, most: int) -> None:
    """Checks that a text can be written to files and is not too long.

    Args:
        what: what it is, for messages.
        text: the text.
        most: how many characters it may have.

    Raises:
        InvalidArgumentError: if it is longer, or holds half a character, a lone surrogate, which UTF-8 cannot encode.
    """
    if len(text) > most:
        raise InvalidArgumentError(f"{what} has {len(text)} characters, got {short(text)}; it may have {most}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(
            f"{what} = {short(text)} holds half a character, {text[error.start]!a}, which no file can hold; correct it"
        ) from error


def read_text(path: str | os.PathLike[str], what: str = "") -> str:
    r"""Returns the text of a file, without a byte-order mark, with `\n` as the end of each line.

    Windows programs begin UTF-8 with a mark, or write UTF-16, which always has one. Without a mark the text is UTF-8.

    Args:
        path: the file.
        what: what the file is, for messages, such as `"metadata file"`.

    Raises:
        CorruptFileError: if the text has another encoding, or more than `MAX_TEXT` bytes.
        OSError: if the file cannot be read, as `open` raises it.
    """
    name = f"{what} {path}".strip()
    with _opened(Path(path), name) as file:
        data = file.read(MAX_TEXT + 1)  # not all of a device without an end
    if len(data) > MAX_TEXT:
        raise CorruptFileError(f"{name} has more than {MAX_TEXT >> 20} MiB, more than a list may have; check the path")
    return decode_text(data, name)


def _opened(path: Path, name: str) -> BinaryIO:
    try:
        return path.open("rb")
    except ValueError as error:  # a NUL character
        raise CorruptFileError(f"{name} cannot be read: {error}; correct the path") from error


def decode_text(data: bytes, name: str) -> str:
    """Returns the contents of a file as text, as `read_text` does; `name` is the file in messages.

    Raises:
        CorruptFileError: if the text has another encoding.
    """
    codec, called = next(((codec, called) for mark, codec, called in _MARKS if data.startswith(mark)), ("utf-8", ""))
    try:
        text = data.decode(codec)
    except UnicodeDecodeError as error:
        raise CorruptFileError(_message(data, error, called, name)) from error
    if not called and "\0" in text:
        # every second byte of Latin text in UTF-16 is 0, which UTF-8 allows, but no text file has
        raise CorruptFileError(
            f"{name} contains zero bytes: it is UTF-16 without a byte-order mark, or not a text file; {_SAVE}"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _message(data: bytes, error: UnicodeDecodeError, called: str, name: str) -> str:
    line = data.count(b"\n", 0, error.start) + 1
    if called:
        return f"{name} has the byte-order mark of {called}, but is not valid {called} ({error.reason}); {_SAVE}"
    start = data.rfind(b"\n", 0, error.start) + 1
    end = data.find(b"\n", error.start)
    part = data[max(start, error.start - 20) : len(data) if end < 0 else min(end, error.start + 20)].strip()
    guess = part.decode("cp1252", errors="replace")
    return (
        f"{name} is not UTF-8: byte 0x{data[error.start]:02x} in line {line}. In another encoding, such as Latin-1 or "
        f"Windows-1252, it reads {guess!r}; {_SAVE}"
    )
