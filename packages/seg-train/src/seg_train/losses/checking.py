"""Checks of arguments that several losses share."""

import math
import numbers

from seg_core.errors import InvalidArgumentError

__all__ = ["check_fraction", "check_non_negative", "check_reduction"]

_REDUCTIONS = ("mean", "sum", "none")


def check_reduction(reduction: str) -> None:
    """Raises InvalidArgumentError if there is no such reduction."""
    if reduction not in _REDUCTIONS:
        raise InvalidArgumentError(f"reduction must be one of {', '.join(_REDUCTIONS)}, got {reduction!r}")


def check_non_negative(name: str, value: float) -> None:
    """Raises InvalidArgumentError if the argument `name` is not a finite number >= 0."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not 0 <= value < math.inf:
        raise InvalidArgumentError(f"{name} must be a finite number of at least 0, got {value!r}")


def check_fraction(name: str, value: float) -> None:
    """Raises InvalidArgumentError if the argument `name` is not in the range 0 to 1."""
    if not 0 <= value <= 1:
        raise InvalidArgumentError(f"{name} must be between 0 and 1, got {value!r}")
