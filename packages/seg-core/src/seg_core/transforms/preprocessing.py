"""Preprocessing of a network's input: image size and normalization, stored with weights and in model files."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from seg_core.checks import is_integer, is_number
from seg_core.errors import InvalidArgumentError, nearest
from seg_core.labels.channels import RGB_CHANNELS, ImageChannels
from seg_core.transforms.antialiased import resize_by_strips
from seg_core.transforms.image_tensors import as_image_tensor, as_rgb_tensor

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "RESIZE_FORMS",
    "Preprocessing",
    "as_image_tensor",
    "as_rgb_tensor",
    "channel_numbers",
    "mean_or_std",
    "normalize",
    "resize_image",
    "value_scale",
]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Defaults of `Preprocessing`, of which an object that is the default is told apart from equal numbers that are given.
_IMAGENET = {"mean": tuple(map(float, IMAGENET_MEAN)), "std": tuple(map(float, IMAGENET_STD))}

# A resize beyond this many pixels is most likely a mistake.
_MOST_ENLARGED = 2**26
_LARGEST_SCALE = 100
_LONGEST_SIDE = 2**20  # pixels
_LARGEST_NUMBER = 1e6  # of means and standard deviations, and the inverse of the smallest standard deviation

RESIZE_FORMS = ("scale", "shorter_side", "longer_side", "size")


@dataclass(frozen=True)
class Preprocessing:
    """Converts images to network inputs: an antialiased bilinear resize, then normalization.

    It is plain data, so that weights entries and model files can hold it. At most one of the four resize options may be
    given; without one each image keeps its size.

    Attributes:
        mean: mean of each channel (by default red, green, blue), of values in 0 to 1; by default that of `channels`,
            else ImageNet's for three channels of 8 bits.
        std: standard deviation of each channel, of values in 0 to 1; by default as `mean`.
        scale: factor of height and width.
        shorter_side: length in pixels that the shorter side gets (the longer one follows, rounded down as in
            torchvision).
        longer_side: length in pixels that the longer side gets (the shorter one follows, rounded down, at least 1).
        size: (height, width) in pixels that every image gets, whatever its aspect ratio.
        channels: the channels of the images. Not a part of `to_dict`: in a model file they stand in its metadata.

    Raises:
        InvalidArgumentError: if a value is not allowed, or more than one resize option is given.
    """

    mean: tuple[float, ...] = _IMAGENET["mean"]
    std: tuple[float, ...] = _IMAGENET["std"]
    scale: float | None = None
    shorter_side: int | None = None
    longer_side: int | None = None
    size: tuple[int, int] | None = None
    channels: ImageChannels = RGB_CHANNELS

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            given = getattr(self, name)
            numbers = mean_or_std(name, None if given is _IMAGENET[name] else given, self.channels)
            object.__setattr__(self, name, numbers)
        given = {form: value for form in RESIZE_FORMS if (value := getattr(self, form)) is not None}
        if len(given) > 1:
            raise InvalidArgumentError(
                f"{' and '.join(given)} exclude each other, got "
                f"{', '.join(f'{form}={value!r}' for form, value in given.items())}; give one of them"
            )
        if self.scale is not None and not (is_number(self.scale) and self.scale > 0):
            raise InvalidArgumentError(f"scale must be a factor above 0 or None, got {self.scale!r}")
        if self.scale is not None and not 1 / _LARGEST_SCALE <= self.scale <= _LARGEST_SCALE:
            raise InvalidArgumentError(
                f"scale must be a factor from {1 / _LARGEST_SCALE:g} to {_LARGEST_SCALE}, got {self.scale!r}"
            )
        for name in ("shorter_side", "longer_side"):
            side = getattr(self, name)
            if side is not None and not is_integer(side, 1):
                raise InvalidArgumentError(f"{name} must be pixels, an integer >= 1, or None, got {side!r}")
            if side is not None and side > _LONGEST_SIDE:
                raise InvalidArgumentError(f"{name} must be at most {_LONGEST_SIDE:,} pixels, got {side!r}")
        if self.size is not None:
            is_pair = isinstance(self.size, list | tuple) and len(self.size) == 2
            if not (is_pair and all(is_integer(side, 1) for side in self.size)):
                raise InvalidArgumentError(
                    f"size must be (height, width) in pixels, two integers >= 1, or None, got {self.size!r}"
                )
            if max(self.size) > _LONGEST_SIDE:
                raise InvalidArgumentError(f"size must be at most {_LONGEST_SIDE:,} pixels a side, got {self.size!r}")
            object.__setattr__(self, "size", (self.size[0], self.size[1]))

    @property
    def resize(self) -> dict[str, Any]:
        """The resize option as a table, such as `{"scale": 0.5}` or `{"size": [512, 1024]}`; `{}` for none."""
        given = {form: getattr(self, form) for form in RESIZE_FORMS if getattr(self, form) is not None}
        if given.get("scale") == 1:
            return {}
        return {form: list(value) if isinstance(value, tuple) else value for form, value in given.items()}

    def with_resize(self, resize: Mapping[str, Any]) -> "Preprocessing":
        """Returns the same normalization with another resize.

        Args:
            resize: a table like `resize`; `{}` for none.

        Raises:
            InvalidArgumentError: if it is not such a table.
        """
        if not isinstance(resize, Mapping) or len(resize) > 1 or not all(form in RESIZE_FORMS for form in resize):
            hint = "".join(nearest(str(form), RESIZE_FORMS) for form in resize) if isinstance(resize, Mapping) else ""
            raise InvalidArgumentError(
                f"resize must be one of {{scale = 0.5}}, {{shorter_side = 512}}, {{longer_side = 1024}} and "
                f"{{size = [512, 1024]}}, got {resize!r}.{hint}"
            )
        return replace(self, **{**dict.fromkeys(RESIZE_FORMS), **resize})

    def for_channels(self, channels: ImageChannels) -> "Preprocessing":
        """Returns the same resize for images of other channels, normalized as these say.

        Without `mean` and `std` of the channels those of this object stay, if their number fits.

        Args:
            channels: the channels of the images.

        Raises:
            InvalidArgumentError: if `mean` or `std` is not known.
        """
        mean = self.mean if channels.mean is None else channels.mean
        std = self.std if channels.std is None else channels.std
        return replace(self, mean=mean, std=std, channels=channels)

    def __call__(self, image: Image.Image | np.ndarray[Any, Any] | Tensor) -> Tensor:
        """Returns a batch of network inputs.

        Args:
            image: one image (PIL of any 8-bit mode; array (H, W), (H, W, 1) or (H, W, 3); tensor (3, H, W)) or a batch
                (tensor (N, 3, H, W)). uint8 in 0 to 255 or float in 0 to 1. With other `channels` as described at
                `as_image_tensor`.

        Returns:
            float32 (N, C, h, w), normalized, on the image's device.

        Raises:
            InvalidArgumentError: if `image` is not of a kind described above.
        """
        images = as_image_tensor(image, self.channels)
        if images.ndim == 3:
            images = images[None]
        height, width = images.shape[-2:]
        images = resize_image(images, self.size_of(height, width))
        return self.normalize(images)

    def normalize(self, images: Tensor, out: Tensor | None = None) -> Tensor:
        """Returns images scaled from the range of the channels to 0 to 1, then normalized; see `normalize`."""
        return normalize(images, self.mean, self.std, out, self.channels)

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """Returns the (height, width) of the network's input for an image of this size."""
        if self.size is not None:
            return self.size
        if self.scale is not None:
            return max(1, round(height * self.scale)), max(1, round(width * self.scale))
        if self.shorter_side is not None:
            shorter = min(height, width)
            # integer division: a float quotient could fall just below an integer
            return height * self.shorter_side // shorter, width * self.shorter_side // shorter
        if self.longer_side is not None:
            longer = max(height, width)
            return max(1, height * self.longer_side // longer), max(1, width * self.longer_side // longer)
        return height, width

    def bounded_size_of(self, height: int, width: int) -> tuple[int, int]:
        """Returns `size_of`, if a whole image of this size may be resized so.

        Raises:
            InvalidArgumentError: if the result would be too large.
        """
        size = self.size_of(height, width)
        if size[0] * size[1] > max(_MOST_ENLARGED, height * width):
            raise InvalidArgumentError(
                f"the resize {self.resize} would enlarge an image of {height}x{width} pixels (height x width) to "
                f"{size[0]}x{size[1]}; choose a smaller one, or none"
            )
        return size

    def to_dict(self) -> dict[str, Any]:
        """Returns plain lists and numbers, for JSON and `torch.load(weights_only=True)`; without `channels`."""
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        del plain["channels"]
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], channels: ImageChannels = RGB_CHANNELS) -> "Preprocessing":
        """Returns the object from a mapping like that of `to_dict`; a missing key gets its default.

        Args:
            values: the mapping.
            channels: the channels of the images.

        Raises:
            InvalidArgumentError: if a key is unknown or a value is not allowed.
        """
        known = [field.name for field in fields(cls) if field.name != "channels"]
        for key in values:
            if key not in known:
                raise InvalidArgumentError(
                    f"unknown key {key!r} of a preprocessing.{nearest(str(key), known)} Known: {', '.join(known)}"
                )
        return cls(**values, channels=channels)


