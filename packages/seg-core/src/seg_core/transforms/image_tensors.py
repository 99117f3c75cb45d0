"""Converts images and arrays to tensors with the channels that are described."""

import math
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from seg_core.arrays import tensor_of_array
from seg_core.errors import InvalidArgumentError, InvalidTypeError
from seg_core.files.opening import file_errors
from seg_core.files.rgb import to_rgb
from seg_core.labels.channels import RGB_CHANNELS, ImageChannels

__all__ = ["as_image_tensor", "as_rgb_tensor", "check_unit_range", "pil_to_rgb"]

# Interpolation may overshoot 0 to 1 slightly; images in 0 to 255 or already normalized exceed it by far.
_OVERSHOOT = 0.5


def as_image_tensor(
    image: Image.Image | np.ndarray[Any, Any] | Tensor,
    channels: ImageChannels = RGB_CHANNELS,
    *,
    origin: tuple[int, int] = (0, 0),
    on_device: bool = False,
) -> Tensor:
    """Returns an image as a tensor with the channels that are wanted; nothing is dropped or converted to fewer bits.

    Args:
        image: for three colors of 8 bits as at `as_rgb_tensor`. Of other channels an array (H, W, C), or (H, W) for
            one, or a tensor (C, H, W) or (N, C, H, W) with as many channels; of an integer type or float, in the unit
            of their range; or a PIL image of one gray channel or of mode RGB.
        channels: the channels of the images.
        origin: row and column of the image's first pixel, for messages, if it is a part of a larger image.
        on_device: as at `as_rgb_tensor`.

    Returns:
        (C, H, W) or (N, C, H, W): uint8, uint16 or float32. The memory is that of the argument where no conversion is
        needed.

    Raises:
        InvalidTypeError: if it is neither a PIL image nor an array nor a tensor.
        InvalidArgumentError: if it has other channels, another number type, or values that are NaN or infinite and not
            `channels.nodata`.
    """
    if channels.is_rgb8:
        return as_rgb_tensor(image, origin=origin, on_device=on_device)
    if isinstance(image, Image.Image):
        image = _pil_array(image, channels)
    if isinstance(image, np.ndarray):
        if image.ndim == 2:
            image = image[:, :, None]
        if image.ndim != 3 or image.shape[-1] != channels.count:
            raise InvalidArgumentError(_other_channels(image.shape, channels, "(H, W, C)", image.ndim == 3))
        tensor = tensor_of_array(_image_type(image)).permute(2, 0, 1)
    elif isinstance(image, Tensor):
        tensor = image.detach().as_subclass(Tensor)
        if tensor.ndim not in (3, 4) or tensor.shape[-3] != channels.count:
            raise InvalidArgumentError(_other_channels(tuple(tensor.shape), channels, "(C, H, W)", False))
        if tensor.dtype not in (torch.uint8, torch.uint16, torch.float32):
            if tensor.dtype == torch.bool or tensor.is_complex():
                raise InvalidArgumentError(_wrong_type(tensor.dtype))
            tensor = tensor.float()
    else:
        raise InvalidTypeError(_no_image(image))
    if tensor.shape[-1] == 0 or tensor.shape[-2] == 0:
        raise InvalidArgumentError(f"image has no pixels: height {tensor.shape[-2]}, width {tensor.shape[-1]}")
    channels.check_type(tensor.dtype, "image")
    if tensor.dtype == torch.float32 and (tensor.device.type == "cpu" or on_device):
        low, high = (float(x) for x in torch.aminmax(tensor))  # NaN if there is one
        if not (math.isfinite(low) and math.isfinite(high)):
            raise InvalidArgumentError(_not_finite(tensor, origin, str(channels)))
    return tensor


