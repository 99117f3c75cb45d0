"""TOML that others wrote."""

import os
import re
import tomllib
from pathlib import Path
from typing import Any

from seg_core.errors import CorruptFileError
from seg_core.files.json_text import check_depth
from seg_core.text import read_text

__all__ = ["MAX_TOML", "parse_toml", "read_toml"]

MAX_TOML = 1 << 22
"""Characters of a TOML file that is read, 4 MiB: the parser of Python takes seconds for more."""

# the parser's time grows with the square of the number of parts of a key
_LONG_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){100}""")


def parse_toml(text: str) -> dict[str, Any]:
    """Returns the tables of a TOML text.

    >>> parse_toml('labels = ["road", "sky"]')
    {'labels': ['road', 'sky']}

    Raises:
        tomllib.TOMLDecodeError: a ValueError; if it is not valid TOML, is nested deeper than
            `seg_core.files.json_text.MAX_DEPTH`, has a number of thousands of digits, or is longer than `MAX_TOML`. The
            message is a clause without the name of the file.
    """
    if len(text) > MAX_TOML:
        raise tomllib.TOMLDecodeError(f"it has {len(text)} characters, at most {MAX_TOML} are read")
    if text.count(".") >= 100 and (found := _LONG_KEY.search(text)):
        line = text.count("\n", 0, found.start()) + 1
        raise tomllib.TOMLDecodeError(f"more than 100 words are joined by dots in line {line}")
    try:
        tables = tomllib.loads(text)
        check_depth(tables)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise tomllib.TOMLDecodeError("its arrays and tables are nested too deep") from None
    except ValueError as error:  # of int() for thousands of digits, of dates, or of the depth
        reason = "a number has too many digits" if "integer string conversion" in str(error) else str(error)
        raise tomllib.TOMLDecodeError(reason) from None
    return tables


def read_toml(path: str | os.PathLike[str], what: str = "") -> dict[str, Any]:
    """Returns the tables of a TOML file, as `parse_toml` does, in any encoding that `seg_core.text.read_text` reads.

    Args:
        path: the file.
        what: what the file is, for messages, such as `"metadata file"`.

    Raises:
        CorruptFileError: if it is not such TOML.
        OSError: if the file cannot be read, as `open` raises it.
    """
    text = read_text(path, what)
    try:
        return parse_toml(text)
    except ValueError as error:
        name = f"{what} {Path(path)}".strip()
        raise CorruptFileError(f"{name} is not valid TOML: {error}; correct the file") from error
