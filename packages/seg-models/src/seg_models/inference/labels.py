"""Labels from logits of low resolution, without the logits of full size.

A bilinear value is a mean of the four values around it. Where one class is the largest at all four corners of a cell,
it is the largest everywhere between them; only in the other cells, at the borders of classes, is there anything to
compute.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from seg_core.errors import InvalidArgumentError
from seg_core.metrics.argmax import argmax_labels

__all__ = ["labels_from_logits"]

# Elements of an operation. On a CPU operations on at most 32,768 run in the calling thread, and
# their operands stay in its cache.
_CPU_STRIP, _DEVICE_STRIP = 32_768, 2**22
# Cells with fewer pixels than this cost more than they save, and so do cells that are mostly borders.
_LEAST_PIXELS = 4
_MOST_BORDERS = 0.5


@dataclass(frozen=True)
class _Axis:
    """Where the pixels of one axis lie between the samples of the logits.

    Cell c lies between the samples c - 1 and c; the first and the last one are half a cell at the image's edge, where
    both are the same sample.

    Attributes:
        cell: int64 (n,), of each pixel.
        share: float32 (n,), of the second sample, 0 to 1.
        low: int64 (m + 1,), first sample of each cell.
        high: int64 (m + 1,), second one.
        start: int64 (m + 1,), first pixel of each cell.
        count: int64 (m + 1,), its pixels.
        align_corners: as in `torch.nn.functional.interpolate`.
    """

    cell: Tensor
    share: Tensor
    low: Tensor
    high: Tensor
    start: Tensor
    count: Tensor
    align_corners: bool

    @classmethod
    def of(cls, samples: int, pixels: int, align_corners: bool, device: torch.device) -> "_Axis":
        place = torch.arange(pixels, dtype=torch.float64)
        if align_corners:
            place *= (samples - 1) / max(pixels - 1, 1)
        else:
            place = (place + 0.5) * (samples / pixels) - 0.5
        first = place.floor()
        cell = first.long() + 1
        count = torch.bincount(cell, minlength=samples + 1)
        ends = torch.arange(samples + 1)
        low, high = (ends - 1).clamp(min=0), ends.clamp(max=samples - 1)
        tensors = (cell, (place - first).float(), low, high, count.cumsum(0) - count, count)
        cell, share, low, high, start, count = (tensor.to(device) for tensor in tensors)
        return cls(cell, share, low, high, start, count, align_corners)


@torch.no_grad()
def labels_from_logits(logits: Tensor, size: tuple[int, int], *, align_corners: bool = False) -> Tensor:
    """Returns the classes that bilinear upsampling and an argmax would give, without the upsampled logits.

    Equal to `interpolate(logits, size, mode="bilinear", align_corners=...).argmax(1)` except where two classes are
    equal within the rounding of float32, in which it computes whatever the type of the logits. Beside labels and logits
    it needs a copy of the former (four bytes a pixel for more than 256 classes) and some MiB. Where few cells agree, or
    pixels are hardly more than samples, it upsamples a few rows at a time.

    Args:
        logits: floating point (N, K, h, w), on any device; 1 to 65536 classes K.
        size: height H and width W of the result, in pixels.
        align_corners: as in `torch.nn.functional.interpolate`.

    Returns:
        uint8 (N, H, W) on the same device, class ids; uint16 for more than 256 classes.

    Raises:
        InvalidArgumentError: if `logits` has another type or shape, or `size` is not positive.
    """
    if not isinstance(logits, Tensor) or not logits.is_floating_point() or logits.ndim != 4 or not logits.numel():
        seen = f"{logits.dtype} {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise InvalidArgumentError(f"logits must be a floating point tensor (N, K, h, w) with values, got {seen}")
    height, width = size
    if height < 1 or width < 1:
        raise InvalidArgumentError(f"size must be a height and a width of at least 1 pixel, got {tuple(size)}")
    rows = _Axis.of(logits.shape[-2], height, align_corners, logits.device)
    columns = _Axis.of(logits.shape[-1], width, align_corners, logits.device)
    return torch.stack([_labels(image, rows, columns) for image in logits])


def _labels(image: Tensor, rows: _Axis, columns: _Axis) -> Tensor:
    """Returns the labels (H, W) of logits (K, h, w)."""
    corners = argmax_labels(image)
    kind = corners.dtype
    if kind == torch.uint16:  # torch cannot index it
        corners = corners.int()
    upper, lower = corners[rows.low], corners[rows.high]
    first = upper[:, columns.low]
    borders = first != upper[:, columns.high]
    borders |= first != lower[:, columns.low]
    borders |= first != lower[:, columns.high]
    borders &= (rows.count > 0)[:, None] & (columns.count > 0)
    pixels = int(rows.count.max()) * int(columns.count.max())
    height, width = len(rows.cell), len(columns.cell)
    if pixels < _LEAST_PIXELS or int(borders.sum()) * pixels > _MOST_BORDERS * height * width:
        return _labels_by_rows(image, rows, columns)
    labels = first[rows.cell][:, columns.cell]
    _fill_borders(labels, image, borders, rows, columns)
    return labels.to(kind)


def _strip(image: Tensor) -> int:
    return _CPU_STRIP if image.device.type == "cpu" else _DEVICE_STRIP


def _fill_borders(labels: Tensor, image: Tensor, borders: Tensor, rows: _Axis, columns: _Axis) -> None:
    """Computes the pixels of the cells that `borders` (h + 1, w + 1) names, and writes them into `labels`."""
    num_classes, height, width = image.shape
    tall, wide = int(rows.count.max()), int(columns.count.max())
    device = image.device
    down, right = torch.arange(tall, device=device), torch.arange(wide, device=device)
    samples, target = image.reshape(num_classes, height * width), labels.view(-1)
    at_once = max(1, _strip(image) // (tall * wide))
    for cells in torch.split(borders.nonzero(), at_once):
        y, x = cells.unbind(1)
        # cells of fewer pixels than the largest repeat their last one
        pixel_y = rows.start[y, None] + torch.minimum(down, rows.count[y, None] - 1)
        pixel_x = columns.start[x, None] + torch.minimum(right, columns.count[x, None] - 1)
        corners = [
            samples.index_select(1, a * width + b).float()[:, :, None]
            for a in (rows.low[y], rows.high[y])
            for b in (columns.low[x], columns.high[x])
        ]
        weight = rows.share[pixel_y]
        left = torch.lerp(corners[0], corners[2], weight)  # (K, cells, tall)
        rest = torch.lerp(corners[1], corners[3], weight) - left
        found = _argmax_along(left[..., None], rest[..., None], columns.share[pixel_x][:, None])
        places = pixel_y[:, :, None] * labels.shape[1] + pixel_x[:, None]
        target[places.view(-1)] = found.to(labels.dtype).view(-1)


def _argmax_along(left: Tensor, rest: Tensor, share: Tensor) -> Tensor:
    """Returns the argmax over the first axis of `left + rest * share`, of which one class at a time is computed."""
    best = torch.addcmul(left[0], rest[0], share)
    # torch's uint16 has no arithmetic
    label = torch.zeros_like(best, dtype=torch.uint8 if len(left) <= 256 else torch.int32)
    values, greater = torch.empty_like(best), torch.empty_like(label)
    for index in range(1, len(left)):
        torch.addcmul(left[index], rest[index], share, out=values)
        # class ids rise, so the largest id that beat all before it is the one of the maximum
        torch.gt(values, best, out=greater)
        torch.maximum(label, greater.mul_(index), out=label)
        torch.maximum(best, values, out=best)
    return label


def _labels_by_rows(image: Tensor, rows: _Axis, columns: _Axis) -> Tensor:
    """Upsamples a few rows at a time and takes the argmax of each lot."""
    width = len(columns.cell)
    at_once = max(1, 64 * _strip(image) // (image.shape[0] * width))
    lots = []
    for cell, share in zip(torch.split(rows.cell, at_once), torch.split(rows.share, at_once), strict=True):
        upper, lower = image[:, rows.low[cell]].float(), image[:, rows.high[cell]].float()
        samples = torch.lerp(upper, lower, share[:, None])[None]
        size = (len(cell), width)
        full = F.interpolate(samples, size, mode="bilinear", align_corners=columns.align_corners)
        lots.append(argmax_labels(full[0]))
    return torch.cat(lots)
