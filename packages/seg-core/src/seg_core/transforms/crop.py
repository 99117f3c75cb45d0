"""Random crop: resizes, rescales and crops an image and its mask, and sets the tensor type; colors stay."""

from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors

from seg_core.checks import check_integer, is_integer, is_number
from seg_core.errors import InvalidArgumentError
from seg_core.transforms.preprocessing import Preprocessing, as_rgb_tensor, pil_to_rgb, resize_image

__all__ = ["SegmentationTransform"]

# One axis of a crop: source start and length, then destination start and length, in pixels.
_Span = tuple[int, int, int, int]
# factor of the rescale, position along the height, position along the width
_NUM_DRAWS = 3
# maximum number of crops of which `cat_max_ratio` chooses one
_NUM_CROPS = 10
# A mask with ids closer together than this is counted by an array of this length at most.
_ID_RANGE = 2**16


class SegmentationTransform:
    """Converts an image and its mask to tensors and, with `size`, takes a random crop.

    Without `size` the whole image is kept, resized if `resize` says so, and nothing is random. With `size` the image is
    resized, then rescaled by a random factor, and a random crop of that size is taken. The crop is chosen first, in
    source pixels, so that only the pixels inside are resized, and only once: the image by antialiased bilinear
    interpolation, the mask by the nearest pixel of the same crop. If a side of the rescaled image is shorter than the
    crop, the image is placed at random in it and the rest is padded.

    Args:
        size: side of a square or (height, width) of the crop, in pixels; None keeps the whole image.
        mask_fill: id of mask pixels outside of the image, usually the ignored value.
        scale_range: minimum and maximum factor of the rescale, drawn uniformly; None keeps the scale. Needs `size`.
        image_fill: color (red, green, blue) in 0 to 255 outside of the image; the default is ImageNet's mean.
        resize: resize of every image before the random factor, one of `{"shorter_side": 512}`, `{"longer_side": 1024}`,
            `{"size": (512, 1024)}` and `{"scale": 0.5}`, with the meaning that they have in `Preprocessing`; None for
            none.
        cat_max_ratio: maximum fraction of the crop's valid pixels (those other than `mask_fill`) that a single class
            may cover. Of ten random crops at the same scale the first that fulfills it is taken, else the last; without
            a mask, and with 1.0, the first. Needs `size`.

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
        image_fill: Sequence[int] = (124, 116, 104),
        resize: Mapping[str, Any] | None = None,
        cat_max_ratio: float = 1.0,
    ) -> None:
        self.size = _checked_size(size)
        self.scale_range = _checked_scale_range(scale_range)
        if self.scale_range is not None and self.size is None:
            raise InvalidArgumentError(
                f"scale_range needs size, got scale_range={self.scale_range} with size=None; give the size of the crop"
            )
        self.mask_fill = check_integer("mask_fill", mask_fill, minimum=0)
        fill = tuple(image_fill) if isinstance(image_fill, Sequence) else ()
        if len(fill) != 3 or not all(is_integer(v, 0) and v <= 255 for v in fill):
            raise InvalidArgumentError(f"image_fill must be three integers in 0 to 255, got {image_fill!r}")
        self.image_fill = fill
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
            image: PIL image of any 8-bit mode, array (H, W), (H, W, 3) or (H, W, 4), or tensor (3, H, W); uint8 in
                0 to 255 or float in 0 to 1.
            mask: class ids of any integer type: PIL (a palette image gives its indices), array or tensor (H, W) or
                (1, H, W); None without a mask.
            generator: the only source of randomness, on the CPU; torch's default one if None. With `size` a call draws
                three numbers, with `cat_max_ratio` below 1 another eighteen, whatever image and mask are.

        Returns:
            Image: uint8 (3, h, w) in 0 to 255, RGB; its memory may have the channels innermost.
            Mask: (h, w) in the integer type of `mask` (bool becomes uint8), or None.

        Raises:
            InvalidArgumentError: if image or mask is not of the kind above, their sizes differ, or `resize` would make
                the whole image too large.
        """
        height, width = _image_size(image)
        if mask is not None:
            mask = _checked_mask(mask)
            mask_height, mask_width = mask.size[::-1] if isinstance(mask, Image.Image) else mask.shape
            if (mask_height, mask_width) != (height, width):
                raise InvalidArgumentError(
                    f"image and mask must have the same size, got image {height}x{width} and mask "
                    f"{mask_height}x{mask_width} (height x width)"
                )
        rows, columns = self._draw_crop(height, width, mask, generator)
        pixels = _uint8(as_rgb_tensor(_crop(image, rows, columns), origin=(rows[0], columns[0])))
        pixels = resize_image(pixels, (rows[3], columns[3]))
        if self.size is not None:
            pixels = _pad(pixels, self.size, rows, columns, self.image_fill)
        return tv_tensors.Image(pixels), None if mask is None else self._crop_of_mask(mask, rows, columns)

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
        mask = _checked_mask(mask)
        height, width = mask.size[::-1] if isinstance(mask, Image.Image) else mask.shape
        return self._crop_of_mask(mask, *self._draw_crop(height, width, mask, generator))

    def __repr__(self) -> str:
        return (
            f"SegmentationTransform(size={self.size}, mask_fill={self.mask_fill}, scale_range={self.scale_range}, "
            f"image_fill={self.image_fill}, resize={self.resize}, cat_max_ratio={self.cat_max_ratio})"
        )

    def _draw_crop(
        self, height: int, width: int, mask: Image.Image | Tensor | None, generator: torch.Generator | None
    ) -> tuple[_Span, _Span]:
        """Returns the rows and the columns of the crop; without `size` all of them, and nothing is drawn."""
        if self.size is None:
            resized = self._resizing.bounded_size_of(height, width)
            return (0, height, 0, resized[0]), (0, width, 0, resized[1])
        resized = self._resizing.size_of(height, width)
        factor, places = self._draw(generator)
        scaled = [max(1, round(side * factor)) for side in resized]
        crops = [
            (_span(height, scaled[0], self.size[0], y), _span(width, scaled[1], self.size[1], x)) for y, x in places
        ]
        if mask is None:
            return crops[0]
        return next((crop for crop in crops[:-1] if self._is_mixed(mask, *crop)), crops[-1])

    def _is_mixed(self, mask: Image.Image | Tensor, rows: _Span, columns: _Span) -> bool:
        """Returns whether no class covers more of the crop's valid pixels than allowed."""
        most, total = _count(_nearest(_crop_mask(mask, rows, columns), rows, columns), self.mask_fill)
        return total > 0 and most <= self.cat_max_ratio * total

    def _crop_of_mask(self, mask: Image.Image | Tensor, rows: _Span, columns: _Span) -> tv_tensors.Mask:
        tensor = _nearest(_crop_mask(mask, rows, columns), rows, columns)
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

    def _place_mask(self, mask: Tensor, size: tuple[int, int], rows: _Span, columns: _Span) -> Tensor:
        largest = int(torch.iinfo(mask.dtype).max)
        # checked for every mask, not only those that are padded: a run must not fail late and by chance
        if self.mask_fill > largest:
            raise InvalidArgumentError(
                f"mask_fill={self.mask_fill} does not fit into a mask of type {mask.dtype}; choose at most {largest} "
                "or pass masks of a wider type"
            )
        return _pad(mask, size, rows, columns, (self.mask_fill,))


