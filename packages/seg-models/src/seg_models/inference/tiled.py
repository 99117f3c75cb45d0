"""Prediction of large images in overlapping windows, of which one row at a time is held."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from seg_core.argmax import argmax_labels
from seg_core.errors import InvalidArgumentError

__all__ = ["Blend", "Output", "predict_tiled", "window_starts"]

Blend = Literal["hann", "constant"]
Output = Literal["logits", "labels"]


def predict_tiled(
    model: nn.Module,
    images: Tensor,
    tile: int | Sequence[int] = 512,
    overlap: float = 0.5,
    blend: Blend = "hann",
    output: Output = "logits",
    batch_size: int = 1,
) -> Tensor:
    """Returns the logits or the labels of images that are predicted window by window, without gradients.

    Windows stand side by side at distances of `(1 - overlap)` of their size; the last of a row or column is moved
    inside, so that it overlaps the one before it more. Where windows overlap, their logits are averaged:

    - `"hann"`: from one window to the next the weights change over the middle half of their overlap, on a Hann curve.
      The outer quarter of it, where a window knows least of what is around, counts nothing: for a network that looks no
      further than that the result is that of the whole image.
    - `"constant"`: all windows weigh the same, as in MONAI's `sliding_window_inference`.

    Beside the images and the result, one row of windows is held, however many there are.

    Args:
        model: a network as the builders make it, in eval mode.
        images: float (N, C, H, W), normalised RGB where C is 3, on the model's device. Smaller ones than a window are
            predicted whole.
        tile: (height, width) of a window in pixels, or one number for a square; at least the network's `min_size`.
        overlap: share 0 to below 1 of a window that overlaps the next one.
        blend: how overlapping windows are joined.
        output: `"logits"`, or `"labels"`, which are taken row by row.
        batch_size: windows in one pass through the network.

    Returns:
        float32 (N, K, H, W), logits (float64 where the network's are); or uint8 (N, H, W), class ids, uint16 for more
        than 256 classes.

    Raises:
        InvalidArgumentError: if an argument is out of range.
    """
    size = _as_size(tile)
    if not 0 <= overlap < 1:
        raise InvalidArgumentError(f"overlap must be a share from 0 to below 1, got {overlap!r}")
    if blend not in get_args(Blend):
        raise InvalidArgumentError(f"blend must be one of {', '.join(get_args(Blend))}, got {blend!r}")
    if output not in get_args(Output):
        raise InvalidArgumentError(f"output must be one of {', '.join(get_args(Output))}, got {output!r}")
    if type(batch_size) is not int or batch_size < 1:
        raise InvalidArgumentError(f"batch_size must be a number of windows from 1 on, got {batch_size!r}")
    if images.ndim != 4 or not images.is_floating_point():
        raise InvalidArgumentError(
            f"images must be float (N, C, H, W), normalised, got {images.dtype} {tuple(images.shape)}"
        )
    result: Tensor | None = None
    with torch.inference_mode():
        for index, image in enumerate(images):
            top = 0
            for band in _finished_bands(model, image, size, overlap, blend, batch_size):
                part = argmax_labels(band) if output == "labels" else band
                if result is None:
                    result = part.new_empty(len(images), *part.shape[:-2], *images.shape[2:])
                result[index, ..., top : top + part.shape[-2], :] = part
                top += part.shape[-2]
    if result is None:
        raise InvalidArgumentError("images must hold at least one image, got none")
    return result


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


def _finished_bands(
    model: nn.Module, image: Tensor, size: tuple[int, int], overlap: float, blend: Blend, batch_size: int
) -> Iterator[Tensor]:
    """Yields the logits (K, h, W) of the rows that no later window reaches, from the top on."""
    height, width = min(size[0], image.shape[-2]), min(size[1], image.shape[-1])
    rows = window_starts(image.shape[-2], height, overlap)
    columns = window_starts(image.shape[-1], width, overlap)
    down = _weights(rows, height, blend, image.device)
    across = _weights(columns, width, blend, image.device)
    total: Tensor | None = None
    weight: Tensor | None = None
    for place, row in enumerate(rows):
        for first in range(0, len(columns), batch_size):
            chosen = columns[first : first + batch_size]
            windows = torch.stack([image[:, row : row + height, left : left + width] for left in chosen])
            logits = model(windows)["out"]
            logits = logits if logits.dtype == torch.float64 else logits.float()
            if total is None:
                total = logits.new_zeros(logits.shape[1], height, image.shape[-1])
                weight = logits.new_zeros(height, image.shape[-1])
            assert weight is not None
            for number, left in enumerate(chosen, start=first):
                factors = (down[place][:, None] * across[number]).to(logits.dtype)
                total[:, :, left : left + width] += logits[number - first] * factors
                weight[:, left : left + width] += factors
        assert total is not None
        assert weight is not None
        end = rows[place + 1] if place + 1 < len(rows) else row + height
        done = end - row
        yield total[:, :done] / weight[:done]
        if done < height:  # what the next row of windows adds to moves up
            kept = height - done
            total[:, :kept] = total[:, done:].clone()
            weight[:kept] = weight[done:].clone()
            total[:, kept:] = 0
            weight[kept:] = 0
        else:
            total.zero_()
            weight.zero_()


def _weights(starts: Sequence[int], size: int, blend: Blend, device: torch.device) -> list[Tensor]:
    """Returns the weights of each window along one axis, (size,); next to the edge of the image they do not fall."""
    places = torch.arange(size, dtype=torch.float32, device=device) + 0.5
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
        return (places > 0).float()
    ramp = ((places / shared - 0.25) * 2).clamp(0, 1)
    return torch.sin(ramp * (math.pi / 2)).square()


def _as_size(tile: int | Sequence[int]) -> tuple[int, int]:
    values = (tile, tile) if isinstance(tile, int) else tuple(tile)
    if len(values) != 2 or not all(type(value) is int and value > 0 for value in values):
        raise InvalidArgumentError(f"tile must be (height, width) in pixels above 0, or one number, got {tile!r}")
    return values[0], values[1]
