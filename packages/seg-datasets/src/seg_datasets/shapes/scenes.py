"""Composes and draws the images of `Shapes`, with numpy only."""

import colorsys
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_datasets.shapes.figures import FIGURES, PATTERNS, Field

__all__ = ["IGNORE_INDEX", "KINDS", "REACH", "Kind", "draw_scene"]

IGNORE_INDEX = 255


@dataclass(frozen=True)
class Kind:
    """The appearance of the figures of a class; `hue` is the middle of the family's hues, 0 to 1."""

    figure: str
    pattern: str
    hue: float


# class id - 1 -> kind
KINDS = (
    Kind("disc", "plain", 0.03),
    Kind("ring", "stripes", 0.03),
    Kind("square", "plain", 0.28),
    Kind("triangle", "checks", 0.28),
    Kind("star", "plain", 0.53),
    Kind("cross", "dots", 0.53),
    Kind("crescent", "plain", 0.78),
    Kind("bar", "stripes", 0.78),
)
_NUM_FIGURES = (4, 7)  # minimum and maximum per image
_RADIUS = (0.20, 0.34)  # fraction of the shorter side
REACH = 1.15  # radii: how far a figure extends from its center
_PERIOD = (0.05, 0.08)  # of a figure's pattern, fraction of the shorter side
_BORDER = 1.0  # pixels on each side of an outline that are ignored
_DRAWS = 16  # random numbers per background and per figure: more than needed, so that a new trait changes no other


def draw_scene(
    size: tuple[int, int], *, seed: int, stream: int, index: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Returns an image uint8 (3, H, W), RGB, and its ids uint8 (H, W): 0 to 8, and 255 along the outlines.

    Args:
        size: (height, width) in pixels.
        seed: 0 to 2**64 - 1, like the next two; the three together identify the image.
        stream: one per split.
        index: one per image.
    """
    height, width = size
    # a counter-based generator: key and counter identify the image, and each image has its own random stream
    rng = np.random.Generator(np.random.Philox(key=[seed, stream], counter=[0, 0, 0, index]))
    # plain Python numbers keep the pixels float32 in numpy 1 and 2 alike
    traits = rng.random(_DRAWS).tolist()
    canvas = _draw_background(size, traits, rng)
    ids = np.zeros(size, np.uint8)
    fewest, most = _NUM_FIGURES
    for figure in rng.random((fewest + int(traits[0] * (most - fewest + 1)), _DRAWS)).tolist():
        _draw_figure(canvas, ids, figure)
    grain = np.frombuffer(rng.bytes(3 * height * width), np.uint8).reshape(3, height, width)
    canvas += (grain.astype(np.float32) - 127.5) * np.float32(_between((0.04, 0.16), traits[1]))
    return np.clip(canvas, 0, 255).astype(np.uint8), ids


def _draw_background(size: tuple[int, int], traits: list[float], rng: np.random.Generator) -> Field:
    """Returns float32 (3, H, W), 0 to 255: two dull tones mixed by clouds and a faint pattern."""
    height, width = size
    first = _tone(traits[2], _between((0.1, 0.5), traits[3]), _between((0.25, 0.85), traits[4]))
    second = _tone(traits[5], _between((0.1, 0.5), traits[6]), _between((0.25, 0.85), traits[7]))
    share = 0.55 * _clouds(size, (4, 5), rng) + 0.2 * _clouds(size, (13, 17), rng)
    period = min(size) * _between((0.08, 0.20), traits[8])
    u, v = _rotated(np.arange(height), np.arange(width), math.pi * traits[9], 1 / period)
    pattern = PATTERNS[list(PATTERNS)[int(traits[10] * len(PATTERNS))]]
    share += pattern(u, v) * np.float32(_between((0.08, 0.25), traits[11]))
    return first + (second - first) * share


def _draw_figure(canvas: Field, ids: npt.NDArray[np.uint8], traits: list[float]) -> None:
    """Draws one figure over `canvas` (3, H, W) and its class over `ids` (H, W), both in place."""
    height, width = ids.shape
    shorter = min(height, width)
    class_id = 1 + int(traits[0] * len(KINDS))
    kind = KINDS[class_id - 1]
    radius = shorter * _between(_RADIUS, traits[1])
    x, y = width * _between((0.02, 0.98), traits[2]), height * _between((0.02, 0.98), traits[3])
    reach = REACH * radius + _BORDER + 1
    left, right = max(0, math.floor(x - reach)), min(width, math.ceil(x + reach) + 1)
    top, bottom = max(0, math.floor(y - reach)), min(height, math.ceil(y + reach) + 1)
    # everything below is (h, w), the box around the figure
    rows, columns = np.arange(top, bottom) - y, np.arange(left, right) - x
    u, v = _rotated(rows, columns, 2 * math.pi * traits[4], 1 / radius)
    distance = FIGURES[kind.figure](u, v) * np.float32(radius)  # pixels

    period = shorter * _between(_PERIOD, traits[5]) / radius  # radii
    pattern = PATTERNS[kind.pattern](
        u / np.float32(period) + np.float32(traits[6]), v / np.float32(period) + np.float32(traits[7])
    )
    contrast = _between((0.3, 0.5), traits[8]) * (1 if traits[9] < 0.5 else -1)
    tone = _tone(
        kind.hue + _between((-0.05, 0.05), traits[10]),
        _between((0.5, 0.9), traits[11]),
        _between((0.48, 0.68), traits[12]),
    )
    shade = 1 + np.float32(contrast) * (2 * pattern - 1)
    # light from the upper left
    shade = shade * (1 - np.float32(0.12 / radius) * (rows[:, None] + columns).astype(np.float32))
    coverage = np.clip(0.5 - distance, 0, 1)  # fraction of each pixel inside the figure, for smooth outlines
    box = canvas[:, top:bottom, left:right]
    box += (tone * shade - box) * coverage

    labels = ids[top:bottom, left:right]
    labels[distance < _BORDER] = IGNORE_INDEX
    labels[distance < -_BORDER] = class_id


def _rotated(rows: npt.NDArray[Any], columns: npt.NDArray[Any], angle: float, scale: float) -> tuple[Field, Field]:
    """Returns float32 coordinates (h, w) of a grid, rotated by `angle` (radians) and scaled."""
    y, x = rows.astype(np.float32)[:, None], columns.astype(np.float32)[None, :]
    cos, sin = np.float32(scale * math.cos(angle)), np.float32(scale * math.sin(angle))
    return cos * x + sin * y, cos * y - sin * x


def _clouds(size: tuple[int, int], cells: tuple[int, int], rng: np.random.Generator) -> Field:
    """Returns float32 (H, W) in 0 to 1: random numbers on a coarse grid, smoothly interpolated."""
    grid = rng.random(cells).astype(np.float32)
    (upper, y), (left, x) = (_knots(length, count) for length, count in zip(size, cells, strict=True))
    rows = grid[upper] + (grid[upper + 1] - grid[upper]) * y[:, None]  # (H, cells)
    return rows[:, left] + (rows[:, left + 1] - rows[:, left]) * x


def _knots(length: int, count: int) -> tuple[npt.NDArray[np.intp], Field]:
    """Returns for each of `length` pixels the lower of its two grid points and the weight of the upper one."""
    position = np.arange(length) * ((count - 1) / length)
    lower = position.astype(np.intp)
    t = (position - lower).astype(np.float32)
    return lower, t * t * (3 - 2 * t)


def _tone(hue: float, saturation: float, value: float) -> Field:
    rgb = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return np.array(rgb, np.float32).reshape(3, 1, 1) * 255


def _between(limits: tuple[float, float], share: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * share
