"""Validation of single numeric arguments."""

import math
from typing import TypeGuard

from seg_core.errors import InvalidArgumentError

__all__ = ["MAX_CLASSES", "check_integer", "is_integer", "is_number"]

MAX_CLASSES = 65535
"""Number of classes that a label map can hold beside the ignored value: its ids have 16 bits."""


def is_integer(value: object, minimum: int | None = None) -> TypeGuard[int]:
    """Returns whether a value is an int, not a bool, and at least `minimum`.

    >>> is_integer(3, 1), is_integer(0, 1), is_integer(True), is_integer(3.0)
    (True, False, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool) and (minimum is None or value >= minimum)


def is_number(value: object) -> TypeGuard[int | float]:
    """Returns whether a value is a finite int or float, not a bool.

    >>> is_number(0.5), is_number(2), is_number(float("nan")), is_number(True), is_number("2")
    (True, True, False, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf


def check_integer(argument: str, value: object, minimum: int = 1, maximum: int | None = None) -> int:
    """Returns `value` if it is an integer of at least `minimum`, and at most `maximum`.

    Args:
        argument: name of the argument, for the message.
        value: the value to check.
        minimum: smallest value that is allowed.
        maximum: largest value that is allowed; None for any.

    Raises:
        InvalidArgumentError: if it is not such an integer; a bool is rejected.
    """
    if not is_integer(value, minimum) or (maximum is not None and value > maximum):
        allowed = f">= {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        raise InvalidArgumentError(f"{argument} must be an integer {allowed}, got {value!r}")
    return value
