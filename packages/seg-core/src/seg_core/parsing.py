"""JSON and TOML that others wrote, read strictly: whatever a file holds, the error is one sentence."""

import json
import math
import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seg_core.errors import CorruptFileError
from seg_core.text import read_text

__all__ = ["MAX_DEPTH", "MAX_JSON", "MAX_TOML", "check_depth", "parse_json", "parse_toml", "read_json", "read_toml"]

MAX_DEPTH = 64
"""Lists and tables may be nested this deep in a file: far deeper than any file of the toolkit, and safe to recurse."""

MAX_JSON = 1 << 26
"""Characters of a JSON file that is read, 64 MiB: its objects take up to thirty times the memory of the text."""

_MAX_DIGITS = 400  # of an integer; the largest float has 309
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

MAX_TOML = 1 << 22
"""Characters of a TOML file that is read, 4 MiB: the parser of Python takes seconds for more."""

# the parser's time grows with the square of the number of parts of a key
_LONG_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){100}""")


def parse_json(text: str) -> Any:
    """Returns the value of a JSON text: nested dicts, lists, strings, numbers, booleans and None.

    >>> parse_json('{"labels": ["road", "sky"]}')
    {'labels': ['road', 'sky']}

    Raises:
        ValueError: if it is not valid JSON, or what readers do not agree on: the same key twice in a table, NaN and
            infinity, numbers too large for a float, half a character pair; or if it is nested deeper than `MAX_DEPTH`,
            or longer than `MAX_JSON`. The message is a clause without the name of the file.
    """
    if len(text) > MAX_JSON:
        raise ValueError(f"it has {len(text)} characters, at most {MAX_JSON} are read")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_table,
            parse_constant=_no_constant,
            parse_int=_integer,
            parse_float=_float,
        )
    except RecursionError:
        raise ValueError(_too_deep()) from None
    check_depth(value)
    if _SURROGATE.search(text):
        _check_characters(value)
    return value


def read_json(path: str | os.PathLike[str], what: str = "") -> Any:
    """Returns the value in a JSON file, as `parse_json` does, in any encoding that `seg_core.text.read_text` reads.

    Args:
        path: the file.
        what: what the file is, for messages, such as `"metadata file"`.

    Raises:
        CorruptFileError: if it is not such JSON.
        OSError: if the file cannot be read, as `open` raises it.
    """
    return _read(path, what, parse_json, "JSON", "correct the file, or write it again")


def check_depth(value: Any) -> None:
    """Checks that dicts and lists are not nested deeper than `MAX_DEPTH`.

    Raises:
        ValueError: if they are.
    """
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise ValueError(_too_deep())


def _too_deep() -> str:
    return f"its lists and tables are nested more than {MAX_DEPTH} deep"


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        double = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {_short(double)} stands twice in one table")
    return table


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"an integer has {len(digits)} digits, at most {_MAX_DIGITS} are read")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {_short(digits)} is too large")
    return value


def _check_characters(value: Any) -> None:
    """Raises ValueError if a string holds half of a pair of surrogates, which no file and no terminal can take."""
    rest = [value]
    while rest:
        item = rest.pop()
        if isinstance(item, str):
            if any("\ud800" <= letter <= "\udfff" for letter in item):
                raise ValueError(f"the string {_short(item)} holds half of a character pair")
        elif isinstance(item, dict):
            rest += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            rest += item


def _short(text: str) -> str:
    return ascii(text if len(text) <= 40 else text[:40] + "...")


def parse_toml(text: str) -> dict[str, Any]:
    """Returns the tables of a TOML text.

    >>> parse_toml('labels = ["road", "sky"]')
    {'labels': ['road', 'sky']}

    Raises:
        tomllib.TOMLDecodeError: a ValueError; if it is not valid TOML, is nested deeper than
            `MAX_DEPTH`, has a number of thousands of digits, or is longer than `MAX_TOML`. The
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
    return _read(path, what, parse_toml, "TOML", "correct the file")


def _read(path: str | os.PathLike[str], what: str, parse: Callable[[str], Any], language: str, advice: str) -> Any:
    text = read_text(path, what)
    try:
        return parse(text)
    except ValueError as error:
        name = f"{what} {Path(path)}".strip()
        raise CorruptFileError(f"{name} is not valid {language}: {error}; {advice}") from error
