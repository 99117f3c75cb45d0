"""Prediction of large images in overlapping windows, of whose sums a band of limited size is held."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from seg_core.errors import InvalidArgumentError
from seg_core.interfaces import Predict
from seg_core.metrics.argmax import argmax_labels
from seg_models.inference.adapted import adapt
from seg_models.inference.scratch import Scratch, logits_into

__all__ = ["Blend", "Output", "predict_tiled", "tiled_blocks", "window_starts"]

Blend = Literal["hann", "constant"]
Output = Literal["logits", "labels"]

_MAX_BYTES = 2**29
_BLOCK_BYTES = 2**23  # of what is handed out at once


def predict_tiled(
    model: nn.Module,
    images: Tensor,
    tile: int | Sequence[int] = 512,
    overlap: float = 0.5,
    blend: Blend = "hann",
    output: Output = "logits",
    batch_size: int = 1,
    predict: Predict | None = None,
) -> Tensor:
    """Returns the logits or the labels of images that are predicted window by window, without gradients.

    Windows stand side by side at distances of `(1 - overlap)` of their size; the last of a row or column is moved
    inside, so that it overlaps the one before it more. Where windows overlap, their logits are averaged:

    - `"hann"`: from one window to the next the weights change over the middle half of their overlap, on a Hann curve.
      The outer quarter of it, where a window knows least of what is around, counts nothing: for a network that looks no
      further than that the result is that of the whole image.
    - `"constant"`: all windows weigh the same, as in MONAI's `sliding_window_inference`.

    Beside the images and the result it holds the logits of one pass, and for labels the sums of one row of windows,
    512 MiB of them or those of one window at most, as `tiled_blocks` does.

    Args:
        model: a network as the builders make it, in eval mode.
        images: float (N, C, H, W), normalized RGB where C is 3, on the model's device. Smaller ones than a window are
            predicted whole.
        tile: (height, width) of a window in pixels, or one number for a square; at least the network's `min_size`.
        overlap: share 0 to below 1 of a window that overlaps the next one.
        blend: how overlapping windows are joined.
        output: `"logits"`, or `"labels"`, which are taken row by row.
        batch_size: tiles in one pass through the network.
        predict: way of predicting each tile, with logits as its result, such as `predict_tta`; None predicts a tile in
            one pass.

    Returns:
        float32 (N, K, H, W), logits (float64 where the network's are); or uint8 (N, H, W), class ids, uint16 for more
        than 256 classes.

    Raises:
        InvalidArgumentError: if an argument is out of range.
    """
    size = _check_options(tile, overlap, blend, batch_size)
    if output not in get_args(Output):
        raise InvalidArgumentError(f"output must be one of {', '.join(get_args(Output))}, got {output!r}")
    if images.ndim != 4 or not images.is_floating_point():
        raise InvalidArgumentError(
            f"images must be float (N, C, H, W), normalized, got {images.dtype} {tuple(images.shape)}"
        )
    if not len(images):
        raise InvalidArgumentError("images must hold at least one image, got none")
    plan = _Plan.of((images.shape[-2], images.shape[-1]), size, overlap, blend)
    model = adapt(model)
    logits_of_tiles = functools.partial(_logits, Scratch(), model)
    if predict is not None:
        logits_of_tiles = functools.partial(predict, model)
    result: Tensor | None = None

    def logits_of(index: int, logits: Tensor) -> Tensor:
        """Returns where the sums of one image stand: in the result itself, which saves the band."""
        nonlocal result
        if result is None:
            result = logits.new_empty(len(images), logits.shape[1], *images.shape[2:])
        return result[index]

    with torch.inference_mode():
        for index, image in enumerate(images):
            read = functools.partial(_crop, image)
            if output == "logits":
                for _ in _finished(logits_of_tiles, read, plan, batch_size, functools.partial(logits_of, index)):
                    pass
                continue
            for top, left, logits in _finished(logits_of_tiles, read, plan, batch_size, _MAX_BYTES):
                labels = argmax_labels(logits)
                if result is None:
                    result = labels.new_empty(len(images), *images.shape[2:])
                result[index, top : top + labels.shape[0], left : left + labels.shape[1]] = labels
    assert result is not None
    return result


def tiled_blocks(
    predict: Callable[[Tensor], Tensor],
    read: Callable[[int, int, int, int], Tensor],
    size: tuple[int, int],
    tile: int | Sequence[int] = 512,
    overlap: float = 0.5,
    blend: Blend = "hann",
    batch_size: int = 1,
    max_bytes: int = _MAX_BYTES,
) -> Iterator[tuple[int, int, Tensor]]:
    """Yields the logits of an image of any size block by block, as `predict_tiled` computes them.

    The image is read window by window, so it need not be in memory. What is held are the sums of one row of windows:
    K x tile height x image width. Where those are more than `max_bytes`, the image is gone through in groups of
    neighboring columns, each from top to bottom. Windows that reach into two groups are predicted in both, so every
    pixel gets all its windows, in the same order, and the groups do not show in the result (beyond what the number of
    windows in one pass changes in the network's rounding). Beside the sums, which take `max_bytes` or as much as one
    window of logits if that is more, there are the windows and logits of one pass, and one block.

    Args:
        predict: takes windows (n, C, h, w), gives their logits, float (n, K, h, w); n is at most `batch_size`. It runs
            without gradients.
        read: takes top, left, height and width of a window, all inside the image, and returns it: (C, height, width).
            It is called once for each window that is predicted, and never for more than a tile.
        size: height and width of the image in pixels. One smaller than a window is predicted whole.
        tile: (height, width) of a window in pixels, or one number for a square.
        overlap: share 0 to below 1 of a window that overlaps the next one.
        blend: how overlapping windows are joined, as in `predict_tiled`.
        batch_size: windows in one pass.
        max_bytes: limit of the sums that are held.

    Yields:
        (top, left, logits): where the block lies, and float32 (K, h, w), float64 where `predict` gives that. Every
        pixel is in one block. Blocks are whole rows of a group of columns, of at most 8 MiB, or one row if that is
        more; each has memory of its own.

    Raises:
        InvalidArgumentError: if an argument is out of range, or what `predict` gives are no logits of the windows.
    """
    window = _check_options(tile, overlap, blend, batch_size)
    if len(size) != 2 or not all(type(value) is int and value > 0 for value in size):
        raise InvalidArgumentError(f"size must be the image's (height, width) in pixels above 0, got {size!r}")
    if type(max_bytes) is not int or max_bytes < 1:
        raise InvalidArgumentError(f"max_bytes must be a number of bytes from 1 on, got {max_bytes!r}")
    plan = _Plan.of((size[0], size[1]), window, overlap, blend)
    return _blocks(predict, read, plan, batch_size, max_bytes)


def window_starts(length: int, size: int, overlap: float) -> list[int]:
    """Returns where windows of `size` pixels begin that cover `length` pixels; one at 0 where that is not more.

    Args:
        length: pixels to cover, at least 1.
        size: of a window.
        overlap: share 0 to below 1 of a window that the next one overlaps at least.
    """
    if length <= size:
        return [0]
    step = max(1, int(size * (1 - overlap)))
    count = math.ceil((length - size) / step) + 1
    return [min(number * step, length - size) for number in range(count)]


@dataclass(frozen=True)
class _Span:
    """Neighboring pixels of one axis that a window treats alike.

    Attributes:
        first: their first pixel in the image.
        end: the pixel after their last.
        added: whether an earlier window of this axis has been there.
        weights: float64 (end - first,), above 0; those of all windows add up to 1 at each pixel.
    """

    first: int
    end: int
    added: bool
    weights: Tensor

    def part(self, first: int, end: int) -> "_Span":
        """Returns what of it lies at the pixels `first` to `end - 1`."""
        first, end = max(first, self.first), min(end, self.end)
        return _Span(first, end, self.added, self.weights[first - self.first : end - self.first])


@dataclass(frozen=True)
class _Axis:
    """The windows along one axis.

    Attributes:
        length: pixels of the image.
        size: pixels of a window.
        starts: first pixel of each window.
        spans: for each window the pixels where it has a weight, in order: at most one span that was reached before and
            one that was not.
    """

    length: int
    size: int
    starts: Sequence[int]
    spans: Sequence[Sequence[_Span]]

    @classmethod
    def of(cls, length: int, size: int, overlap: float, blend: Blend) -> "_Axis":
        size = min(size, length)
        starts = window_starts(length, size, overlap)
        weights = _weights(starts, size, blend)
        total = torch.zeros(length, dtype=torch.float64)
        for start, own in zip(starts, weights, strict=True):
            total[start : start + size] += own
        spans = []
        reached = 0
        for start, own in zip(starts, weights, strict=True):
            # where windows have weights begins and ends later from one to the next, and leaves no gaps
            used = own.nonzero()
            first, end = start + int(used[0]), start + int(used[-1]) + 1
            whole = _Span(first, end, False, (own / total[start : start + size])[first - start : end - start])
            middle = min(max(first, reached), end)
            before, after = whole.part(first, middle), whole.part(middle, end)
            before = _Span(first, middle, True, before.weights)
            spans.append([span for span in (before, after) if span.first < span.end])
            reached = end
        return cls(length, size, starts, spans)

    def firsts(self) -> list[int]:
        """Returns the first pixel where each window has a weight."""
        return [spans[0].first for spans in self.spans]

    def most_reached(self) -> int:
        """Returns how many pixels there are at most where one window has a weight."""
        return max(spans[-1].end - spans[0].first for spans in self.spans)

    def within(self, first: int, end: int) -> dict[int, list[_Span]]:
        """Returns number -> spans of the windows with a weight at the pixels `first` to `end - 1`, cut to these."""
        parts = {
            number: [span.part(first, end) for span in spans if span.first < end and span.end > first]
            for number, spans in enumerate(self.spans)
        }
        return {number: spans for number, spans in parts.items() if spans}

    def groups(self, most: int) -> list[tuple[int, int]]:
        """Returns the first and the end pixel of groups of at most `most` pixels, but no less than a window's size."""
        most = max(most, self.size)
        groups = []
        first = 0
        while self.length - first > most:
            # where a window begins there are the fewest that reach across
            end = max(start for start in self.firsts() if start <= first + most)
            groups.append((first, end))
            first = end
        return [*groups, (first, self.length)]


@dataclass(frozen=True)
class _Plan:
    """Where the windows of an image are, and what they count."""

    rows: _Axis
    columns: _Axis

    @classmethod
    def of(cls, size: tuple[int, int], tile: tuple[int, int], overlap: float, blend: Blend) -> "_Plan":
        return cls(_Axis.of(size[0], tile[0], overlap, blend), _Axis.of(size[1], tile[1], overlap, blend))


@torch.inference_mode()
def _blocks(
    predict: Callable[[Tensor], Tensor],
    read: Callable[[int, int, int, int], Tensor],
    plan: _Plan,
    batch_size: int,
    max_bytes: int,
) -> Iterator[tuple[int, int, Tensor]]:
    for top, left, logits in _finished(predict, read, plan, batch_size, max_bytes):
        at_once = max(1, _BLOCK_BYTES // (logits[:, 0].numel() * logits.element_size()))
        for first in range(0, logits.shape[1], at_once):
            yield top + first, left, logits[:, first : first + at_once].clone()


@torch.inference_mode()
def _finished(
    predict: Callable[[Tensor], Tensor],
    read: Callable[[int, int, int, int], Tensor],
    plan: _Plan,
    batch_size: int,
    place: int | Callable[[Tensor], Tensor],
) -> Iterator[tuple[int, int, Tensor]]:
    """Yields top, left and logits (K, h, w) of the pixels that no later window reaches; valid until the next ones.

    Args:
        predict: as in `tiled_blocks`.
        read: as in `tiled_blocks`.
        plan: the windows.
        batch_size: windows in one pass.
        place: takes logits (n, K, h, w) and returns where the sums stand, (K, H, W), for the whole image; or the
            most bytes that a band of them may take.
    """
    rows, columns = plan.rows, plan.columns
    # the number of classes decides on the groups, and shows in the first pass only
    first_pass = [_pass(predict, read, plan, 0, range(min(batch_size, len(columns.starts))))]
    like = first_pass[0]
    if isinstance(place, int):
        depth = rows.most_reached()
        groups = columns.groups(place // (like.shape[1] * depth * like.element_size()))
        sums = like.new_empty(like.shape[1], depth, max(right - left for left, right in groups))
    else:
        groups = [(0, columns.length)]
        sums = place(like)
    del like  # which would stay until the end
    firsts = [*rows.firsts(), rows.length]
    for left, right in groups:
        band = sums[:, :, : right - left]
        across = columns.within(left, right)
        for row in range(len(rows.starts)):
            for at in range(0, len(across), batch_size):
                chosen = dict(list(across.items())[at : at + batch_size])
                # no name for the logits: they are let go before the next ones are computed
                _add_pass(
                    band,
                    left,
                    first_pass.pop() if first_pass else _pass(predict, read, plan, row, list(chosen)),
                    plan,
                    row,
                    chosen,
                )
            for top, end, at in _turns(firsts[row], firsts[row + 1], band.shape[1]):
                yield top, left, band[:, at : at + end - top]


def _pass(
    predict: Callable[[Tensor], Tensor],
    read: Callable[[int, int, int, int], Tensor],
    plan: _Plan,
    row: int,
    columns: Sequence[int],
) -> Tensor:
    """Returns the logits (n, K, h, w) of the windows of one row that stand in these columns."""
    height, width = plan.rows.size, plan.columns.size
    top = plan.rows.starts[row]
    windows = [read(top, plan.columns.starts[column], height, width) for column in columns]
    logits = predict(windows[0][None] if len(windows) == 1 else torch.stack(windows))
    if logits.ndim != 4 or not logits.is_floating_point() or logits[:, 0].shape != (len(windows), height, width):
        raise InvalidArgumentError(
            f"predict must give float logits ({len(windows)}, K, {height}, {width}) for as many windows of that size, "
            f"got {logits.dtype} {tuple(logits.shape)}"
        )
    return logits if logits.dtype == torch.float64 else logits.float()


def _add_pass(
    band: Tensor, left: int, logits: Tensor, plan: _Plan, row: int, across: Mapping[int, Sequence[_Span]]
) -> None:
    """Adds the weighted logits (n, K, h, w) of windows of one row to the sums (K, depth, w).

    Row y of the image stands at row `y % depth` of the sums, column x at column `x - left`. Where no window has been
    before, what stands there is overwritten.

    Args:
        band: the sums.
        left: column of the image where they begin.
        logits: of at least as many windows as `across` has; the first ones are taken.
        plan: the windows.
        row: which one of `plan.rows`.
        across: number of each window's column -> its spans there.
    """
    for window, (column, spans) in zip(logits, across.items(), strict=False):
        start = (plan.rows.starts[row], plan.columns.starts[column])
        _add(band, left, window, start, plan.rows.spans[row], spans)


def _add(
    band: Tensor,
    left: int,
    window: Tensor,
    start: tuple[int, int],
    rows: Sequence[_Span],
    columns: Sequence[_Span],
) -> None:
    """Adds the weighted logits (K, h, w) of the window that begins at `start`, as `_add_pass` does."""
    for row in rows:
        for first, end, at in _turns(row.first, row.end, band.shape[1]):
            down = row.part(first, end).weights
            for column in columns:
                source = window[:, first - start[0] : end - start[0], column.first - start[1] : column.end - start[1]]
                target = band[:, at : at + end - first, column.first - left : column.end - left]
                factors = _factors(down, column.weights, window)
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


def _factors(down: Tensor, across: Tensor, like: Tensor) -> float | Tensor:
    """Returns the products of the weights of rows and columns, (h, w); or their one value where that is a power of 2.

    Such a value, in most cases 1, multiplies without rounding, so that all operations give the same bits. Others are
    left to one kind of operation, however a window is divided.
    """
    if bool((down == down[0]).all()) and bool((across == across[0]).all()):
        value = float(down[0] * across[0])
        if math.frexp(value)[0] == 0.5:
            return value
    return down.to(like)[:, None] * across.to(like)


def _turns(first: int, end: int, depth: int) -> Iterator[tuple[int, int, int]]:
    """Yields first, end and place of the runs of rows `first` to `end - 1` that stand side by side in a ring."""
    while first < end:
        place = first % depth
        stop = min(end, first + depth - place)
        yield first, stop, place
        first = stop


def _logits(scratch: Scratch, model: nn.Module, images: Tensor) -> Tensor:
    logits: Tensor = logits_into(scratch, model, images)
    return logits


def _crop(image: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    return image[:, top : top + height, left : left + width]


def _weights(starts: Sequence[int], size: int, blend: Blend) -> list[Tensor]:
    """Returns the weights of each window along one axis, (size,); next to the edge of the image they do not fall."""
    places = torch.arange(size, dtype=torch.float64) + 0.5
    weights = []
    for number, start in enumerate(starts):
        own = torch.ones_like(places)
        if blend == "hann" and number > 0:
            own *= _rise(places, starts[number - 1] + size - start)
        if blend == "hann" and number + 1 < len(starts):
            shared = start + size - starts[number + 1]
            own *= 1 - _rise(places - (size - shared), shared)
        weights.append(own)
    return weights


def _rise(places: Tensor, shared: int) -> Tensor:
    """Returns 0 to 1 on a Hann curve over the middle half of the first `shared` pixels; a step where there are none."""
    if shared <= 0:
        return (places > 0).to(places.dtype)
    ramp = ((places / shared - 0.25) * 2).clamp(0, 1)
    return torch.sin(ramp * (math.pi / 2)).square()


def _check_options(tile: int | Sequence[int], overlap: float, blend: Blend, batch_size: int) -> tuple[int, int]:
    """Returns height and width of a window, if what it gets is in range."""
    values = (tile, tile) if isinstance(tile, int) else tuple(tile)
    if len(values) != 2 or not all(type(value) is int and value > 0 for value in values):
        raise InvalidArgumentError(f"tile must be (height, width) in pixels above 0, or one number, got {tile!r}")
    if not 0 <= overlap < 1:
        raise InvalidArgumentError(f"overlap must be a share from 0 to below 1, got {overlap!r}")
    if blend not in get_args(Blend):
        raise InvalidArgumentError(f"blend must be one of {', '.join(get_args(Blend))}, got {blend!r}")
    if type(batch_size) is not int or batch_size < 1:
        raise InvalidArgumentError(f"batch_size must be a number of windows from 1 on, got {batch_size!r}")
    return values[0], values[1]
