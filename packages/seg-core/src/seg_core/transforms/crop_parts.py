"""One crop of an image and its mask: which source pixels it takes, which of its pixels they fill, and the rest."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from seg_core.arrays import tensor_of_array
from seg_core.errors import InvalidArgumentError
from seg_core.labels.channels import ImageChannels
from seg_core.labels.tasks import MULTICLASS, MULTILABEL
from seg_core.transforms.image_tensors import as_image_tensor, pil_to_rgb

__all__ = [
    "ImageLike",
    "MaskLike",
    "Span",
    "checked_mask",
    "count_classes",
    "count_planes",
    "crop_image",
    "crop_mask",
    "image_size",
    "image_tensor",
    "nearest_pixels",
    "pad",
    "span_of",
]

ImageLike = Image.Image | np.ndarray[Any, Any] | Tensor
MaskLike = Image.Image | np.ndarray[Any, Any] | Tensor

# One axis of a crop: source start and length, then destination start and length, in pixels.
Span = tuple[int, int, int, int]
# A mask with ids closer together than this is counted by an array of this length at most.
_ID_RANGE = 2**16


def span_of(length: int, rescaled: int, size: int, position: float) -> Span:
    """Returns which source pixels of one axis the crop takes, and which of its pixels they fill.

    Args:
        length: pixels of the image.
        rescaled: pixels of the image after resize and rescale.
        size: pixels of the crop.
        position: 0 to below 1, from the first possible offset to the last.
    """
    if rescaled < size:  # all of the axis, somewhere in the crop
        return 0, length, int(position * (size - rescaled + 1)), rescaled
    source = min(length, max(1, round(size * length / rescaled)))
    return int(position * (length - source + 1)), source, 0, size


def count_planes(planes: Tensor, ignored: int) -> tuple[int, int]:
    """Returns how many pixels the class that covers the most covers, and how many are valid in some plane.

    Args:
        planes: (K, h, w) of any integer type, 0, 1 and `ignored`.
        ignored: value that is neither.
    """
    return int((planes == 1).sum((1, 2)).max()), int((planes != ignored).any(0).sum())


def count_classes(ids: Tensor, ignored: int) -> tuple[int, int]:
    """Returns how many pixels the most frequent class covers, and how many all classes do, without ignored ones.

    Args:
        ids: (h, w) of any integer type.
        ignored: id that is not a class.
    """
    ids = ids.flatten()
    if ids.dtype == torch.uint8:
        counts = torch.bincount(ids, minlength=256)
        if ignored < 256:
            counts[ignored] = 0
    else:
        ids = ids.long()  # few kernels support the wider unsigned types
        ids = ids[ids != ignored]
        if not len(ids):
            return 0, 0
        low, high = (int(bound) for bound in torch.aminmax(ids))
        # to count is many times faster than to sort
        is_narrow = high - low < _ID_RANGE
        counts = torch.bincount(ids - low) if is_narrow else torch.unique(ids, return_counts=True)[1]
    return int(counts.max()), int(counts.sum())


def image_size(image: ImageLike, channels: ImageChannels) -> tuple[int, int]:
    """Returns (height, width); `as_image_tensor` raises for an image of another kind."""
    if isinstance(image, Image.Image):
        return image.height, image.width
    if isinstance(image, np.ndarray) and image.ndim in (2, 3):
        return image.shape[0], image.shape[1]
    if isinstance(image, Tensor) and image.ndim == 3:
        return image.shape[1], image.shape[2]
    if isinstance(image, Tensor):
        raise InvalidArgumentError(
            f"image must be one image ({channels.count}, H, W), got a tensor of shape {tuple(image.shape)}"
        )
    shape = as_image_tensor(image, channels).shape
    return shape[-2], shape[-1]


def crop_image(image: ImageLike, rows: Span, columns: Span, channels: ImageChannels) -> ImageLike:
    """Returns the source pixels of the crop; cropped before the conversion to a tensor, which is then cheaper."""
    (top, height, _, _), (left, width, _, _) = rows, columns
    if isinstance(image, Image.Image):
        if (width, height) == image.size:
            return image
        part = image.crop((left, top, left + width, top + height))
        # pil_to_rgb checks the mode; a palette is looked up after the crop
        return pil_to_rgb(part) if channels.is_rgb8 else part
    if isinstance(image, np.ndarray):
        return image[top : top + height, left : left + width]
    return image[:, top : top + height, left : left + width]


def image_tensor(part: ImageLike, rows: Span, columns: Span, channels: ImageChannels) -> Tensor:
    """Returns the source pixels of the crop as a tensor (C, h, w): colors of 8 bits as uint8, others in their type."""
    pixels = as_image_tensor(part, channels, origin=(rows[0], columns[0]))
    if not channels.is_rgb8:
        # one layout, so that results are the same however the pixels were stored; for integers it makes no difference
        return pixels.contiguous() if pixels.is_floating_point() else pixels
    return pixels if pixels.dtype == torch.uint8 else pixels.mul(255).round_().clamp_(0, 255).to(torch.uint8)


def checked_mask(mask: MaskLike, task: str = MULTICLASS) -> Image.Image | Tensor:
    """Returns a PIL mask unchanged, and any other as an integer tensor (H, W) of the same type.

    Of a multilabel task it is (K, H, W).
    """
    if isinstance(mask, Image.Image):
        if task == MULTILABEL:
            raise InvalidArgumentError(
                "mask of a multilabel task must be an array or a tensor (K, H, W), a plane per class, got a PIL image"
            )
        if mask.mode not in ("1", "L", "P", "I") and not mask.mode.startswith("I;16"):
            raise InvalidArgumentError(
                f"mask must hold one class id per pixel, got a PIL image of mode {mask.mode!r}; convert its "
                "colors to ids first"
            )
        return mask
    if isinstance(mask, np.ndarray):
        if mask.dtype != bool and not np.issubdtype(mask.dtype, np.integer):
            raise InvalidArgumentError(f"mask must have an integer type, got {mask.dtype}; convert it first")
        tensor = tensor_of_array(mask)
    elif isinstance(mask, Tensor):
        tensor = mask.as_subclass(Tensor)
        if tensor.is_floating_point() or tensor.is_complex():
            raise InvalidArgumentError(f"mask must have an integer type, got {tensor.dtype}; convert it first")
    else:
        raise InvalidArgumentError(f"mask must be a PIL image, an array or a tensor, got {type(mask).__name__}")
    if task == MULTILABEL:
        if tensor.ndim != 3 or not tensor.shape[0]:
            raise InvalidArgumentError(
                f"mask of a multilabel task must be (K, height, width), a plane per class, got shape "
                f"{tuple(tensor.shape)}"
            )
        return tensor
    if tensor.ndim == 3 and tensor.shape[0] == 1:
        tensor = tensor[0]
    if tensor.ndim != 2:
        hint = "; a plane per class needs task='multilabel'" if tensor.ndim == 3 else ""
        raise InvalidArgumentError(f"mask must be (height, width), got shape {tuple(tensor.shape)}{hint}")
    return tensor


def crop_mask(mask: Image.Image | Tensor, rows: Span, columns: Span) -> Tensor:
    """Returns the source pixels of the crop as an integer tensor (..., h, w); cropped first, as the image is."""
    (top, height, _, _), (left, width, _, _) = rows, columns
    if isinstance(mask, Image.Image):
        if (width, height) != mask.size:
            mask = mask.crop((left, top, left + width, top + height))
        part = tensor_of_array(np.array(mask))
    else:
        part = mask[..., top : top + height, left : left + width]
    return part.to(torch.uint8) if part.dtype == torch.bool else part


def nearest_pixels(part: Tensor, rows: Span, columns: Span) -> Tensor:
    """Returns `part`, the source pixels of the crop, resized to the pixels that they fill, by the nearest pixel."""
    if rows[1] == rows[3] and columns[1] == columns[3]:
        return part
    if part.device.type == "cpu":  # numpy indexes rows and columns several times faster than torch
        taken = part.numpy().take(_nearest_indices(rows), axis=-2).take(_nearest_indices(columns), axis=-1)
        return torch.from_numpy(taken)
    y, x = (torch.from_numpy(_nearest_indices(span)).to(part.device) for span in (rows, columns))
    return part.index_select(-2, y).index_select(-1, x)


def _nearest_indices(span: Span) -> np.ndarray[Any, Any]:
    """Returns the source pixel that holds the center of each destination pixel, in exact integer arithmetic."""
    _, source, _, destination = span
    return (2 * np.arange(destination) + 1) * source // (2 * destination)


def pad(part: Tensor, size: tuple[int, int], rows: Span, columns: Span, fill: Sequence[float]) -> Tensor:
    """Returns `part` (..., h, w) padded to `size` with one number per channel, rounded to a value of its type."""
    if part.shape[-2:] == size:
        resized = (rows[1], columns[1]) != (rows[3], columns[3])
        return part if resized else part.clone()  # not a view of the caller's image
    if part.ndim == 3 and part.stride(0) == 1:  # channels innermost, as read
        padded = part.new_empty((*size, len(part))).permute(2, 0, 1)
    else:
        padded = part.new_empty((*part.shape[:-2], *size))
    if not part.is_floating_point():
        bounds = torch.iinfo(part.dtype)
        fill = [min(max(round(value), bounds.min), bounds.max) for value in fill]
    padded.copy_(torch.tensor(fill).reshape(-1, *[1] * (part.ndim - 1)))
    padded[..., rows[2] : rows[2] + rows[3], columns[2] : columns[2] + columns[3]] = part
    return padded
