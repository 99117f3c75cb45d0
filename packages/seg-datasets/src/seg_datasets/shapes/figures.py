"""The figures and surface patterns that `Shapes` draws.

A figure is a signed distance in units of its radius: negative inside, zero on the outline, positive outside. The
distances are built from half-planes and circles (after Inigo Quilez, "2D distance functions",
https://iquilezles.org/articles/distfunctions2d), exact along the straight and round parts and a little short around
outer corners. A pattern assigns one of two tones to each point. Only sums, products, roots and comparisons are used,
because every machine rounds these in the same way.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["FIGURES", "PATTERNS", "Field"]

Field: TypeAlias = npt.NDArray[Any]
"""float32 (h, w), one number per pixel."""

_COS36, _SIN36 = math.cos(math.pi / 5), math.sin(math.pi / 5)
_SIN60 = math.sin(math.pi / 3)


def _length(u: Field, v: Field) -> Field:
    return np.sqrt(u * u + v * v)


def _disc(u: Field, v: Field) -> Field:
    return _length(u, v) - 0.9


def _ring(u: Field, v: Field) -> Field:
    return np.abs(_length(u, v) - 0.65) - 0.3


def _square(u: Field, v: Field) -> Field:
    return np.maximum(np.abs(u), np.abs(v)) - 0.8


def _triangle(u: Field, v: Field) -> Field:
    return np.maximum(np.abs(u) * _SIN60 - v * 0.5, v) - 0.52


def _star(u: Field, v: Field) -> Field:
    # mirrored onto one tenth of the plane, where the outline of a five-pointed star is one straight line
    x, y = np.abs(u), v
    for side in (_COS36, -_COS36):
        over = 2.0 * np.maximum(x * side - y * _SIN36, 0.0)
        x, y = x - over * side, y + over * _SIN36
    return (np.abs(x) - _STAR_TIP[0]) * _STAR_NORMAL[0] + (y - _STAR_TIP[1]) * _STAR_NORMAL[1]


def _cross(u: Field, v: Field) -> Field:
    x, y = np.abs(u), np.abs(v)
    return np.minimum(np.maximum(x - 0.95, y - 0.37), np.maximum(y - 0.95, x - 0.37))


def _crescent(u: Field, v: Field) -> Field:
    return np.maximum(_length(u, v) - 0.95, 0.65 - _length(u - 0.6, v))


def _bar(u: Field, v: Field) -> Field:
    return np.maximum(np.abs(u) - 1.05, np.abs(v) - 0.42)


_STAR_TIP = (0.0, 1.0)
_STAR_NOTCH = (0.55 * _SIN36, 0.55 * _COS36)


def _outward_normal(start: tuple[float, float], end: tuple[float, float]) -> tuple[float, float]:
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    length = math.hypot(along_x, along_y)
    return -along_y / length, along_x / length


_STAR_NORMAL = _outward_normal(_STAR_TIP, _STAR_NOTCH)

FIGURES: Mapping[str, Callable[[Field, Field], Field]] = MappingProxyType(
    {
        "disc": _disc,
        "ring": _ring,
        "square": _square,
        "triangle": _triangle,
        "star": _star,
        "cross": _cross,
        "crescent": _crescent,
        "bar": _bar,
    }
)
"""Name -> signed distance of the points (u, v), all in radii of the figure. All figures stay within 1.15 radii."""


def _wave(t: Field) -> Field:
    """Returns a triangle wave of period 1 between 0 and 1."""
    return np.abs(2.0 * (t - np.floor(t)) - 1.0)


def _plain(u: Field, v: Field) -> Field:
    return np.full(np.broadcast_shapes(u.shape, v.shape), 0.5, np.float32)


def _stripes(u: Field, v: Field) -> Field:
    del v
    return (_wave(u) > 0.5).astype(np.float32)


def _checks(u: Field, v: Field) -> Field:
    return ((_wave(u) > 0.5) ^ (_wave(v) > 0.5)).astype(np.float32)


def _dots(u: Field, v: Field) -> Field:
    x, y = _wave(u), _wave(v)
    return (x * x + y * y < 0.63).astype(np.float32)


PATTERNS: Mapping[str, Callable[[Field, Field], Field]] = MappingProxyType(
    {"plain": _plain, "stripes": _stripes, "checks": _checks, "dots": _dots}
)
"""Name -> share of the second tone, 0 to 1 and half on average, at the points (u, v) in periods of the pattern."""
