"""Limits on the values of a description: a file is read only if they could be those of a network."""

import math
from collections.abc import Mapping
from typing import Any

from seg_core.checks import is_integer
from seg_core.errors import InvalidArgumentError
from seg_core.text import check_encodable, short

__all__ = ["check_name", "check_plain"]

_DEEPEST = 20  # lists and tables in each other
_MOST_VALUES = 1_000_000
_LONGEST_NAME = 500  # characters
_LONGEST_TEXT = 1_000_000
_LARGEST = 2**63


def check_name(what: str, value: object) -> None:
    """Checks a name: of a model, a variant, an argument.

    Raises:
        InvalidArgumentError: if it is no string, empty, too long, or cannot be encoded as UTF-8.
    """
    if type(value) is not str or not value.strip():
        raise InvalidArgumentError(f"{what} must be a name that is not empty, got {short(value)}")
    check_encodable(what, value, _LONGEST_NAME)


def check_plain(what: str, values: Mapping[Any, Any], *, finite: bool = False) -> None:
    """Checks a table of plain values: numbers, strings, None, lists, tuples and tables with names as keys.

    Args:
        what: what it is, for messages, such as `"arguments"`.
        values: the table.
        finite: whether floats must be finite.

    Raises:
        InvalidArgumentError: if it holds anything else, too many values, integers of over 64 bits, or strings that are
            too long or cannot be encoded as UTF-8; if it is nested too deep, or holds itself.
    """
    _Checker(finite).table(what, values, 0)


class _Checker:
    def __init__(self, finite: bool) -> None:
        self._finite = finite
        self._count = 0

    def table(self, place: str, values: Mapping[Any, Any], depth: int) -> None:
        for key, value in values.items():
            if depth == 0 and type(key) is not str:
                raise InvalidArgumentError(f"{place} has the key {short(key)}: must be a name")
            if type(key) is str:
                check_encodable(f"a key of {place}", key, _LONGEST_NAME)
            else:
                self._value(f"a key of {place}", key, depth + 1)
            self._value(f"{place}[{short(key)}]", value, depth + 1)

    def _value(self, place: str, value: Any, depth: int) -> None:
        self._count += 1
        if self._count > _MOST_VALUES:
            raise InvalidArgumentError(f"{place[:_LONGEST_NAME]} is one of over {_MOST_VALUES:,} values: must be fewer")
        if depth > _DEEPEST:
            raise InvalidArgumentError(
                f"{place[:_LONGEST_NAME]} is nested over {_DEEPEST} deep, or holds itself: must be flatter"
            )
        if isinstance(value, dict):
            self.table(place, value, depth)
        elif isinstance(value, list | tuple):
            for number, inner in enumerate(value):
                self._value(f"{place}[{number}]", inner, depth + 1)
        elif type(value) is str:
            check_encodable(place, value, _LONGEST_TEXT)
        elif is_integer(value):
            if not -_LARGEST <= value < _LARGEST:
                raise InvalidArgumentError(f"{place} is an integer of over 64 bits: must be smaller")
        elif type(value) is float:
            if self._finite and not math.isfinite(value):
                raise InvalidArgumentError(f"{place} = {value}: must be a finite number")
        elif value is not None and type(value) is not bool:
            raise InvalidArgumentError(f"{place} = {short(value)}: must be numbers, strings, lists and tables")
