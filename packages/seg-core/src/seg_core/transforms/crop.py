"""Random crop: resizes, rescales and crops an image and its mask, and sets the tensor type; colors stay."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors

from seg_core.checks import check_integer, is_integer, is_number
from seg_core.errors import InvalidArgumentError
from seg_core.labels.channels import RGB_CHANNELS, ImageChannels
from seg_core.labels.tasks import MULTICLASS, MULTILABEL, check_task
from seg_core.transforms.crop_parts import (
    ImageLike,
    MaskLike,
    Span,
    checked_mask,
    count_classes,
    count_planes,
    crop_image,
    crop_mask,
    image_size,
    image_tensor,
    nearest_pixels,
    pad,
    span_of,
)
from seg_core.transforms.preprocessing import Preprocessing, channel_numbers, resize_image

__all__ = ["SegmentationTransform"]

# ImageNet's mean color
_MEAN_COLOR = (124, 116, 104)
# factor of the rescale, position along the height, position along the width
_NUM_DRAWS = 3
# maximum number of crops of which `cat_max_ratio` chooses one
_NUM_CROPS = 10


class SegmentationTransform:
    """Converts an image and its mask to tensors and, with `size`, takes a random crop.

    Without `size` the whole image is kept, resized if `resize` says so, and nothing is random. With `size` the image is
    resized, then rescaled by a random factor, and a random crop of that size is taken. The crop is chosen first, in
    source pixels, so that only the pixels inside are resized, and only once: the image by antialiased bilinear
    interpolation, the mask by the nearest pixel of the same crop. If a side of the rescaled image is shorter than the
    crop, the image is placed at random in it and the rest is padded.

    An image has three channels of 8 bits, or those that `channels` describes: then all of them are kept, in the type
    (uint8, uint16 or float32) and the unit of the file.

    Args:
        size: side of a square or (height, width) of the crop, in pixels; None keeps the whole image.
        mask_fill: id of mask pixels outside of the image, usually the ignored value.
        scale_range: minimum and maximum factor of the rescale, drawn uniformly; None keeps the scale. Needs `size`.
        image_fill: color (red, green, blue) in 0 to 255 outside of the image; the default is ImageNet's mean. Of other
            channels one number each, in the unit of their range, rounded for images of integers; the default is
            `channels.fill`: the mean, or the low end of the range if it is not known.
        resize: resize of every image before the random factor, one of `{"shorter_side": 512}`, `{"longer_side": 1024}`,
            `{"size": (512, 1024)}` and `{"scale": 0.5}`, with the meaning that they have in `Preprocessing`; None for
            none.
        cat_max_ratio: maximum fraction of the crop's valid pixels (those other than `mask_fill`) that a single class
            may cover. Of ten random crops at the same scale the first that fulfills it is taken, else the last; without
            a mask, and with 1.0, the first. Needs `size`.
        channels: the channels of the images; `metadata.channels` of a dataset.
        task: `metadata.task` of a dataset. Masks are (H, W) of ids; with `"multilabel"` they are (K, H, W), a plane of
            0, 1 and `mask_fill` per class, which all get the same crop. `cat_max_ratio` then limits the fraction of
            each class, which may overlap.

    Raises:
        InvalidArgumentError: if an argument is not allowed.

    Example:
        >>> transform = SegmentationTransform(512, scale_range=(0.5, 2.0), resize={"shorter_side": 512})
        >>> image, mask = np.zeros((300, 400, 3), np.uint8), np.zeros((300, 400), np.uint8)
        >>> image, mask = transform(image, mask, generator=torch.Generator().manual_seed(0))
        >>> image.shape, mask.shape
        (torch.Size([3, 512, 512]), torch.Size([512, 512]))
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        mask_fill: int = 255,
        scale_range: Sequence[float] | None = None,
        image_fill: Sequence[float] | None = None,
        resize: Mapping[str, Any] | None = None,
        cat_max_ratio: float = 1.0,
        channels: ImageChannels = RGB_CHANNELS,
        task: str = MULTICLASS,
    ) -> None:
        self.task = check_task(task)
        self.size = _checked_size(size)
        self.scale_range = _checked_scale_range(scale_range)
        if self.scale_range is not None and self.size is None:
            raise InvalidArgumentError(
                f"scale_range needs size, got scale_range={self.scale_range} with size=None; give the size of the crop"
            )
        self.mask_fill = check_integer("mask_fill", mask_fill, minimum=0)
        self.channels = channels
        self.image_fill = _checked_fill(image_fill, channels)
        self._resizing = Preprocessing().with_resize({} if resize is None else resize)
        self.resize = self._resizing.resize or None
        if not is_number(cat_max_ratio) or not 0 < cat_max_ratio <= 1:
            raise InvalidArgumentError(
                f"cat_max_ratio must be a fraction above 0 and at most 1 (1 allows every crop), got {cat_max_ratio!r}"
            )
        self.cat_max_ratio = float(cat_max_ratio)
        if self.cat_max_ratio < 1 and self.size is None:
            raise InvalidArgumentError(
                f"cat_max_ratio needs size, got cat_max_ratio={self.cat_max_ratio} with size=None; give the size of "
                "the crop, or leave cat_max_ratio out"
            )

    @overload
    def __call__(
        self,
        image: Image.Image | np.ndarray[Any, Any] | Tensor,
        mask: None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> tuple[tv_tensors.Image, None]: ...
    @overload
    def __call__(
        self,
        image: Image.Image | np.ndarray[Any, Any] | Tensor,
        mask: Image.Image | np.ndarray[Any, Any] | Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> tuple[tv_tensors.Image, tv_tensors.Mask]: ...
    def __call__(
        self,
        image: Image.Image | np.ndarray[Any, Any] | Tensor,
        mask: Image.Image | np.ndarray[Any, Any] | Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> tuple[tv_tensors.Image, tv_tensors.Mask | None]:
        """Returns the transformed image and mask.

        Args:
            image: PIL image of any 8-bit mode, array (H, W) or (H, W, 3), or tensor (3, H, W); uint8 in 0 to 255 or
                float in 0 to 1. Of other channels array (H, W, C) or tensor (C, H, W), in the unit of their range:
                uint8, uint16 or float; other integers become float32.
            mask: class ids of any integer type: PIL (a palette image gives its indices), array or tensor (H, W) or
                (1, H, W); None without a mask. Of a multilabel task array or tensor (K, H, W).
            generator: the only source of randomness, on the CPU; torch's default one if None. With `size` a call draws
                three numbers, with `cat_max_ratio` below 1 another eighteen, whatever image and mask are.

        Returns:
            Image: uint8 (3, h, w) in 0 to 255, RGB; its memory may have the channels innermost. Of other channels
                (C, h, w), uint8, uint16 or float32, in the unit of their range.
            Mask: (h, w), of a multilabel task (K, h, w), in the integer type of `mask` (bool becomes uint8), or None.

        Raises:
            InvalidArgumentError: if image or mask is not of the kind above, their sizes differ, or `resize` would make
                the whole image too large.
        """
        height, width = image_size(image, self.channels)
        if mask is not None:
            mask = checked_mask(mask, self.task)
            mask_height, mask_width = _size_of(mask)
            if (mask_height, mask_width) != (height, width):
                raise InvalidArgumentError(
                    f"image and mask must have the same size, got image {height}x{width} and mask "
                    f"{mask_height}x{mask_width} (height x width)"
                )
        rows, columns = self._draw_crop(height, width, _crops_of(mask), generator)
        part = crop_image(image, rows, columns, self.channels)
        return self._image(part, rows, columns), None if mask is None else self._crop_of_mask(mask, rows, columns)

    def read_crop(
        self,
        height: int,
        width: int,
        read: Callable[[int, int, int, int], tuple[ImageLike, MaskLike | None]],
        *,
        read_mask: Callable[[int, int, int, int], MaskLike] | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[tv_tensors.Image, tv_tensors.Mask | None]:
        """Returns what `__call__` returns for the whole image and an equal generator, but reads the crop alone.

        This suits images that are much larger than a crop, of files that are read in windows. Without `size` all is
        read.

        Args:
            height: height of the whole image, in pixels.
            width: width of the whole image, in pixels.
            read: takes top, left, height and width of a part of the image, and returns the part of the image and that
                of its mask, or None, of the kinds that `__call__` accepts; called once.
            read_mask: takes the same, and returns the part of the mask. `cat_max_ratio` below 1 needs it, to choose
                one of ten crops by their masks. If `read` returns no mask, it is taken from here.
            generator: as in `__call__`.

        Returns:
            As in `__call__`.

        Raises:
            InvalidArgumentError: if a side is not an integer >= 1, what was read has another size or is not of a kind
                that `__call__` accepts, or `read_mask` is needed.
        """
        check_integer("height", height, minimum=1)
        check_integer("width", width, minimum=1)

        def mask_crop(rows: Span, columns: Span) -> Tensor:
            assert read_mask is not None
            part = checked_mask(read_mask(rows[0], columns[0], rows[1], columns[1]), self.task)
            _check_part("read_mask", "mask", _size_of(part), rows, columns)
            return _whole(part)

        crops = None if read_mask is None else mask_crop
        rows, columns = self._draw_crop(height, width, crops, generator)
        image, mask = read(rows[0], columns[0], rows[1], columns[1])
        _check_part("read", "image", image_size(image, self.channels), rows, columns)
        if mask is None:
            ids = None if crops is None else crops(rows, columns)
        else:
            mask = checked_mask(mask, self.task)
            _check_part("read", "mask", _size_of(mask), rows, columns)
            ids = _whole(mask)
            if crops is None and self.cat_max_ratio < 1:
                raise InvalidArgumentError(
                    f"cat_max_ratio={self.cat_max_ratio} chooses a crop by its mask: give read_mask, a function that "
                    "returns a part of the mask, or leave cat_max_ratio out"
                )
        return self._image(image, rows, columns), None if ids is None else self._placed(ids, rows, columns)

    def transform_mask(
        self, mask: Image.Image | np.ndarray[Any, Any] | Tensor, *, generator: torch.Generator | None = None
    ) -> tv_tensors.Mask:
        """Returns the mask that `__call__` returns for an equal generator, at a fraction of the cost.

        This allows inspecting a crop before the image is resized.

        Args:
            mask: as in `__call__`.
            generator: as in `__call__`.

        Raises:
            InvalidArgumentError: if the mask is not of a kind that `__call__` accepts.
        """
        mask = checked_mask(mask, self.task)
        return self._crop_of_mask(mask, *self._draw_crop(*_size_of(mask), _crops_of(mask), generator))

    def __repr__(self) -> str:
        others = "" if self.channels == RGB_CHANNELS else f", channels={self.channels!r}"
        others += "" if self.task == MULTICLASS else f", task={self.task!r}"
        return (
            f"SegmentationTransform(size={self.size}, mask_fill={self.mask_fill}, scale_range={self.scale_range}, "
            f"image_fill={self.image_fill}, resize={self.resize}, cat_max_ratio={self.cat_max_ratio}{others})"
        )

    def _draw_crop(
        self, height: int, width: int, mask_crop: "_MaskCrop | None", generator: torch.Generator | None
    ) -> tuple[Span, Span]:
        """Returns the rows and the columns of the crop; without `size` all of them, and nothing is drawn."""
        if self.size is None:
            resized = self._resizing.bounded_size_of(height, width)
            return (0, height, 0, resized[0]), (0, width, 0, resized[1])
        resized = self._resizing.size_of(height, width)
        factor, places = self._draw(generator)
        scaled = [max(1, round(side * factor)) for side in resized]
        crops = [
            (span_of(height, scaled[0], self.size[0], y), span_of(width, scaled[1], self.size[1], x)) for y, x in places
        ]
        if mask_crop is None:
            return crops[0]
        return next((crop for crop in crops[:-1] if self._is_mixed(mask_crop(*crop), *crop)), crops[-1])

    def _is_mixed(self, part: Tensor, rows: Span, columns: Span) -> bool:
        """Returns whether no class covers more of the crop's valid pixels than allowed."""
        count = count_planes if self.task == MULTILABEL else count_classes
        most, total = count(nearest_pixels(part, rows, columns), self.mask_fill)
        return total > 0 and most <= self.cat_max_ratio * total

    def _image(self, part: ImageLike, rows: Span, columns: Span) -> tv_tensors.Image:
        pixels = image_tensor(part, rows, columns, self.channels)
        pixels = resize_image(pixels, (rows[3], columns[3]))
        if self.size is not None:
            pixels = pad(pixels, self.size, rows, columns, self.image_fill)
        return tv_tensors.Image(pixels)

    def _crop_of_mask(self, mask: Image.Image | Tensor, rows: Span, columns: Span) -> tv_tensors.Mask:
        return self._placed(crop_mask(mask, rows, columns), rows, columns)

    def _placed(self, part: Tensor, rows: Span, columns: Span) -> tv_tensors.Mask:
        tensor = nearest_pixels(part, rows, columns)
        if self.size is not None:
            tensor = self._place_mask(tensor, self.size, rows, columns)
        return tv_tensors.Mask(tensor)

    def _draw(self, generator: torch.Generator | None) -> tuple[float, list[list[float]]]:
        """Returns the factor, and (y, x) in 0 to 1 of each crop to choose from.

        The first crop is the same with and without `cat_max_ratio`.
        """
        if generator is not None and generator.device.type != "cpu":
            raise InvalidArgumentError(f"generator must be on the CPU, got one on {generator.device}")
        u, *place = torch.rand(_NUM_DRAWS, generator=generator).tolist()
        low, high = self.scale_range or (1.0, 1.0)
        places = [place]
        if self.cat_max_ratio < 1:
            places += torch.rand((_NUM_CROPS - 1, 2), generator=generator).tolist()
        return low + (high - low) * u, places

    def _place_mask(self, mask: Tensor, size: tuple[int, int], rows: Span, columns: Span) -> Tensor:
        largest = int(torch.iinfo(mask.dtype).max)
        # checked for every mask, not only those that are padded: a run must not fail late and by chance
        if self.mask_fill > largest:
            raise InvalidArgumentError(
                f"mask_fill={self.mask_fill} does not fit into a mask of type {mask.dtype}; choose at most {largest} "
                "or pass masks of a wider type"
            )
        return pad(mask, size, rows, columns, (self.mask_fill,) * (len(mask) if self.task == MULTILABEL else 1))


_MaskCrop = Callable[[Span, Span], Tensor]


def _crops_of(mask: Image.Image | Tensor | None) -> _MaskCrop | None:
    return None if mask is None else functools.partial(crop_mask, mask)


def _size_of(mask: Image.Image | Tensor) -> tuple[int, int]:
    height, width = mask.size[::-1] if isinstance(mask, Image.Image) else mask.shape[-2:]
    return height, width


def _whole(part: Image.Image | Tensor) -> Tensor:
    height, width = _size_of(part)
    return crop_mask(part, (0, height, 0, height), (0, width, 0, width))


def _check_part(reader: str, kind: str, size: tuple[int, int], rows: Span, columns: Span) -> None:
    if size != (rows[1], columns[1]):
        raise InvalidArgumentError(
            f"{reader}(top={rows[0]}, left={columns[0]}, height={rows[1]}, width={columns[1]}) must return this part "
            f"of the {kind}, got {size[0]}x{size[1]} (height x width)"
        )


def _checked_fill(fill: Any, channels: ImageChannels) -> tuple[float, ...]:
    if not channels.is_rgb8:
        return channels.fill if fill is None else channel_numbers("image_fill", fill, channels)
    if fill is None:
        return _MEAN_COLOR
    color = tuple(fill) if isinstance(fill, Sequence) else ()
    if len(color) != 3 or not all(is_integer(v, 0) and v <= 255 for v in color):
        raise InvalidArgumentError(f"image_fill must be three integers in 0 to 255, got {fill!r}")
    return color


def _checked_size(size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    pair = (size, size) if is_integer(size) else tuple(size) if isinstance(size, Sequence) else ()
    if len(pair) != 2 or not all(is_integer(v, 1) for v in pair):
        raise InvalidArgumentError(f"size must be an integer >= 1 or (height, width) of such, in pixels, got {size!r}")
    return pair[0], pair[1]


def _checked_scale_range(scale_range: Any) -> tuple[float, float] | None:
    if scale_range is None:
        return None
    pair = tuple(scale_range) if isinstance(scale_range, Sequence) else ()
    numbers = len(pair) == 2 and all(map(is_number, pair))
    if not numbers or not 0 < pair[0] <= pair[1]:
        raise InvalidArgumentError(
            f"scale_range must be (smallest, largest) factor with 0 < smallest <= largest, got {scale_range!r}"
        )
    return float(pair[0]), float(pair[1])
