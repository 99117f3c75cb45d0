"""Values that no key of a config may have, whatever its type: text that no file can store, numbers without end."""

import json
import math
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from seg_core.parsing import MAX_DEPTH

__all__ = ["shown_value", "unstorable", "value_problems"]

_MAX_INTEGER = 2**63 - 1  # TOML's, and that of a tensor
_SHOWN = 200  # characters of a value in messages
_LONGEST_KEY = 200
_LONGEST_TEXT = 4096  # the longest path of Linux
_MOST_KEYS = 10_000  # each that is unknown is compared with all known ones
_BIDIRECTIONAL = "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def unstorable(text: str) -> str:
    """Returns why a text can be neither a path nor stored in a config.toml, as the end of a sentence; "" if it can."""
    if "\0" in text:
        return "contains a NUL character"
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        return "is not valid Unicode (bytes that are not UTF-8, or half of a surrogate pair)"
    return ""


def value_problems(tables: Mapping[str, Any]) -> list[str]:
    """Returns what is wrong with single values, before any key is looked up, each problem with its full key.

    Wrong are strings with NUL or lone surrogates or of more than 4096 characters, keys with any control character or of
    more than 200, integers that do not fit 64 bits, NaN among options other than `nodata`, more than 10,000 keys, and
    tables or lists that are nested deeper than `MAX_DEPTH`.
    """
    if (count := _count_keys(tables, 0)) > _MOST_KEYS:
        return [f"it has {count:,} keys; no config needs more than {_MOST_KEYS:,}"]
    return list(_problems(tables, "", 0))


def _count_keys(value: Any, depth: int) -> int:
    if depth > MAX_DEPTH:
        return 0
    if isinstance(value, Mapping):
        return len(value) + sum(_count_keys(inner, depth + 1) for inner in value.values())
    return sum(_count_keys(inner, depth + 1) for inner in value) if isinstance(value, list | tuple) else 0


def _wrong_key(name: str) -> str:
    """Returns what is wrong with a key, as the end of a sentence; "" for others."""
    if wrong := unstorable(name):
        return wrong
    if len(name) > _LONGEST_KEY:
        return f"has {len(name):,} characters; at most {_LONGEST_KEY} are allowed"
    if any(unicodedata.category(c) in ("Cc", "Zl", "Zp") or c in _BIDIRECTIONAL for c in name):
        return "contains a control character"
    return ""


def shown_value(value: object) -> str:
    """Returns a value as a config writes it; a long one is cut."""
    text = json.dumps(value, default=str)  # TOML writes strings, numbers and booleans as JSON does
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text):,} characters)"


def _problems(value: Any, key: str, depth: int) -> Iterator[str]:
    if isinstance(value, Mapping | list | tuple):
        if depth >= MAX_DEPTH:
            yield f"{key[:_SHOWN]}...: tables and lists are nested more than {MAX_DEPTH} deep"
        elif isinstance(value, Mapping):
            for name, inner in value.items():
                place = f"{key}." if key else ""
                if isinstance(name, str) and (wrong := _wrong_key(name)):
                    yield f"{place}{ascii(name[:_SHOWN])[1:-1]}: the key {wrong}; correct or remove it"
                else:
                    yield from _problems(inner, f"{place}{name}", depth + 1)
        else:
            for index, inner in enumerate(value):
                yield from _problems(inner, f"{key}[{index}]", depth + 1)
    elif isinstance(value, str):
        if wrong := unstorable(value):
            yield f"{key} = {shown_value(value)}: {wrong}; correct the text"
        elif len(value) > _LONGEST_TEXT:
            yield f"{key} = {shown_value(value)}: at most {_LONGEST_TEXT:,} characters are allowed"
    elif isinstance(value, float):
        # other keys have types of their own; nodata may be NaN
        is_option = ".params." in key or key.startswith("log.")
        if math.isnan(value) and is_option and not key.endswith(".nodata"):
            yield f"{key} = nan: must be a number"
    elif isinstance(value, int) and not -_MAX_INTEGER - 1 <= value <= _MAX_INTEGER:
        digits = len(str(abs(value))) if abs(value) < 10**400 else "more than 400"
        yield f"{key}: an integer of {digits} digits; must fit 64 bits, so at most {_MAX_INTEGER}"