def resize_image(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns images resized by antialiased bilinear interpolation, in their type.

    Args:
        images: uint8, uint16 or float32 (C, H, W) or (N, C, H, W).
        size: (height, width) in pixels.

    Returns:
        Same type and number of axes, (C, h, w) or (N, C, h, w); integers are rounded.
    """
    if images.shape[-2:] == size:
        return images
    if images.ndim == 3:
        return resize_image(images[None], size)[0]
    if images.dtype == torch.uint8 and images.device.type == "cpu":
        # torch's integer kernel is several times faster with channels innermost
        images = images.contiguous(memory_format=torch.channels_last)
        return F.interpolate(images, size, mode="bilinear", antialias=True)
    if images.dtype == torch.uint16 and images.device.type == "cpu":
        return resize_by_strips(images, size)
    resized = F.interpolate(images.float(), size, mode="bilinear", antialias=True)
    if images.is_floating_point():
        return resized
    # other devices have no integer kernel, and 16 bits none at all
    return resized.round_().clamp_(0, torch.iinfo(images.dtype).max).to(images.dtype)


def normalize(
    images: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    out: Tensor | None = None,
    channels: ImageChannels = RGB_CHANNELS,
) -> Tensor:
    """Returns `(values - mean) / std` for values in 0 to 1: uint8 colors are divided by 255 first.

    Values of other channels are first scaled from their range to 0 to 1.

    Args:
        images: (C, H, W) or (N, C, H, W): colors as uint8 in 0 to 255 or float in 0 to 1; other channels as uint8,
            uint16 or float in the unit of their range.
        mean: one number per channel.
        std: one number per channel.
        out: tensor to write into, float32 of the shape and memory format of `images`; None for a new one.
        channels: the channels of the images.

    Returns:
        `out`, or the new tensor.

    Raises:
        InvalidArgumentError: if `images` is no tensor of this kind.
    """
    _check_values(images, channels)
    lows, widths = value_scale(images.dtype, channels)
    factors = [1 / (width * s) for width, s in zip(widths, std, strict=True)]
    offsets = [m / s + low * f for low, m, s, f in zip(lows, mean, std, factors, strict=True)]
    factor, offset = (torch.tensor(numbers, device=images.device) for numbers in (factors, offsets))
    # converted first: an operation on mixed types costs several times the conversion
    floats = images.to(torch.float32, copy=True) if out is None else out.copy_(images)
    innermost = floats.movedim(-3, -1)  # (..., H, W, C)
    if innermost.is_contiguous():  # whole rows at a time: a loop over few channels would be slow
        width = innermost.shape[-2]
        innermost.flatten(-2).mul_(factor.repeat(width)).sub_(offset.repeat(width))
        return floats
    return floats.mul_(factor[:, None, None]).sub_(offset[:, None, None])


def _check_values(images: Tensor, channels: ImageChannels) -> None:
    """Raises InvalidArgumentError if `images` are not values that `normalize` takes."""
    if not isinstance(images, Tensor):
        raise InvalidArgumentError(
            f"images must be a tensor, got {type(images).__name__}; SegmentationTransform and Predictor convert images"
        )
    if images.ndim not in (3, 4) or images.shape[-3] != channels.count:
        axes = f"({channels.count}, H, W) or (N, {channels.count}, H, W)"
        raise InvalidArgumentError(f"images must be {axes}, got shape {tuple(images.shape)}")
    is_known = images.dtype == torch.uint8 or (images.dtype == torch.uint16 and not channels.is_rgb8)
    if not (is_known or images.is_floating_point()):
        allowed = "uint8 in 0 to 255 or float in 0 to 1" if channels.is_rgb8 else "uint8, uint16 or float"
        raise InvalidArgumentError(f"images must be {allowed}, got {images.dtype}; convert them first")


def value_scale(dtype: torch.dtype, channels: ImageChannels) -> tuple[list[float], list[float]]:
    """Returns the low end and the width of the range of each channel, of the values of a number type.

    Colors of 8 bits are in 0 to 255 as uint8, and in 0 to 1 as floats.
    """
    if channels.is_rgb8:
        return [0.0] * 3, [255.0 if dtype == torch.uint8 else 1.0] * 3
    return [low for low, _ in channels.ranges], [high - low for low, high in channels.ranges]


def mean_or_std(name: str, given: Sequence[float] | None, channels: ImageChannels) -> tuple[float, ...]:
    """Returns the mean or the standard deviation of each channel.

    Args:
        name: `"mean"` or `"std"`.
        given: the numbers; None for those of the channels, or ImageNet's for three channels of 8 bits.
        channels: the channels of the images.

    Raises:
        InvalidArgumentError: if the numbers are not known, or not one per channel.
    """
    numbers = getattr(channels, name) if given is None else given
    if numbers is None and not (channels.count == 3 and channels.is_bytes):
        raise InvalidArgumentError(
            f"{name} is not known for the {channels}: give {name}, one number per channel, of values scaled to 0 "
            f"to 1, or give the channels a {name} (`seg datasets stats` measures it)"
        )
    found = channel_numbers(name, _IMAGENET[name] if numbers is None else numbers, channels, positive=name == "std")
    least = 1 / _LARGEST_NUMBER if name == "std" else -_LARGEST_NUMBER
    if not all(least <= number <= _LARGEST_NUMBER for number in found):
        raise InvalidArgumentError(
            f"{name} must be of values scaled to 0 to 1, from {least:g} to {_LARGEST_NUMBER:g}, got {found!r}"
        )
    return found


def channel_numbers(
    name: str, values: Any, channels: ImageChannels = RGB_CHANNELS, *, positive: bool = False
) -> tuple[float, ...]:
    """Returns `values` as floats, one per channel.

    Raises:
        InvalidArgumentError: if they are not finite numbers, one per channel, or `positive` and one is not above 0.
    """
    is_list = isinstance(values, Sequence) and not isinstance(values, str) and len(values) == channels.count
    if is_list and all(is_number(v) and (v > 0 or not positive) for v in values):
        return tuple(map(float, values))
    above = " above 0" if positive else ""
    number = "three" if channels.count == 3 else str(channels.count)
    of = "" if channels.is_rgb8 else f" ({', '.join(channels.names)})"
    raise InvalidArgumentError(
        f"{name} must be {number} number{'s' if channels.count > 1 else ''}{above}, one per channel{of}, got {values!r}"
    )
