"""Label maps as colors, alone and blended over their images. Figures are in `seg_core.plots.figures`."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from seg_core.errors import InvalidArgumentError, LabelOutOfRangeError, list_ids
from seg_core.labels.channels import RGB_CHANNELS, ImageChannels
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.tasks import MULTICLASS, MULTILABEL
from seg_core.plots.legend import add_legend, hatching
from seg_core.transforms.image_tensors import as_image_tensor

__all__ = [
    "ImageLike",
    "Labels",
    "colorize",
    "has_ignored",
    "image_array",
    "label_ids",
    "overlay",
    "seen_classes",
]

ImageLike = Image.Image | npt.NDArray[Any] | Tensor
Labels = npt.NDArray[Any] | Tensor


def colorize(labels: Labels, metadata: DatasetMetadata) -> npt.NDArray[np.uint8]:
    """Returns a label map in the colors of its classes; pixels of no class of a binary or multilabel task are black.

    Args:
        labels: (H, W) class ids of any integer type; `ignore_index` for pixels without a class. Of a binary task 0
            and 1; of a multilabel task planes (K, H, W) of 0 and 1, or boolean ones: where classes overlap the result
            is the mean of their colors.
        metadata: colors of the classes; ignored pixels get its `ignore_color`, which of planes are those that all
            planes ignore.

    Returns:
        uint8 (H, W, 3), RGB; for OpenCV, which expects BGR, write `np.ascontiguousarray(result[..., ::-1])`.

    Raises:
        LabelOutOfRangeError: if an id is neither a class nor the ignored value.
        InvalidArgumentError: if `labels` is not an integer map.
    """
    ids = _checked_labels(labels, metadata)
    if metadata.task == MULTILABEL:
        return _mean_colors(ids, metadata)
    table = np.zeros((max(metadata.num_ids, metadata.ignore_index + 1), 3), dtype=np.uint8)
    first = metadata.num_ids - metadata.num_classes  # 1 in a binary task, whose id 0 is the background
    table[first : metadata.num_ids] = metadata.colors
    table[metadata.ignore_index] = metadata.ignore_color
    return table.take(ids, axis=0)


def overlay(
    image: ImageLike,
    labels: Labels,
    metadata: DatasetMetadata,
    alpha: float = 0.5,
    *,
    contours: bool = False,
    legend: bool | Sequence[str] = False,
    hatch_ignored: bool = False,
    channels: ImageChannels | None = None,
) -> npt.NDArray[np.uint8]:
    """Returns an image with the colors of its classes blended over it; ignored pixels show the image alone.

    Pixels of no class of a binary or multilabel task show the image alone too.

    Args:
        image: PIL image, array (H, W, 3) or tensor (3, H, W); RGB; uint8 in 0 to 255 or float in 0 to 1. Of other
            channels array (H, W, C) or tensor (C, H, W), in the unit of their range; see `image_array`.
        labels: (H, W) class ids, or planes, as in `colorize`.
        metadata: colors of the classes.
        alpha: weight of the colors, 0 (image alone) to 1 (colors alone).
        contours: whether regions are outlined in the colors of their classes, 1 to 3 pixels wide by the size of the
            image; with `alpha=0` the outlines alone are drawn. Those of planes are drawn in the order of the classes.
        legend: whether the classes that occur are named in a strip below the image. Names of classes give these, in
            this order; then all images of one size give results of one size, as a video needs. See `add_legend`.
        hatch_ignored: whether ignored pixels are hatched in gray, with the weight `alpha`, instead of showing the image
            alone.
        channels: the channels of the image; by default those of the metadata. `RGB_CHANNELS` for an image that is RGB
            already, of a dataset of other channels.

    Returns:
        uint8 (H, W, 3), RGB; for OpenCV, which expects BGR, write `np.ascontiguousarray(result[..., ::-1])`. With
        a legend it is higher, and wider if the names need it.

    Raises:
        LabelOutOfRangeError: if an id is neither a class nor the ignored value.
        UnknownNameError: if `legend` holds a name that no class has.
        InvalidArgumentError: if the sizes differ or an argument is not allowed.
    """
    if not isinstance(alpha, Real) or not 0 <= alpha <= 1:
        raise InvalidArgumentError(f"alpha must be between 0 and 1, got {alpha!r}")
    listed = _legend_ids(legend, metadata)
    pixels = image_array(image, metadata.channels if channels is None else channels)
    colors = colorize(labels, metadata)
    if pixels.shape != colors.shape:
        raise InvalidArgumentError(
            f"image and labels must have the same size, got image {pixels.shape[0]}x{pixels.shape[1]} and labels "
            f"{colors.shape[0]}x{colors.shape[1]} (height x width)"
        )
    ids = label_ids(labels)
    # 8-bit fixed point: a float image would take four times the memory
    weight = round(alpha * 256)
    mixed = (pixels.astype(np.uint16) * (256 - weight) + colors.astype(np.uint16) * weight + 128) >> 8
    result: npt.NDArray[np.uint8] = mixed.astype(np.uint8)
    if contours and metadata.task != MULTILABEL:
        lines = _outlines(ids)
        result[lines] = colors[lines]
    ignored = _ignored(ids, metadata)
    plain = ignored if metadata.task == MULTICLASS else ~(ids.reshape(-1, *ids.shape[-2:]) == 1).any(0)
    result[plain] = pixels[plain]
    if contours and metadata.task == MULTILABEL:
        for plane, color in zip(ids, metadata.colors, strict=True):
            result[_outlines(plane == 1) & (plane == 1)] = color
    if hatch_ignored:
        stripes = hatching(*ids.shape[-2:]).astype(np.uint16)
        result[ignored] = ((pixels.astype(np.uint16) * (256 - weight) + stripes * weight + 128) >> 8)[ignored]
    if listed is None:
        listed = seen_classes(labels, metadata)
    return add_legend(result, listed, metadata)


def seen_classes(labels: Labels, metadata: DatasetMetadata) -> list[int]:
    """Returns the indices of the classes that occur in labels, as `colorize` takes them."""
    ids = label_ids(labels)
    if metadata.task == MULTICLASS:
        return [i for i in np.unique(ids).tolist() if i != metadata.ignore_index]
    return [i for i, plane in enumerate(ids.reshape(-1, *ids.shape[-2:])) if (plane == 1).any()]


def has_ignored(labels: Labels, metadata: DatasetMetadata) -> bool:
    """Returns whether labels have ignored pixels; of planes those that all of them ignore."""
    return bool(_ignored(label_ids(labels), metadata).any())


def _ignored(ids: npt.NDArray[Any], metadata: DatasetMetadata) -> npt.NDArray[np.bool_]:
    """Returns which pixels are ignored, bool (H, W)."""
    ignored: npt.NDArray[np.bool_] = ids == metadata.ignore_index
    if metadata.task == MULTILABEL:
        ignored = np.logical_and.reduce(ignored, 0)
    return ignored


def _mean_colors(planes: npt.NDArray[Any], metadata: DatasetMetadata) -> npt.NDArray[np.uint8]:
    """Returns the mean color of the classes of each pixel, uint8 (H, W, 3)."""
    shape = planes.shape[-2:]
    total, count = np.zeros((*shape, 3), np.uint32), np.zeros(shape, np.uint32)
    for plane, color in zip(planes, metadata.colors, strict=True):
        is_class = plane == 1
        total[is_class] += np.array(color, np.uint32)
        count += is_class
    result = (total // np.maximum(count, 1)[..., None]).astype(np.uint8)
    result[_ignored(planes, metadata)] = metadata.ignore_color
    return result


def _legend_ids(legend: bool | Sequence[str], metadata: DatasetMetadata) -> list[int] | None:
    """Returns the classes of a legend; None for those that occur."""
    if isinstance(legend, bool):
        return None if legend else []
    if isinstance(legend, str) or not isinstance(legend, Sequence):
        raise InvalidArgumentError(f"legend must be True, False or a list of class names, got {legend!r}")
    return [metadata.class_id(name) for name in legend]


def _outlines(ids: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Returns which pixels are within the outline's width of another id in their row or column, bool (H, W)."""
    width = min(max(round(math.sqrt(ids.size) / 400), 1), 3)
    lines = np.zeros(ids.shape, np.bool_)
    for distance in range(1, width + 1):
        for one, other in (
            (np.s_[distance:], np.s_[:-distance]),
            (np.s_[:, distance:], np.s_[:, :-distance]),
        ):
            differ = ids[one] != ids[other]
            lines[one] |= differ
            lines[other] |= differ
    return lines


