"""Prediction of large images in overlapping tiles (a sliding window), in memory that does not grow with the image.

`tile_blending` computes the positions and weights of the tiles.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from seg_core.checks import check_integer, is_integer, is_number
from seg_core.errors import InvalidArgumentError
from seg_core.interfaces import Predict
from seg_core.labels.tasks import MULTICLASS, MULTILABEL
from seg_core.metrics.argmax import Thresholds, argmax_labels, threshold_labels
from seg_core.metrics.decidable import check_decidable
from seg_models.inference.adapted import adapt
from seg_models.inference.outputs import check_images
from seg_models.inference.scratch import Scratch, logits_into
from seg_models.inference.tile_blending import Blend, TilePlan, TileSpan, add_weighted, ring_runs

__all__ = ["Blend", "Output", "check_tiles", "crop", "join_blocks", "predict_tiled", "tiled_blocks"]

Output = Literal["logits", "labels"]

_MAX_BYTES = 2**29
_BLOCK_BYTES = 2**23  # of one block that is yielded


def predict_tiled(
    model: nn.Module,
    images: Tensor,
    tile: int | Sequence[int] = 512,
    overlap: float = 0.5,
    blend: Blend = "hann",
    output: Output = "logits",
    batch_size: int = 1,
    predict: Predict | None = None,
    *,
    thresholds: Thresholds | None = None,
) -> Tensor:
    """Returns the logits or the labels of images that are predicted tile by tile, without gradients.

    Tiles are placed at steps of `(1 - overlap)` of their size; the last one of a row or column is moved inside the
    image, so it overlaps the one before it more. In overlaps, their logits are averaged:

    - `"hann"`: weights change from one tile to the next on a Hann curve over the middle half of the overlap. The outer
      quarter of the overlap, where a tile sees the least context, has weight 0: for a network with a receptive field
      within that quarter, the result equals that of the whole image.
    - `"constant"`: all tiles have the same weight, as in MONAI's `sliding_window_inference`.

    Memory: the images, the result, and the logits of one pass; for labels also the sums of one row of tiles, at most
    512 MiB or those of one tile, as in `tiled_blocks`.

    Args:
        model: a network in eval mode, as for `predict_whole`.
        images: float (N, C, H, W), normalized RGB if C is 3, on the model's device. Images smaller than a tile are
            predicted whole, and those smaller than the network's minimum size are padded.
        tile: (height, width) of a tile in pixels, or one integer for a square.
        overlap: fraction 0 to below 1 of a tile that overlaps the next one.
        blend: how overlapping tiles are averaged.
        output: `"logits"`, or `"labels"`, which are computed row by row.
        batch_size: number of tiles in one forward pass.
        predict: function that predicts the logits of a batch of tiles, such as `predict_tta`; None predicts them in one
            pass.
        thresholds: for labels of a binary or multilabel task, as in `predict_whole`; they are applied to the averaged
            logits.

    Returns:
        float32 (N, K, H, W), logits (float64 if the network's are); or uint8 (N, H, W), class ids, uint16 for more
        than 256 classes; with `thresholds` uint8 (N, K, H, W), 0 and 1.

    Raises:
        InvalidArgumentError: if an argument is out of range; if the network returns other than logits; for labels if
            it returns NaN, or, without `thresholds`, one channel only, of which every pixel would be class 0.
    """
    size = check_tiles(tile, overlap, blend, batch_size)
    if output not in get_args(Output):
        raise InvalidArgumentError(f"output must be one of {', '.join(get_args(Output))}, got {output!r}")
    check_images(images)
    plan = TilePlan.of((images.shape[-2], images.shape[-1]), size, overlap, blend)
    model = adapt(model)
    logits_of_tiles = functools.partial(logits_into, Scratch(), model)
    if predict is not None:
        logits_of_tiles = functools.partial(predict, model)
    result: Tensor | None = None

    def logits_of(index: int, logits: Tensor) -> Tensor:
        """Returns the memory for the sums of one image: the result itself, so no band of sums is needed."""
        nonlocal result
        if result is None:
            result = logits.new_empty(len(images), logits.shape[1], *images.shape[2:])
        return result[index]

    with torch.no_grad():
        for index, image in enumerate(images):
            read = functools.partial(crop, image)
            if output == "logits":
                for _ in _finished(logits_of_tiles, read, plan, batch_size, functools.partial(logits_of, index)):
                    pass
                continue
            for top, left, logits in _finished(logits_of_tiles, read, plan, batch_size, _MAX_BYTES):
                check_decidable(logits, MULTICLASS if thresholds is None else MULTILABEL)
                labels = argmax_labels(logits) if thresholds is None else threshold_labels(logits, thresholds)
                if result is None:
                    result = labels.new_empty(len(images), *labels.shape[:-2], *images.shape[2:])
                result[index, ..., top : top + labels.shape[-2], left : left + labels.shape[-1]] = labels
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

    The image is read tile by tile, so it need not fit in memory. Only the sums of one row of tiles are kept:
    K x tile height x image width. If these exceed `max_bytes`, the image is processed in groups of neighboring columns,
    each from top to bottom. Tiles that reach into two groups are predicted in both, so every pixel gets all its tiles,
    in the same order, and the result does not depend on the groups (except for rounding in the network, which may
    change with the number of tiles in one pass). Memory: the sums, which take at most `max_bytes` or the logits of one
    tile if that is more; the tiles and logits of one pass; and one block.

    Args:
        predict: takes tiles (n, C, h, w) and returns their logits, float (n, K, h, w); n is at most `batch_size`. It
            runs without gradients.
        read: takes top, left, height and width of a tile, all inside the image, and returns it: (C, height, width).
            It is called once for each tile that is predicted, and never for more than one tile.
        size: height and width of the image in pixels. An image smaller than a tile is predicted whole.
        tile: (height, width) of a tile in pixels, or one integer for a square.
        overlap: fraction 0 to below 1 of a tile that overlaps the next one.
        blend: how overlapping tiles are averaged, as in `predict_tiled`.
        batch_size: number of tiles in one forward pass.
        max_bytes: limit of the sums that are kept.

    Yields:
        (top, left, logits): position of the block, and float32 (K, h, w), float64 if `predict` returns that. Every
        pixel is in one block. Blocks are full rows of a group of columns, at most 8 MiB or one row if that is more;
        each has its own memory.

    Raises:
        InvalidArgumentError: if an argument is out of range, or if `predict` does not return the logits of the tiles.
    """
    tile_size = check_tiles(tile, overlap, blend, batch_size)
    if len(size) != 2 or not all(is_integer(value, 1) for value in size):
        raise InvalidArgumentError(f"size must be the image's (height, width) in pixels above 0, got {size!r}")
    check_integer("max_bytes", max_bytes)
    plan = TilePlan.of((size[0], size[1]), tile_size, overlap, blend)
    return _blocks(predict, read, plan, batch_size, max_bytes)


def join_blocks(blocks: Iterable[tuple[int, int, Tensor]], size: tuple[int, int]) -> Tensor:
    """Returns the logits (K, H, W) of an image of (height, width) `size` from the blocks of `tiled_blocks`."""
    result: Tensor | None = None
    for top, left, block in blocks:
        if tuple(block.shape[-2:]) == size:
            return block
        if result is None:
            result = block.new_empty(block.shape[0], *size)
        result[:, top : top + block.shape[-2], left : left + block.shape[-1]] = block
    assert result is not None
    return result


@torch.no_grad()
def _blocks(
    predict: Callable[[Tensor], Tensor],
    read: Callable[[int, int, int, int], Tensor],
    plan: TilePlan,
    batch_size: int,
    max_bytes: int,
) -> Iterator[tuple[int, int, Tensor]]:
    for top, left, logits in _finished(predict, read, plan, batch_size, max_bytes):
        at_once = max(1, _BLOCK_BYTES // (logits[:, 0].numel() * logits.element_size()))
        for first in range(0, logits.shape[1], at_once):
            yield top + first, left, logits[:, first : first + at_once].clone()


@torch.no_grad()
def _finished(
    predict: Callable[[Tensor], Tensor],
    read: Callable[[int, int, int, int], Tensor],
    plan: TilePlan,
    batch_size: int,
    sums_in: int | Callable[[Tensor], Tensor],
) -> Iterator[tuple[int, int, Tensor]]:
    """Yields top, left and logits (K, h, w) of the pixels that no later tile reaches; valid until the next ones.

    Args:
        predict: as in `tiled_blocks`.
        read: as in `tiled_blocks`.
        plan: the tiles.
        batch_size: number of tiles in one forward pass.
        sums_in: limit in bytes of a band of sums; or a function that takes logits (n, K, h, w) and returns the memory
            for the sums of the whole image, (K, H, W).
    """
    rows, columns = plan.rows, plan.columns
    # the size of the groups depends on the number of classes, known only after the first pass
    first_pass = [_pass(predict, read, plan, 0, range(min(batch_size, len(columns.starts))))]
    like = first_pass[0]
    if isinstance(sums_in, int):
        depth = rows.max_reach()
        groups = columns.groups(sums_in // (like.shape[1] * depth * like.element_size()))
        sums = like.new_empty(like.shape[1], depth, max(right - left for left, right in groups))
    else:
        groups = [(0, columns.length)]
        sums = sums_in(like)
    del like  # otherwise it would stay in memory until the end
    firsts = [*rows.firsts(), rows.length]
    for left, right in groups:
        band = sums[:, :, : right - left]
        tiles = columns.within(left, right)
        for row in range(len(rows.starts)):
            for at in range(0, len(tiles), batch_size):
                chosen = dict(list(tiles.items())[at : at + batch_size])
                # the logits are not bound to a name, so that they are freed before the next ones are computed
                _add_pass(
                    band,
                    left,
                    first_pass.pop() if first_pass else _pass(predict, read, plan, row, list(chosen)),
                    plan,
                    row,
                    chosen,
                )
            for top, end, at in ring_runs(firsts[row], firsts[row + 1], band.shape[1]):
                yield top, left, band[:, at : at + end - top]


def _pass(
    predict: Callable[[Tensor], Tensor],
    read: Callable[[int, int, int, int], Tensor],
    plan: TilePlan,
    row: int,
    columns: Sequence[int],
) -> Tensor:
    """Returns the logits (n, K, h, w) of the tiles of one row in these columns."""
    height, width = plan.rows.size, plan.columns.size
    top = plan.rows.starts[row]
    tiles = [read(top, plan.columns.starts[column], height, width) for column in columns]
    logits = predict(tiles[0][None] if len(tiles) == 1 else torch.stack(tiles))
    if logits.ndim != 4 or not logits.is_floating_point() or logits[:, 0].shape != (len(tiles), height, width):
        raise InvalidArgumentError(
            f"predict must return float logits ({len(tiles)}, K, {height}, {width}) for {len(tiles)} tiles of that "
            f"size, got {logits.dtype} {tuple(logits.shape)}"
        )
    return logits if logits.dtype == torch.float64 else logits.float()


def _add_pass(
    band: Tensor, left: int, logits: Tensor, plan: TilePlan, row: int, tiles: Mapping[int, Sequence[TileSpan]]
) -> None:
    """Adds the weighted logits (n, K, h, w) of tiles of one row to the sums (K, depth, w).

    Args:
        band: the sums, see `add_weighted`.
        left: column of the image where they begin.
        logits: logits of at least as many tiles as `tiles` has; the first ones are used.
        plan: the tiles.
        row: index in `plan.rows`.
        tiles: index of each tile in `plan.columns` -> its spans there.
    """
    for tile, (column, spans) in zip(logits, tiles.items(), strict=False):
        start = (plan.rows.starts[row], plan.columns.starts[column])
        add_weighted(band, left, tile, start, plan.rows.spans[row], spans)


def crop(image: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    """Returns a part (C, height, width) of an image (C, H, W), a view."""
    return image[:, top : top + height, left : left + width]


def check_tiles(tile: int | Sequence[int], overlap: float, blend: Blend, batch_size: int) -> tuple[int, int]:
    """Returns (height, width) of a tile; raises InvalidArgumentError if an option is out of range."""
    values = tuple(tile) if isinstance(tile, Sequence | np.ndarray) else (tile, tile)
    if len(values) != 2 or not all(isinstance(v, Integral) and is_integer(int(v), 1) for v in values):
        raise InvalidArgumentError(f"tile must be (height, width) in pixels above 0, or one integer, got {tile!r}")
    if not is_number(overlap) or not 0 <= overlap < 1:
        raise InvalidArgumentError(f"overlap must be a fraction from 0 to below 1, got {overlap!r}")
    if blend not in get_args(Blend):
        raise InvalidArgumentError(f"blend must be one of {', '.join(get_args(Blend))}, got {blend!r}")
    check_integer("batch_size", batch_size)
    return int(values[0]), int(values[1])
