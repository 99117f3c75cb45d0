"""Colors of classes: the default palette, and the check of colors given by a user."""

import itertools
from collections.abc import Sequence
from functools import cache

from seg_core.checks import is_integer
from seg_core.errors import InvalidArgumentError

__all__ = ["Color", "check_color", "default_palette"]

Color = tuple[int, int, int]
"""Red, green and blue, each 0 to 255."""

_LEVELS = (30, 75, 120, 165, 210, 245)  # of each channel in the default palette


def default_palette(num_classes: int) -> tuple[Color, ...]:
    """Returns one distinct color per class, the most distinct ones first; palettes of all lengths start the same.

    Each color is the one of a coarse grid with the largest distance to those before it and to black, gray and white, by
    the "redmean" distance (T. Riemersma, https://www.compuphase.com/cmetric.htm), a cheap approximation of perception.
    """
    colors = list(_spread_colors(num_classes))
    taken = set(colors)
    # nobody can distinguish hundreds of colors; beyond the grid they only need to differ, as multiples of an odd number
    # do
    codes = (step * 0x9E3779B1 & 0xFFFFFF for step in itertools.count(1))
    spare = ((code >> 16, code >> 8 & 255, code & 255) for code in codes)
    while len(colors) < num_classes:
        color = next(spare)
        if color not in taken:
            colors.append(color)
    return tuple(colors)


def check_color(what: str, color: Sequence[int]) -> Color:
    """Returns a color as a tuple.

    Raises:
        InvalidArgumentError: if it is not three integers from 0 to 255.
    """
    if (
        isinstance(color, str)
        or not isinstance(color, Sequence)
        or len(color) != 3
        or not all(is_integer(channel, 0) and channel <= 255 for channel in color)
    ):
        raise InvalidArgumentError(f"{what} must be three integers from 0 to 255 (red, green, blue), got {color!r}")
    red, green, blue = color
    return red, green, blue


@cache
def _spread_colors(most: int) -> tuple[Color, ...]:
    def distance(a: Color, b: Color) -> float:
        red = (a[0] + b[0]) / 512
        return (2 + red) * (a[0] - b[0]) ** 2 + 4 * (a[1] - b[1]) ** 2 + (3 - red) * (a[2] - b[2]) ** 2

    grid = [(r, g, b) for r, g, b in itertools.product(_LEVELS, repeat=3) if max(r, g, b) - min(r, g, b) >= 40]
    nearest_taken = {color: min(distance(color, (gray, gray, gray)) for gray in (0, 128, 255)) for color in grid}
    colors: list[Color] = []
    while nearest_taken and len(colors) < most:
        best = max(nearest_taken, key=lambda color: nearest_taken[color])
        colors.append(best)
        del nearest_taken[best]
        for color, reach in nearest_taken.items():
            nearest_taken[color] = min(reach, distance(color, best))
    return tuple(colors)