def image_array(image: ImageLike, channels: ImageChannels = RGB_CHANNELS) -> npt.NDArray[np.uint8]:
    """Returns an image as it is shown, uint8 (H, W, 3).

    Of other channels than three of 8 bits `channels.shown` are shown as red, green and blue, and one channel as gray.
    Their range becomes 0 to 255, and values beyond it are clipped; colors are not stretched to the values of the image,
    so that images of a dataset remain comparable.

    Args:
        image: as in `overlay`.
        channels: the channels of the image.

    Raises:
        InvalidArgumentError: if it is not one image of these channels.
    """
    pixels = as_image_tensor(image, channels)
    if pixels.ndim != 3:
        raise InvalidArgumentError(
            f"an image must be one image ({channels.count}, H, W), got shape {tuple(pixels.shape)}"
        )
    if not channels.is_rgb8:
        pixels = torch.stack([_shown(pixels[i], channels.ranges[i]) for i in channels.shown])
    elif pixels.dtype != torch.uint8:
        pixels = pixels.mul(255).round_().clamp_(0, 255).to(torch.uint8)
    return pixels.permute(1, 2, 0).cpu().numpy()


def _shown(plane: Tensor, ends: tuple[float, float]) -> Tensor:
    """Returns one channel (H, W) as uint8: 0 at the low end of the range, 255 at the high end."""
    low, high = ends
    return plane.to(torch.float32, copy=True).sub_(low).mul_(255 / (high - low)).round_().clamp_(0, 255).to(torch.uint8)


