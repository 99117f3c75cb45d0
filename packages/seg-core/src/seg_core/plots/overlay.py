"""Label maps as colours, alone and laid over their pictures. Figures are `seg_core.plots.figures`'."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from seg_core.errors import InvalidArgumentError, LabelOutOfRangeError, list_ids
from seg_core.labels.metadata import DatasetMetadata
from seg_core.transforms.preprocessing import as_rgb_tensor

__all__ = ["Labels", "Picture", "colorize", "label_ids", "overlay", "picture_array"]

Picture = Image.Image | npt.NDArray[Any] | Tensor
Labels = npt.NDArray[Any] | Tensor


def colorize(labels: Labels, metadata: DatasetMetadata) -> npt.NDArray[np.uint8]:
    """Returns a label map in the colours of its classes.

    Args:
        labels: (H, W) class ids of any integer type; `ignore_index` for pixels without a class.
        metadata: gives the colours; ignored pixels get its `ignore_color`.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        LabelOutOfRangeError: if an id is neither a class nor the ignored value.
        InvalidArgumentError: if `labels` is not an integer map.
    """
    ids = _checked_labels(labels, metadata)
    table = np.zeros((max(metadata.num_classes, metadata.ignore_index + 1), 3), dtype=np.uint8)
    table[: metadata.num_classes] = metadata.colors
    table[metadata.ignore_index] = metadata.ignore_color
    return table.take(ids, axis=0)


def overlay(image: Picture, labels: Labels, metadata: DatasetMetadata, alpha: float = 0.5) -> npt.NDArray[np.uint8]:
    """Returns a picture with its classes laid over it in colour; ignored pixels show the picture alone.

    Args:
        image: PIL picture, array (H, W, 3) or tensor (3, H, W); uint8 in 0 to 255 or float in 0 to 1.
        labels: (H, W) class ids, as in `colorize`.
        metadata: gives the colours.
        alpha: weight of the colours, 0 (picture alone) to 1 (colours alone).

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        LabelOutOfRangeError: if an id is neither a class nor the ignored value.
        InvalidArgumentError: if the sizes differ or an argument is not allowed.
    """
    if not 0 <= alpha <= 1:
        raise InvalidArgumentError(f"alpha must lie in 0 to 1, got {alpha!r}")
    picture = picture_array(image)
    colors = colorize(labels, metadata)
    if picture.shape != colors.shape:
        raise InvalidArgumentError(
            f"image and labels must have one size, got image {picture.shape[0]}x{picture.shape[1]} and labels "
            f"{colors.shape[0]}x{colors.shape[1]} (height x width)"
        )
    # 8-bit fixed point: a float picture would take four times the memory
    weight = round(alpha * 256)
    mixed = (picture.astype(np.uint16) * (256 - weight) + colors.astype(np.uint16) * weight + 128) >> 8
    ignored = label_ids(labels) == metadata.ignore_index
    result: npt.NDArray[np.uint8] = mixed.astype(np.uint8)
    result[ignored] = picture[ignored]
    return result


def picture_array(image: Picture) -> npt.NDArray[np.uint8]:
    """Returns a picture as uint8 (H, W, 3)."""
    picture = as_rgb_tensor(image)
    if picture.ndim != 3:
        raise InvalidArgumentError(f"an image must be one picture (3, H, W), got shape {tuple(picture.shape)}")
    if picture.dtype != torch.uint8:
        picture = picture.mul(255).round_().clamp_(0, 255).to(torch.uint8)
    array: npt.NDArray[np.uint8] = picture.permute(1, 2, 0).cpu().numpy()
    return array


def label_ids(labels: Labels) -> npt.NDArray[Any]:
    """Returns class ids as an array, on the CPU."""
    return labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)


def _checked_labels(labels: Labels, metadata: DatasetMetadata) -> npt.NDArray[Any]:
    ids = label_ids(labels)
    if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer):
        raise InvalidArgumentError(f"labels must be integers (H, W), got {ids.dtype} of shape {ids.shape}")
    wrong = ((ids < 0) | (ids >= metadata.num_classes)) & (ids != metadata.ignore_index)
    if wrong.any():
        values, counts = np.unique(ids[wrong], return_counts=True)
        raise LabelOutOfRangeError(
            f"labels hold ids outside of {metadata.name}: {list_ids(values, counts)}; allowed are 0 "
            f"to {metadata.num_classes - 1} and {metadata.ignore_index} (ignored). Map raw ids with a LabelMap first"
        )
    return ids