def _span(length: int, rescaled: int, size: int, position: float) -> _Span:
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


def _count(ids: Tensor, ignored: int) -> tuple[int, int]:
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


def _image_size(image: Image.Image | np.ndarray[Any, Any] | Tensor) -> tuple[int, int]:
    """Returns (height, width); `as_rgb_tensor` raises for an image of another kind."""
    if isinstance(image, Image.Image):
        return image.height, image.width
    if isinstance(image, np.ndarray) and image.ndim in (2, 3):
        return image.shape[0], image.shape[1]
    if isinstance(image, Tensor) and image.ndim == 3:
        return image.shape[1], image.shape[2]
    if isinstance(image, Tensor):
        raise InvalidArgumentError(f"image must be one image (3, H, W), got a tensor of shape {tuple(image.shape)}")
    shape = as_rgb_tensor(image).shape
    return shape[-2], shape[-1]


def _crop(
    image: Image.Image | np.ndarray[Any, Any] | Tensor, rows: _Span, columns: _Span
) -> Image.Image | np.ndarray[Any, Any] | Tensor:
    """Returns the source pixels of the crop; cropped before the conversion to a tensor, which is then cheaper."""
    (top, height, _, _), (left, width, _, _) = rows, columns
    if isinstance(image, Image.Image):
        if (width, height) == image.size:
            return image
        # pil_to_rgb checks the mode; a palette is looked up after the crop
        return pil_to_rgb(image.crop((left, top, left + width, top + height)))
    if isinstance(image, np.ndarray):
        return image[top : top + height, left : left + width]
    return image[:, top : top + height, left : left + width]