def label_ids(labels: Labels) -> npt.NDArray[Any]:
    """Returns class ids as an array, on the CPU.

    Raises:
        InvalidArgumentError: if they are a tensor of bfloat16, which has no array.
    """
    if isinstance(labels, Tensor) and labels.dtype == torch.bfloat16:
        raise InvalidArgumentError(f"labels must be integers, got {labels.dtype}; convert them first")
    return labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)


def _checked_labels(labels: Labels, metadata: DatasetMetadata) -> npt.NDArray[Any]:
    ids = label_ids(labels)
    if metadata.task == MULTICLASS:
        if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer):
            raise InvalidArgumentError(f"labels must be integers (H, W), got {ids.dtype} of shape {ids.shape}")
    else:
        planes = metadata.task == MULTILABEL
        fits = ids.ndim == 3 and len(ids) == metadata.num_classes if planes else ids.ndim == 2
        if not fits or not (np.issubdtype(ids.dtype, np.integer) or ids.dtype == np.bool_):
            expected = f"({metadata.num_classes}, H, W)" if planes else "(H, W)"
            raise InvalidArgumentError(
                f"labels of a {metadata.task} task must be 0 and 1, {expected}, got {ids.dtype} of shape {ids.shape}"
            )
        ids = ids.view(np.uint8) if ids.dtype == np.bool_ else ids
    wrong = ((ids < 0) | (ids >= metadata.num_ids)) & (ids != metadata.ignore_index)
    if wrong.any():
        values, counts = np.unique(ids[wrong], return_counts=True)
        raise LabelOutOfRangeError(
            f"labels hold ids outside of {metadata.name}: {list_ids(values, counts)}; allowed are 0 "
            f"to {metadata.num_ids - 1} and {metadata.ignore_index} (ignored). Map raw ids with a LabelMap first"
        )
    return ids
