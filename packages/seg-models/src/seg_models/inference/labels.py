"""Labels from low-resolution logits, without the logits at full size.

A bilinearly interpolated value is a weighted mean of the four samples around it. If one class has the largest logit at
all four corners of a cell, it has the largest logit everywhere in the cell. Only the other cells, at the borders of
classes, need to be interpolated. A threshold is the same question between two: the logit of a class, and a constant.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from seg_core.errors import InvalidArgumentError
from seg_core.metrics.argmax import Thresholds, argmax_labels, logit_thresholds

__all__ = ["labels_from_logits"]

# Elements per operation. On a CPU, operations on at most 32,768 elements run in the calling thread, and
# their operands fit in its cache.
_CPU_STRIP, _DEVICE_STRIP = 32_768, 2**22
# Below this many pixels per cell, or above this fraction of border cells, skipping cells costs more than it saves.
_MIN_PIXELS = 4
_MAX_BORDERS = 0.5


@dataclass(frozen=True)
class _Axis:
    """Positions of the pixels of one axis between the samples of the logits.

    Cell c lies between the samples c - 1 and c. The first and the last cell are half cells at the edge of the image,
    where both samples are the same.

    Attributes:
        cell: int64 (n,), cell of each pixel.
        weight: float32 (n,), weight of the second sample, 0 to 1.
        low: int64 (m + 1,), first sample of each cell.
        high: int64 (m + 1,), second sample of each cell.
        start: int64 (m + 1,), first pixel of each cell.
        count: int64 (m + 1,), pixels of each cell.
        align_corners: as in `torch.nn.functional.interpolate`.
    """

    cell: Tensor
    weight: Tensor
    low: Tensor
    high: Tensor
    start: Tensor
    count: Tensor
    align_corners: bool

    @classmethod
    def of(cls, samples: int, pixels: int, align_corners: bool, device: torch.device) -> "_Axis":
        position = torch.arange(pixels, dtype=torch.float64)
        if align_corners:
            position *= (samples - 1) / max(pixels - 1, 1)
        else:
            position = (position + 0.5) * (samples / pixels) - 0.5
        first = position.floor()
        cell = first.long() + 1
        count = torch.bincount(cell, minlength=samples + 1)
        ends = torch.arange(samples + 1)
        low, high = (ends - 1).clamp(min=0), ends.clamp(max=samples - 1)
        tensors = (cell, (position - first).float(), low, high, count.cumsum(0) - count, count)
        cell, weight, low, high, start, count = (tensor.to(device) for tensor in tensors)
        return cls(cell, weight, low, high, start, count, align_corners)


@torch.no_grad()
def labels_from_logits(
    logits: Tensor, size: tuple[int, int], *, align_corners: bool = False, thresholds: Thresholds | None = None
) -> Tensor:
    """Returns the class ids of bilinear upsampling followed by argmax, without the upsampled logits.

    With `thresholds` these are planes of 0 and 1: where the upsampled logit of a class has a sigmoid above its
    threshold.

    Equal to `interpolate(logits, size, mode="bilinear", align_corners=...).argmax(1)` except where two classes are
    equal within float32 rounding; it computes in float32 for logits of any type. Besides the labels and the logits it
    needs a copy of the labels (four bytes per pixel for more than 256 classes) and some MiB. If most cells are borders
    of classes, or the upsampling factor is small, it upsamples a few rows at a time instead.

    Args:
        logits: floating point (N, K, h, w), on any device; 1 to 65536 classes K.
        size: height H and width W of the result, in pixels.
        align_corners: as in `torch.nn.functional.interpolate`.
        thresholds: for binary and multilabel tasks a number above 0 and below 1, for all classes or one per class; None
            for the argmax.

    Returns:
        uint8 (N, H, W) on the same device, class ids; uint16 for more than 256 classes. With `thresholds` uint8 (N, K,
        H, W), 0 and 1.

    Raises:
        InvalidArgumentError: if `logits` has another type or shape, `size` is not positive, or a threshold is not
            allowed.
    """
    if not isinstance(logits, Tensor) or not logits.is_floating_point() or logits.ndim != 4 or not logits.numel():
        seen = f"{logits.dtype} {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise InvalidArgumentError(f"logits must be a floating point tensor (N, K, h, w) with values, got {seen}")
    height, width = size
    if height < 1 or width < 1:
        raise InvalidArgumentError(f"size must be a height and a width of at least 1 pixel, got {tuple(size)}")
    rows = _Axis.of(logits.shape[-2], height, align_corners, logits.device)
    columns = _Axis.of(logits.shape[-1], width, align_corners, logits.device)
    if thresholds is None:
        return torch.stack([_labels(image, rows, columns) for image in logits])
    limits = logit_thresholds(thresholds, logits.shape[1])
    return torch.stack([_planes(image, limits, rows, columns) for image in logits])


def _planes(image: Tensor, limits: list[float], rows: _Axis, columns: _Axis) -> Tensor:
    """Returns where logits (K, h, w) are above the limit of their class, uint8 (K, H, W)."""
    image = image.float()
    # a constant is interpolated to itself, and of two equal logits the first is taken
    both = ((torch.full_like(plane, limit), plane) for plane, limit in zip(image, limits, strict=True))
    return torch.stack([_labels(torch.stack(pair), rows, columns) for pair in both])


def _labels(image: Tensor, rows: _Axis, columns: _Axis) -> Tensor:
    """Returns the labels (H, W) of logits (K, h, w)."""
    corners = argmax_labels(image)
    id_dtype = corners.dtype
    if id_dtype == torch.uint16:  # torch cannot index it
        corners = corners.int()
    upper, lower = corners[rows.low], corners[rows.high]
    first = upper[:, columns.low]
    borders = first != upper[:, columns.high]
    borders |= first != lower[:, columns.low]
    borders |= first != lower[:, columns.high]
    borders &= (rows.count > 0)[:, None] & (columns.count > 0)
    pixels = int(rows.count.max()) * int(columns.count.max())
    height, width = len(rows.cell), len(columns.cell)
    if pixels < _MIN_PIXELS or int(borders.sum()) * pixels > _MAX_BORDERS * height * width:
        return _labels_by_rows(image, rows, columns)
    labels = first[rows.cell][:, columns.cell]
    _fill_borders(labels, image, borders, rows, columns)
    return labels.to(id_dtype)


def _strip(image: Tensor) -> int:
    return _CPU_STRIP if image.device.type == "cpu" else _DEVICE_STRIP


def _fill_borders(labels: Tensor, image: Tensor, borders: Tensor, rows: _Axis, columns: _Axis) -> None:
    """Computes the pixels of the cells that are True in `borders` (h + 1, w + 1), and writes them into `labels`."""
    num_classes, height, width = image.shape
    max_height, max_width = int(rows.count.max()), int(columns.count.max())
    device = image.device
    rows_of_cell, columns_of_cell = torch.arange(max_height, device=device), torch.arange(max_width, device=device)
    samples, target = image.reshape(num_classes, height * width), labels.view(-1)
    at_once = max(1, _strip(image) // (max_height * max_width))
    for cells in torch.split(borders.nonzero(), at_once):
        y, x = cells.unbind(1)
        # cells with fewer pixels than the largest cell repeat their last pixel
        pixel_y = rows.start[y, None] + torch.minimum(rows_of_cell, rows.count[y, None] - 1)
        pixel_x = columns.start[x, None] + torch.minimum(columns_of_cell, columns.count[x, None] - 1)
        corners = [
            samples.index_select(1, a * width + b).float()[:, :, None]
            for a in (rows.low[y], rows.high[y])
            for b in (columns.low[x], columns.high[x])
        ]
        row_weight = rows.weight[pixel_y]
        left = torch.lerp(corners[0], corners[2], row_weight)  # (K, cells, max_height)
        rest = torch.lerp(corners[1], corners[3], row_weight) - left
        found = _argmax_along(left[..., None], rest[..., None], columns.weight[pixel_x][:, None])
        indices = pixel_y[:, :, None] * labels.shape[1] + pixel_x[:, None]
        target[indices.view(-1)] = found.to(labels.dtype).view(-1)


def _argmax_along(left: Tensor, rest: Tensor, weight: Tensor) -> Tensor:
    """Returns the argmax over the first axis of `left + rest * weight`, computing one class at a time."""
    best = torch.addcmul(left[0], rest[0], weight)
    # torch's uint16 has no arithmetic
    label = torch.zeros_like(best, dtype=torch.uint8 if len(left) <= 256 else torch.int32)
    values, greater = torch.empty_like(best), torch.empty_like(label)
    for index in range(1, len(left)):
        torch.addcmul(left[index], rest[index], weight, out=values)
        # class ids increase, so the largest id that was above all before it is the one of the maximum
        torch.gt(values, best, out=greater)
        torch.maximum(label, greater.mul_(index), out=label)
        torch.maximum(best, values, out=best)
    return label


def _labels_by_rows(image: Tensor, rows: _Axis, columns: _Axis) -> Tensor:
    """Upsamples a few rows at a time and takes their argmax."""
    width = len(columns.cell)
    at_once = max(1, 64 * _strip(image) // (image.shape[0] * width))
    strips = []
    for cell, weight in zip(torch.split(rows.cell, at_once), torch.split(rows.weight, at_once), strict=True):
        upper, lower = image[:, rows.low[cell]].float(), image[:, rows.high[cell]].float()
        samples = torch.lerp(upper, lower, weight[:, None])[None]
        size = (len(cell), width)
        full = F.interpolate(samples, size, mode="bilinear", align_corners=columns.align_corners)
        strips.append(argmax_labels(full[0]))
    return torch.cat(strips)