def _uint8(image: Tensor) -> Tensor:
    if image.dtype == torch.uint8:
        return image
    return image.mul(255).round_().clamp_(0, 255).to(torch.uint8)


def _checked_mask(mask: Image.Image | np.ndarray[Any, Any] | Tensor) -> Image.Image | Tensor:
    """Returns a PIL mask unchanged, and any other as an integer tensor (H, W) of the same type."""
    if isinstance(mask, Image.Image):
        if mask.mode not in ("1", "L", "P", "I") and not mask.mode.startswith("I;16"):
            raise InvalidArgumentError(
                f"mask must hold one class id per pixel, got a PIL image of mode {mask.mode!r}; convert its "
                "colors to ids first"
            )
        return mask
    if isinstance(mask, np.ndarray):
        if mask.dtype != bool and not np.issubdtype(mask.dtype, np.integer):
            raise InvalidArgumentError(f"mask must have an integer type, got {mask.dtype}; convert it first")
        tensor = _from_array(mask)
    elif isinstance(mask, Tensor):
        tensor = mask.as_subclass(Tensor)
        if tensor.is_floating_point() or tensor.is_complex():
            raise InvalidArgumentError(f"mask must have an integer type, got {tensor.dtype}; convert it first")
    else:
        raise InvalidArgumentError(f"mask must be a PIL image, an array or a tensor, got {type(mask).__name__}")
    if tensor.ndim == 3 and tensor.shape[0] == 1:
        tensor = tensor[0]
    if tensor.ndim != 2:
        raise InvalidArgumentError(f"mask must be (height, width), got shape {tuple(tensor.shape)}")
    return tensor


def _crop_mask(mask: Image.Image | Tensor, rows: _Span, columns: _Span) -> Tensor:
    """Returns the source pixels of the crop as an integer tensor (h, w); cropped first, as the image is."""
    (top, height, _, _), (left, width, _, _) = rows, columns
    if isinstance(mask, Image.Image):
        if (width, height) != mask.size:
            mask = mask.crop((left, top, left + width, top + height))
        part = _from_array(np.array(mask))
    else:
        part = mask[top : top + height, left : left + width]
    return part.to(torch.uint8) if part.dtype == torch.bool else part


def _from_array(array: np.ndarray[Any, Any]) -> Tensor:
    """Returns an integer array as a tensor, which shares its memory where torch can."""
    if not array.flags.writeable or any(stride < 0 for stride in array.strides) or not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="), order="C", copy=True)
    return torch.from_numpy(array)


def _nearest(part: Tensor, rows: _Span, columns: _Span) -> Tensor:
    """Returns `part`, the source pixels of the crop, resized to the pixels that they fill, by the nearest pixel."""
    if rows[1] == rows[3] and columns[1] == columns[3]:
        return part
    if part.device.type == "cpu":  # numpy indexes rows and columns several times faster than torch
        taken = part.numpy().take(_nearest_indices(rows), axis=0).take(_nearest_indices(columns), axis=1)
        return torch.from_numpy(taken)
    y, x = (torch.from_numpy(_nearest_indices(span)).to(part.device) for span in (rows, columns))
    return part.index_select(0, y).index_select(1, x)


def _nearest_indices(span: _Span) -> np.ndarray[Any, Any]:
    """Returns the source pixel that holds the center of each destination pixel, in exact integer arithmetic."""
    _, source, _, destination = span
    return (2 * np.arange(destination) + 1) * source // (2 * destination)


def _pad(part: Tensor, size: tuple[int, int], rows: _Span, columns: _Span, fill: Sequence[int]) -> Tensor:
    """Returns `part` (..., h, w) padded to `size` with one number per channel."""
    if part.shape[-2:] == size:
        resized = (rows[1], columns[1]) != (rows[3], columns[3])
        return part if resized else part.clone()  # not a view of the caller's image
    if part.ndim == 3 and part.stride(0) == 1:  # channels innermost, as read
        padded = part.new_empty((*size, 3)).permute(2, 0, 1)
    else:
        padded = part.new_empty((*part.shape[:-2], *size))
    padded.copy_(torch.tensor(fill).reshape(-1, *[1] * (part.ndim - 1)))
    padded[..., rows[2] : rows[2] + rows[3], columns[2] : columns[2] + columns[3]] = part
    return padded


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
