"""Lists of names in text files, and names in messages."""

import unicodedata
from pathlib import Path

from seg_core.errors import CorruptFileError, DatasetNotFoundError
from seg_core.text import read_text

__all__ = ["read_lines", "same_name", "shown"]

_LONGEST_LINE = 10_000  # characters; two paths have less
_SHOWN = 200


def read_lines(path: Path) -> list[str]:
    """Returns the lines of a text file that are not empty, without space around them and without line ends.

    Raises:
        DatasetNotFoundError: if there is no such file.
        CorruptFileError: if it cannot be read, is in another encoding than UTF-8 without a mark that says which, or has
            a line of more than 10,000 characters.
    """
    try:
        text = read_text(path)
    except FileNotFoundError as error:
        raise DatasetNotFoundError(f"{path} does not exist; check the path") from error
    except OSError as error:
        raise CorruptFileError(f"{path} cannot be read: {error.strerror or error}") from error
    # not str.splitlines, which also splits at characters that names may hold; files that were joined hold more marks
    lines = [line.strip().lstrip("\ufeff").strip() for line in text.split("\n")]
    longest = max(map(len, lines))
    if longest > _LONGEST_LINE:
        place = next(number for number, line in enumerate(lines, 1) if len(line) == longest)
        raise CorruptFileError(
            f"{path} is no list of names: line {place} has {longest} characters; write one name per line"
        )
    return [line for line in lines if line]


def same_name(name: str) -> str:
    """Returns a name in composed Unicode (NFC): macOS stores an accent and its letter as two characters."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def shown(name: str) -> str:
    """Returns a name for a message: as it is, or quoted with escapes if it holds characters that are not visible.

    Of a long name the beginning is shown.
    """
    if len(name) > _SHOWN:
        return f"{shown(name[:_SHOWN].strip())}... ({len(name)} characters)"
    return name if name.isprintable() and name == name.strip() and "\xa0" not in name else ascii(name)