def as_rgb_tensor(
    image: Image.Image | np.ndarray[Any, Any] | Tensor, *, origin: tuple[int, int] = (0, 0), on_device: bool = False
) -> Tensor:
    """Returns an image as RGB tensor: grayscale is repeated, a palette is looked up, alpha of a PIL image is dropped.

    The fourth channel of an array or a tensor may be anything, and is an error.

    Args:
        image: as in `Preprocessing`. Tensors may have 1 or 3 channels, and any leading batch axis. Floats may have any
            precision and byte order.
        origin: row and column of the image's first pixel, for messages, if it is a part of a larger image.
        on_device: whether values of floats on another device than the CPU are checked too, which waits for the device.

    Returns:
        uint8 (3, H, W) or (N, 3, H, W) in 0 to 255, or float32 of the same shape in 0 to 1. Images and arrays keep
        their memory order (channels innermost), which is torch's fast layout for resizing. The result shares the memory
        of a tensor or array where no conversion is needed.

    Raises:
        InvalidTypeError: if it is neither a PIL image nor an array nor a tensor.
        InvalidArgumentError: if shape, number type or range are not those of an image, or a float is NaN or infinite.
    """
    if isinstance(image, Image.Image):
        # np.array, not asarray: torch needs writable memory
        return torch.from_numpy(np.array(pil_to_rgb(image))).permute(2, 0, 1)
    if isinstance(image, np.ndarray):
        if image.ndim == 2:
            image = image[:, :, None]
        if image.ndim == 3 and image.shape[-1] == 4:
            raise InvalidArgumentError(_fourth_channel("array", image.shape, "image[..., :3]"))
        if image.ndim != 3 or image.shape[-1] not in (1, 3):
            first = image.ndim == 3 and image.shape[0] in (1, 3, 4)
            raise InvalidArgumentError(
                f"an image array must be (height, width) or (height, width, 3), got shape {image.shape}; "
                + ("put its channels last: image.transpose(1, 2, 0)" if first else "a batch is a tensor (N, 3, H, W)")
            )
        if not (image.dtype == np.uint8 or np.issubdtype(image.dtype, np.floating)):
            raise InvalidArgumentError(_wrong_type(image.dtype))
        tensor = tensor_of_array(image).permute(2, 0, 1)
    elif isinstance(image, Tensor):
        tensor = image.detach().as_subclass(Tensor)
        if tensor.ndim in (3, 4) and tensor.shape[-3] == 4:
            raise InvalidArgumentError(_fourth_channel("tensor", tuple(tensor.shape), "image[..., :3, :, :]"))
        if tensor.ndim not in (3, 4) or tensor.shape[-3] not in (1, 3):
            raise InvalidArgumentError(
                f"an image tensor must be (3, H, W) or (N, 3, H, W), got shape {tuple(tensor.shape)}"
            )
    else:
        raise InvalidTypeError(_no_image(image))
    if tensor.shape[-1] == 0 or tensor.shape[-2] == 0:
        raise InvalidArgumentError(f"image has no pixels: height {tensor.shape[-2]}, width {tensor.shape[-1]}")
    if tensor.dtype != torch.uint8:
        if not tensor.is_floating_point():
            raise InvalidArgumentError(_wrong_type(tensor.dtype))
        if tensor.dtype.itemsize == 1:  # float8: torch compares no values of it
            tensor = tensor.float()
        check_unit_range(tensor, origin=origin, on_device=on_device)
        tensor = tensor.float()
    if tensor.shape[-3] == 1:
        return tensor.expand(*tensor.shape[:-3], 3, *tensor.shape[-2:]).contiguous()
    return tensor


def pil_to_rgb(image: Image.Image) -> Image.Image:
    """Returns a PIL image in mode RGB.

    Raises:
        InvalidArgumentError: if it has more than 8 bits per channel: PIL would clip it.
        CorruptFileError: if it comes from a file that is damaged, which PIL decodes when pixels are asked for.
    """
    _load(image)
    if image.mode == "RGB":
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise InvalidArgumentError(
            f"image has PIL mode {image.mode!r} (more than 8 bits per pixel); reduce it to 8 bits first, in the range "
            "that suits the data"
        )
    return to_rgb(image)


def check_unit_range(images: Tensor, *, origin: tuple[int, int] = (0, 0), on_device: bool = False) -> None:
    """Checks that float images are in 0 to 1, with some tolerance.

    Args:
        images: float (..., C, H, W).
        origin: as for `as_rgb_tensor`.
        on_device: whether images on another device than the CPU are checked too, which waits for the device.

    Raises:
        InvalidArgumentError: if a value is NaN, infinite, or clearly not in 0 to 1.
    """
    if (images.device.type != "cpu" and not on_device) or images.numel() == 0:
        return
    low, high = (float(x) for x in torch.aminmax(images))  # NaN if there is one
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InvalidArgumentError(_not_finite(images, origin))
    if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
        raise InvalidArgumentError(
            f"float images must be in 0 to 1, got values from {low:.4g} to {high:.4g}; pass uint8 for 0 to 255, and "
            "pass images before they are normalized"
        )


