"""Blending of overlapping tiles: positions of the tiles of an image, and the weight of each tile at each pixel.

The weights of a tile are the product of its weights along the rows and along the columns, so each axis is planned
separately. At each pixel the weights of all tiles sum to 1.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Blend", "TileAxis", "TilePlan", "TileSpan", "add_weighted", "ring_runs", "tile_starts"]

Blend = Literal["hann", "constant"]


def tile_starts(length: int, size: int, overlap: float) -> list[int]:
    """Returns the first pixel of each tile of `size` pixels along `length` pixels; [0] if one tile covers them all.

    Args:
        length: pixels to cover, at least 1.
        size: pixels of a tile.
        overlap: fraction 0 to below 1 of a tile that overlaps the next one, at least.
    """
    if length <= size:
        return [0]
    step = max(1, int(size * (1 - overlap)))
    count = math.ceil((length - size) / step) + 1
    return [min(number * step, length - size) for number in range(count)]


@dataclass(frozen=True)
class TileSpan:
    """Consecutive pixels along one axis that are accumulated in the same way.

    Attributes:
        first: their first pixel in the image.
        end: the pixel after the last one.
        added: whether an earlier tile along this axis has added to these pixels.
        weights: float64 (end - first,), above 0; the weights of all tiles sum to 1 at each pixel.
    """

    first: int
    end: int
    added: bool
    weights: Tensor

    def part(self, first: int, end: int) -> "TileSpan":
        """Returns the part of the span within the pixels `first` to `end - 1`."""
        first, end = max(first, self.first), min(end, self.end)
        return TileSpan(first, end, self.added, self.weights[first - self.first : end - self.first])


@dataclass(frozen=True)
class TileAxis:
    """The tiles along one axis.

    Attributes:
        length: pixels of the image.
        size: pixels of a tile.
        starts: first pixel of each tile.
        spans: for each tile the pixels where its weight is above 0, in order: at most one span that an earlier tile has
            added to, and one that none has.
    """

    length: int
    size: int
    starts: Sequence[int]
    spans: Sequence[Sequence[TileSpan]]

    @classmethod
    def of(cls, length: int, size: int, overlap: float, blend: Blend) -> "TileAxis":
        """Plans the tiles along an axis of `length` pixels."""
        size = min(size, length)
        starts = tile_starts(length, size, overlap)
        weights = _blend_weights(starts, size, blend)
        total = torch.zeros(length, dtype=torch.float64)
        for start, own in zip(starts, weights, strict=True):
            total[start : start + size] += own
        spans = []
        reached = 0
        for start, own in zip(starts, weights, strict=True):
            # the weighted pixels of each tile begin and end after those of the tile before it, without gaps
            used = own.nonzero()
            first, end = start + int(used[0]), start + int(used[-1]) + 1
            whole = TileSpan(first, end, False, (own / total[start : start + size])[first - start : end - start])
            middle = min(max(first, reached), end)
            before, after = whole.part(first, middle), whole.part(middle, end)
            before = TileSpan(first, middle, True, before.weights)
            spans.append([span for span in (before, after) if span.first < span.end])
            reached = end
        return cls(length, size, starts, spans)

    def firsts(self) -> list[int]:
        """Returns the first pixel of each tile where its weight is above 0."""
        return [spans[0].first for spans in self.spans]

    def max_reach(self) -> int:
        """Returns the largest number of pixels where one tile has a weight above 0."""
        return max(spans[-1].end - spans[0].first for spans in self.spans)

    def within(self, first: int, end: int) -> dict[int, list[TileSpan]]:
        """Returns number -> spans of the tiles with a weight at the pixels `first` to `end - 1`, clipped to these."""
        parts = {
            number: [span.part(first, end) for span in spans if span.first < end and span.end > first]
            for number, spans in enumerate(self.spans)
        }
        return {number: spans for number, spans in parts.items() if spans}

    def groups(self, max_pixels: int) -> list[tuple[int, int]]:
        """Returns the first and the end pixel of groups of at most `max_pixels`, or the size of a tile if larger."""
        max_pixels = max(max_pixels, self.size)
        groups = []
        first = 0
        while self.length - first > max_pixels:
            # the fewest tiles reach across a boundary where a tile begins
            end = max(start for start in self.firsts() if start <= first + max_pixels)
            groups.append((first, end))
            first = end
        return [*groups, (first, self.length)]


@dataclass(frozen=True)
class TilePlan:
    """The positions of the tiles of an image, and their weights."""

    rows: TileAxis
    columns: TileAxis

    @classmethod
    def of(cls, size: tuple[int, int], tile: tuple[int, int], overlap: float, blend: Blend) -> "TilePlan":
        """Plans the tiles of an image of (height, width) `size`."""
        return cls(TileAxis.of(size[0], tile[0], overlap, blend), TileAxis.of(size[1], tile[1], overlap, blend))


def add_weighted(
    band: Tensor,
    left: int,
    tile: Tensor,
    start: tuple[int, int],
    rows: Sequence[TileSpan],
    columns: Sequence[TileSpan],
) -> None:
    """Adds the weighted logits of one tile to the sums; pixels that no earlier tile has added to are overwritten.

    Args:
        band: the sums (K, depth, w), a ring buffer of rows: row y of the image is at row `y % depth`, column x at
            column `x - left`.
        left: column of the image where the sums begin.
        tile: logits (K, h, w).
        start: (row, column) of the image where the tile begins.
        rows: the tile's spans along the rows.
        columns: the tile's spans along the columns.
    """
    for row in rows:
        for first, end, at in ring_runs(row.first, row.end, band.shape[1]):
            row_weights = row.part(first, end).weights
            for column in columns:
                source = tile[:, first - start[0] : end - start[0], column.first - start[1] : column.end - start[1]]
                target = band[:, at : at + end - first, column.first - left : column.end - left]
                factors = _factors(row_weights, column.weights, tile)
                added = row.added or column.added
                if isinstance(factors, Tensor):
                    if added:
                        target.addcmul_(source, factors)
                    else:
                        torch.mul(source, factors, out=target)
                elif added:
                    target.add_(source, alpha=factors)
                elif factors == 1:
                    target.copy_(source)
                else:
                    torch.mul(source, factors, out=target)


def _factors(row_weights: Tensor, column_weights: Tensor, like: Tensor) -> float | Tensor:
    """Returns the products of the weights of rows and columns, (h, w), or one float if all are one power of 2.

    A power of 2, in most cases 1, multiplies without rounding, so all operations give the same bits. Other weights use
    one kind of operation only, so the result does not depend on how a tile is divided.
    """
    if bool((row_weights == row_weights[0]).all()) and bool((column_weights == column_weights[0]).all()):
        value = float(row_weights[0] * column_weights[0])
        if math.frexp(value)[0] == 0.5:
            return value
    return row_weights.to(like)[:, None] * column_weights.to(like)


def ring_runs(first: int, end: int, depth: int) -> Iterator[tuple[int, int, int]]:
    """Yields (first, end, position) of the runs of rows `first` to `end - 1` that are contiguous in a ring buffer."""
    while first < end:
        position = first % depth
        stop = min(end, first + depth - position)
        yield first, stop, position
        first = stop


def _blend_weights(starts: Sequence[int], size: int, blend: Blend) -> list[Tensor]:
    """Returns the weights of each tile along one axis, (size,); at the edges of the image they do not decrease."""
    positions = torch.arange(size, dtype=torch.float64) + 0.5
    weights = []
    for number, start in enumerate(starts):
        own = torch.ones_like(positions)
        if blend == "hann" and number > 0:
            own *= _rise(positions, starts[number - 1] + size - start)
        if blend == "hann" and number + 1 < len(starts):
            shared = start + size - starts[number + 1]
            own *= 1 - _rise(positions - (size - shared), shared)
        weights.append(own)
    return weights


def _rise(positions: Tensor, shared: int) -> Tensor:
    """Returns 0 to 1 on a Hann curve over the middle half of the first `shared` pixels; a step if `shared` is 0."""
    if shared <= 0:
        return (positions > 0).to(positions.dtype)
    ramp = ((positions / shared - 0.25) * 2).clamp(0, 1)
    return torch.sin(ramp * (math.pi / 2)).square()