def _not_finite(images: Tensor, origin: tuple[int, int], allowed: str = "in 0 to 1") -> str:
    """Returns the message for images with a value that is NaN or infinite: where the first one is, by rows."""
    wrong = ~torch.isfinite(images)
    pixels = torch.nonzero(wrong.movedim(-3, -1))
    *batch, row, column, channel = (int(number) for number in pixels[0])
    value = float(images[(*batch, channel, row, column)])
    of_image = f" of image {batch[0]}" if batch else ""
    return (
        f"float images must be finite, {allowed}, got {value} at row {row + origin[0]}, column {column + origin[1]}, "
        f"channel {channel}{of_image} ({int(wrong.any(-3).sum())} such pixels); replace these values first, such as by "
        "numpy.nan_to_num"
    )


def _image_type(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Returns an array as uint8, uint16 or float32.

    Raises:
        InvalidArgumentError: if it holds no real numbers.
    """
    kind = image.dtype.newbyteorder("=")
    if kind in (np.uint8, np.uint16, np.float32):
        return image
    if not (np.issubdtype(kind, np.integer) or np.issubdtype(kind, np.floating)):
        raise InvalidArgumentError(_wrong_type(image.dtype))
    with np.errstate(over="ignore"):  # infinite in float32, which is refused
        converted = image.astype(np.float32)
    is_wide = image.dtype.kind in "iu" and image.dtype.itemsize > 2
    if is_wide and not np.array_equal(converted.astype(np.float64), image):
        raise InvalidArgumentError(
            f"image holds integers of type {image.dtype} that float32, as which it is read, does not hold exactly; "
            "divide the values, or subtract an offset"
        )
    return converted


def _pil_array(image: Image.Image, channels: ImageChannels) -> np.ndarray[Any, Any]:
    """Returns a PIL image as an array.

    Raises:
        InvalidArgumentError: if its mode has other values than those of the channels: indices, alpha, other colors.
    """
    is_gray = image.mode in ("L", "I", "F") or image.mode.startswith("I;16")
    if not (is_gray if channels.count == 1 else image.mode == "RGB" and channels.count == 3):
        raise InvalidArgumentError(
            f"an image of the {channels} must be an array (H, W, {channels.count}) or a tensor ({channels.count}, H, "
            f"W), got a PIL image of mode {image.mode!r}; convert it to an array, numpy.asarray(image), and choose its "
            "channels"
        )
    _load(image)
    return np.array(image)


def _load(image: Image.Image) -> None:
    with file_errors(str(getattr(image, "filename", "") or "(in memory)"), "image"):
        image.load()


def _fourth_channel(kind: str, shape: tuple[int, ...], of_three: str) -> str:
    return (
        f"an image {kind} of three colors must have 3 channels, or 1 for gray, got 4 in shape {shape}; pass {of_three} "
        "if the fourth is alpha, else declare all four in the channels of the metadata, as in "
        'channels = {"names": ["red", "green", "blue", "nir"]}'
    )


def _other_channels(shape: tuple[int, ...], channels: ImageChannels, axes: str, is_array: bool) -> str:
    place = axes.replace("C", str(channels.count))
    hint = ""
    if is_array and shape[0] == channels.count:
        hint = "; put its channels last: image.transpose(1, 2, 0)"
    return f"an image must be {place}, with the {channels}, got shape {shape}{hint}"


def _no_image(image: Any) -> str:
    return (
        f"image must be a PIL image, a numpy array or a tensor, got {type(image).__name__}; read a file with "
        "seg_core.read_image"
    )


def _wrong_type(dtype: Any) -> str:
    return (
        f"image must be uint8 in 0 to 255 or float in 0 to 1, got {dtype}; convert it first, in the range that suits "
        "the data"
    )
