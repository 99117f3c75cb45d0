"""Augmentation of a training sample or batch, followed by normalization.

Geometry is one warp (`seg_core.transforms.geometry`), color is one matrix (`seg_core.transforms.color`).
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_core.checks import check_integer, is_number
from seg_core.errors import InvalidArgumentError
from seg_core.labels.channels import RGB_CHANNELS, ImageChannels
from seg_core.labels.metadata import check_left_right_pairs
from seg_core.labels.tasks import MULTICLASS, MULTILABEL, check_task
from seg_core.spec import parameters_of
from seg_core.transforms.augment_parts import checked_images, checked_masks
from seg_core.transforms.color import apply_affine_color, color_matrices
from seg_core.transforms.geometry import flip_matrices, perspective_matrices, rotation_matrices, warp
from seg_core.transforms.preprocessing import mean_or_std, normalize

__all__ = ["SegmentationAugment"]

_Generators = torch.Generator | Sequence[torch.Generator] | None
_Range = tuple[float, float]
# Columns of the table of draws, one row of numbers in 0 to 1 per sample. New ones are appended, and drawn only if they
# are needed, so that a generator still produces the same draws.
_HFLIP, _VFLIP, _ROTATION, _ZOOM, _BLUR, _CONTRAST_STRETCH = range(6)
_CORNERS = slice(6, 14)
_JITTER = slice(14, 18)
_NUM_DRAWS = 18
_SHIFT = 18

_NO_JITTER = ((1.0, 1.0), (1.0, 1.0), (1.0, 1.0), (0.0, 0.0))

_BLUR_REACH = 3.0  # standard deviations; less than 0.3 % of a Gaussian is outside
_MIN_SIGMA = 1e-3  # pixels; leaves the image unchanged


class SegmentationAugment:
    """Augments an image and its mask, then normalizes; with all defaults it only normalizes.

    The order is: automatic contrast, brightness shift, color jitter, normalization; flips, perspective, zoom and
    rotation; blur. Image and mask get the same geometry in one warp: the image by bilinear interpolation, the mask by
    the nearest pixel. Pixels outside of the image get the mean color (0 after normalization) and `mask_fill`. Flips
    without other geometry move pixels exactly. All color operations are one matrix per image; values are clipped to the
    range of an image once at the end, where torchvision's operations clip after each step.

    Each sample has its own draws, always the same number whatever the batch and the settings (one more with
    `brightness_shift`): with the same generators a batch equals its samples one by one (bit for bit on a CPU). Draws
    are on the CPU, all other work is on the device of the images.

    Hue and saturation change the channels that are colors, `channels.rgb`; contrast scales these around their mean
    luma. Brightness, contrast, brightness shift and automatic contrast change the other channels too, each by itself:
    contrast scales around the channel's own mean. Only images of three 8-bit channels are clipped to their range; other
    values may lie beyond it, as those of bright clouds do, and stay there.

    Args:
        hflip: probability (0 to 1) of a horizontal flip.
        vflip: probability (0 to 1) of a vertical flip.
        rotation_range: minimum and maximum angle in degrees, counter-clockwise, around the center of the image.
        zoom_range: minimum and maximum factor; above 1 zooms in, below 1 out, which pads the image. Zooming out does
            not antialias; `scale_range` of `SegmentationTransform` does.
        perspective: distortion from 0 to 1: each corner moves inwards by up to this fraction of half the sides, as in
            torchvision's `RandomPerspective`.
        blur: standard deviation of a Gaussian blur in pixels: the maximum (the minimum is 0), or minimum and maximum.
        color_jitter: brightness, contrast, saturation and optionally hue, as arguments of torchvision's `ColorJitter`:
            a number d means factors from 1 - d (at least 0) to 1 + d, for hue from -d to d turns of the color
            circle (at most 0.5); a pair is minimum and maximum. Hue rotates in YIQ, where that is linear and keeps the
            luma; torchvision rotates it in HSV.
        auto_contrast: probability (0 to 1) of stretching each channel to the full range, before the color jitter.
        brightness_shift: number that is added to all channels before the color jitter, as a fraction of the full range:
            a number d means from -d to d; a pair is minimum and maximum. Brightness of `color_jitter` is a factor.
        color_jitter_probability: probability (0 to 1) with which the brightness shift and each of the four parts of the
            color jitter is applied, independently of the others.
        mask_fill: id of mask pixels outside of the image, usually the ignored value.
        mean: mean of each channel, of values scaled to 0 to 1; by default that of `channels`, else ImageNet's for three
            8-bit channels.
        std: standard deviation of each channel, of values scaled to 0 to 1; by default as `mean`.
        left_right_pairs: pairs of class ids for the left and right instance of an object, swapped if an image is
            mirrored (one flip, not both); `left_right_pairs` of the dataset's metadata. Of a multilabel task the planes
            of the two classes are swapped.
        channels: the channels of the images; `metadata.channels` of a dataset.
        task: `metadata.task` of a dataset. With `"multilabel"` a mask is (K, H, W), a plane of 0, 1 and `mask_fill` per
            class; else (H, W) of ids.

    Raises:
        InvalidArgumentError: if an argument is not allowed, or `mean` or `std` is not known.

    Example:
        >>> augment = SegmentationAugment(hflip=0.5, rotation_range=(-10, 10), color_jitter=(0.3, 0.3, 0.3, 0.05))
        >>> images, masks = torch.rand(2, 3, 32, 48), torch.zeros(2, 32, 48, dtype=torch.uint8)
        >>> images, masks = augment(images, masks, generator=torch.Generator().manual_seed(0))
        >>> images.dtype, masks.dtype
        (torch.float32, torch.int64)
    """

    def __init__(
        self,
        hflip: float = 0.0,
        vflip: float = 0.0,
        rotation_range: Sequence[float] = (0.0, 0.0),
        zoom_range: Sequence[float] = (1.0, 1.0),
        perspective: float = 0.0,
        blur: float | Sequence[float] = 0.0,
        color_jitter: Sequence[float | Sequence[float]] = (0.0, 0.0, 0.0, 0.0),
        auto_contrast: float = 0.0,
        mask_fill: int = 255,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        left_right_pairs: Sequence[tuple[int, int]] = (),
        brightness_shift: float | Sequence[float] = 0.0,
        color_jitter_probability: float = 1.0,
        channels: ImageChannels = RGB_CHANNELS,
        task: str = MULTICLASS,
    ) -> None:
        self.task = check_task(task)
        self.hflip = _checked_fraction("hflip", hflip, "a probability")
        self.vflip = _checked_fraction("vflip", vflip, "a probability")
        self.rotation_range = _checked_range("rotation_range", rotation_range, "degrees")
        self.zoom_range = _checked_range(
            "zoom_range", zoom_range, "factors from 0.01 to 100", minimum=0.01, maximum=100
        )
        self.perspective = _checked_fraction("perspective", perspective, "a distortion")
        deviations = (0.0, blur) if is_number(blur) else blur
        self.blur = _checked_range("blur", deviations, "pixels, or one number of at least 0", given=blur, minimum=0)
        self.color_jitter = _checked_jitter(color_jitter)
        self.auto_contrast = _checked_fraction("auto_contrast", auto_contrast, "a probability")
        self.mask_fill = check_integer("mask_fill", mask_fill, minimum=0)
        self.channels = channels
        self.mean = mean_or_std("mean", mean, channels)
        self.std = mean_or_std("std", std, channels)
        self.left_right_pairs = check_left_right_pairs(left_right_pairs)
        shifts = (0.0 - brightness_shift, brightness_shift) if is_number(brightness_shift) else brightness_shift
        self.brightness_shift = _checked_range(
            "brightness_shift", shifts, "-1 to 1, or one number from 0 to 1", brightness_shift, minimum=-1, maximum=1
        )
        self.color_jitter_probability = _checked_fraction(
            "color_jitter_probability", color_jitter_probability, "a probability"
        )
        self._warps = (self.rotation_range, self.zoom_range, self.perspective) != ((0.0, 0.0), (1.0, 1.0), 0.0)
        self._shifts = self.brightness_shift != (0.0, 0.0)
        self._jitters = self.color_jitter != _NO_JITTER or self._shifts
        self._blurs = self.blur != (0.0, 0.0)

    @overload
    def __call__(self, images: Tensor, masks: None = None, *, generator: _Generators = None) -> tuple[Tensor, None]: ...
    @overload
    def __call__(self, images: Tensor, masks: Tensor, *, generator: _Generators = None) -> tuple[Tensor, Tensor]: ...
    @torch.no_grad()
    def __call__(
        self, images: Tensor, masks: Tensor | None = None, *, generator: _Generators = None
    ) -> tuple[Tensor, Tensor | None]:
        """Returns images and masks for networks and losses. The arguments are not changed.

        Args:
            images: (3, H, W) or (N, 3, H, W), RGB; uint8 in 0 to 255 or float in 0 to 1. Of other channels (C, H, W)
                or (N, C, H, W), uint8, uint16 or float, in the unit of their range.
            masks: class ids of any integer type, (H, W) or (1, H, W) for one sample, (N, H, W) or (N, 1, H, W) for a
                batch; of a multilabel task (K, H, W) and (N, K, H, W); None without masks.
            generator: the only source of randomness, on the CPU: one for all samples in their order, or a sequence of
                one per sample; torch's default one if None.

        Returns:
            Images: float32 of the shape, device and memory format of `images`, normalized.
            Masks: int64 (H, W) or (N, H, W), or None. Of a multilabel task (K, H, W) or (N, K, H, W), uint8 if the
                masks are and `mask_fill` fits, since int64 would take eight times the memory of K planes.

        Raises:
            InvalidArgumentError: if types, shapes or the number of generators are not as described above.
        """
        batch = checked_images(images, self.channels)
        labels = (
            None if masks is None else checked_masks(masks, images, self.mask_fill, self.task, self.left_right_pairs)
        )
        draws = _draw(batch.shape[0], generator, _NUM_DRAWS + self._shifts)
        result = torch.empty_like(batch, dtype=torch.float32)
        of_ids = None if self.task == MULTILABEL else torch.int64  # None keeps the type
        ids = None if labels is None else torch.empty_like(labels, dtype=of_ids)
        # without pixels both are complete already
        for part in _parts(batch) if batch.numel() else ():
            moved = self._augment(batch[part], None if labels is None else labels[part], draws[part], result[part])
            if ids is not None and moved is not None:
                ids[part] = moved
        if images.ndim == 3:
            return result[0], None if ids is None else ids[0]
        return result, ids

    def __repr__(self) -> str:
        usual = {"channels": RGB_CHANNELS, "task": MULTICLASS}
        names = [n for n in parameters_of(type(self)) if n not in usual or getattr(self, n) != usual[n]]
        settings = ", ".join(f"{name}={getattr(self, name)}" for name in names)
        return f"SegmentationAugment({settings})"

    def _augment(self, images: Tensor, masks: Tensor | None, draws: Tensor, out: Tensor) -> Tensor | None:
        """Writes the augmented images into `out` and returns their masks."""
        across, down = draws[:, _HFLIP] < self.hflip, draws[:, _VFLIP] < self.vflip
        if masks is not None:
            masks = self._swap_sides(masks, across ^ down)
        if not self._warps:
            images = _flip(images, across, down)
            masks = None if masks is None else _flip(masks, across, down)
        self._recolor(images, draws, out)
        if self._warps:
            moved, masks = warp(out, masks, self._matrices(draws, out, across, down), self.mask_fill)
            out.copy_(moved)
        if self._blurs:
            out.copy_(self._blurred(out, draws))
        return masks

    def _swap_sides(self, masks: Tensor, mirrored: Tensor) -> Tensor:
        """Returns `masks` with the classes of each pair swapped in the samples where `mirrored` (N,) is true."""
        if not self.left_right_pairs or not mirrored.any():
            return masks
        if self.task == MULTILABEL:
            order = [*range(masks.shape[1])]
            for left, right in self.left_right_pairs:
                order[left], order[right] = right, left
            return torch.where(mirrored.to(masks.device)[:, None, None, None], masks[:, order], masks)
        swapped = masks.clone()
        for left, right in self.left_right_pairs:
            swapped.masked_fill_(masks == left, right).masked_fill_(masks == right, left)
        return torch.where(mirrored.to(masks.device)[:, None, None], swapped, masks)

    def _matrices(self, draws: Tensor, images: Tensor, across: Tensor, down: Tensor) -> Tensor:
        """Returns float64 (N, 3, 3), one homography per sample, see `seg_core.transforms.geometry`."""
        matrices = flip_matrices(across, down)
        if self.perspective:
            shifts = self.perspective * draws[:, _CORNERS].view(-1, 4, 2)
            matrices = perspective_matrices(shifts, *images.shape[-2:]) @ matrices
        degrees, zoom = _between(self.rotation_range, draws[:, _ROTATION]), _between(self.zoom_range, draws[:, _ZOOM])
        return rotation_matrices(degrees, zoom) @ matrices

    def _recolor(self, images: Tensor, draws: Tensor, out: Tensor) -> None:
        """Writes `images` into `out` after contrast stretch, color jitter and normalization."""
        stretched = draws[:, _CONTRAST_STRETCH] < self.auto_contrast
        if not self._jitters and not stretched.any():
            normalize(images, self.mean, self.std, out, self.channels)
            return
        factors = self._jitter_of(draws[:, _JITTER], self.color_jitter, unchanged=(1.0, 1.0, 1.0, 0.0))
        matrix, offset = color_matrices(images, factors, stretched, self.channels)
        if self._shifts:
            shift = self._jitter_of(draws[:, _SHIFT:], (self.brightness_shift,), unchanged=(0.0,))
            # gray is only scaled by brightness: contrast and saturation keep it, since its mean is shifted alike
            offset = offset + (factors[:, :1] * shift).to(offset)
        mean, std = (torch.tensor(v, device=images.device) for v in (self.mean, self.std))
        matrix, offset = matrix / std[:, None], (offset - mean) / std
        if not self.channels.is_rgb8:
            low, high = torch.tensor(self.channels.ranges, dtype=torch.float64, device=images.device).unbind(1)
            scaled = matrix.double() / (high - low)
            apply_affine_color(images, scaled.float(), (offset - scaled @ low).float(), out)
            return
        apply_affine_color(
            images,
            matrix / 255 if images.dtype == torch.uint8 else matrix,
            offset,
            out,
            low=[(0 - m) / s for m, s in zip(self.mean, self.std, strict=True)],
            high=[(1 - m) / s for m, s in zip(self.mean, self.std, strict=True)],
        )

    def _jitter_of(self, draws: Tensor, limits: Sequence[_Range], unchanged: Sequence[float]) -> Tensor:
        """Returns float64 (N, K): each draw scaled to its limits, or `unchanged` where it is not applied.

        A draw below the probability p applies its operation; divided by p it is uniform in 0 to 1 again.
        """
        low, high = torch.tensor(limits, dtype=torch.float64).unbind(1)
        p = self.color_jitter_probability
        if p == 1:
            return low + (high - low) * draws
        scaled = low + (high - low) * (draws / (p or 1.0))
        return torch.where(draws < p, scaled, torch.tensor(unchanged, dtype=torch.float64))

    def _blurred(self, images: Tensor, draws: Tensor) -> Tensor:
        """Returns float32 `images` (N, C, H, W) blurred by a Gaussian per sample, with mirrored borders."""
        height, width = images.shape[-2:]
        count = len(images) * self.channels.count
        sigma = _between(self.blur, draws[:, _BLUR]).clamp(min=_MIN_SIGMA)
        reach = math.ceil(min(_BLUR_REACH * self.blur[1], max(height, width)))
        down, across = min(reach, height - 1), min(reach, width - 1)  # the maximum that mirroring can provide
        planes = F.pad(images, (across, across, down, down), mode="reflect").reshape(1, count, height + 2 * down, -1)
        if images.device.type == "cpu":  # several times faster than channel by channel
            planes = planes.contiguous(memory_format=torch.channels_last)
        for taps, shape in ((across, (1, -1)), (down, (-1, 1))):
            distance = torch.arange(-taps, taps + 1, dtype=torch.float64)
            kernels = torch.softmax(-0.5 * (distance / sigma[:, None]) ** 2, 1).to(images.device, torch.float32)
            kernels = kernels.repeat_interleave(self.channels.count, 0).view(count, 1, *shape)
            planes = F.conv2d(planes, kernels, groups=count)
        return planes.view(images.shape)


def _parts(batch: Tensor) -> Iterator[slice]:
    """Yields the samples to process at once: on a CPU one by one.

    There each sample gives the same result whatever the batch, and fits into the cache.
    """
    if batch.device.type != "cpu":
        yield slice(0, len(batch))
    else:
        yield from (slice(i, i + 1) for i in range(len(batch)))


def _draw(num_samples: int, generator: _Generators, count: int) -> Tensor:
    """Returns float64 (num_samples, count) in 0 to below 1, on the CPU: the parameters of each sample."""
    if isinstance(generator, Sequence):
        generators: Sequence[torch.Generator | None] = generator
        if len(generators) != num_samples:
            raise InvalidArgumentError(
                f"generator must be one for all samples or one per sample, got {len(generators)} for {num_samples}"
            )
    else:
        generators = [generator] * num_samples
    for g in generators:
        if g is not None and g.device.type != "cpu":
            raise InvalidArgumentError(f"generator must be on the CPU, got one on {g.device}")
    if not generators:
        return torch.empty(0, count, dtype=torch.float64)
    return torch.stack([torch.rand(count, generator=g) for g in generators]).double()


def _between(limits: _Range, draws: Tensor) -> Tensor:
    """Returns draws in 0 to 1 scaled to `limits`."""
    low, high = limits
    return low + (high - low) * draws


def _flip(batch: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Returns `batch` (N, ..., H, W), flipped left-right where `across` (N,) and top-bottom where `down` (N,)."""
    flips = [[-1] * h + [-2] * v for h, v in zip(across.tolist(), down.tolist(), strict=True)]
    if not any(flips):
        return batch
    flipped = torch.empty_like(batch)  # has the memory format of `batch`, which torch.cat and torch.stack may lose
    # sample by sample: several times faster than torch.where over the whole batch
    for target, source, axes in zip(flipped, batch, flips, strict=True):
        target.copy_(source.flip(axes) if axes else source)
    return flipped


def _checked_fraction(name: str, value: Any, what: str) -> float:
    if not is_number(value) or not 0 <= value <= 1:
        raise InvalidArgumentError(f"{name} must be {what} in 0 to 1, got {value!r}")
    return float(value)


def _checked_range(
    name: str, value: Any, what: str, given: Any = None, minimum: float = -math.inf, maximum: float = math.inf
) -> _Range:
    """Returns `value` as minimum and maximum; `given` is the argument as the user wrote it."""
    pair = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if len(pair) != 2 or not all(is_number(v) for v in pair) or not minimum <= pair[0] <= pair[1] <= maximum:
        raise InvalidArgumentError(
            f"{name} must be (minimum, maximum) in {what}, got {value if given is None else given!r}"
        )
    return float(pair[0]), float(pair[1])


def _checked_jitter(value: Any) -> tuple[_Range, _Range, _Range, _Range]:
    items = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if len(items) not in (3, 4):
        raise InvalidArgumentError(
            f"color_jitter must be three or four items, brightness, contrast, saturation[, hue], got {value!r}"
        )
    limits: list[_Range] = []
    for name, item in zip(("brightness", "contrast", "saturation"), items, strict=False):
        pair = (max(0.0, 1 - item), 1 + item) if is_number(item) and item >= 0 else item
        what = "factors of at least 0, or one number of at least 0"
        limits.append(_checked_range(f"color_jitter: {name}", pair, what, given=item, minimum=0))
    hue = items[3] if len(items) == 4 else 0.0
    turns = (0.0 - hue, hue) if is_number(hue) and hue >= 0 else hue
    what = "turns from -0.5 to 0.5, or one number from 0 to 0.5"
    limits.append(_checked_range("color_jitter: hue", turns, what, given=hue, minimum=-0.5, maximum=0.5))
    return limits[0], limits[1], limits[2], limits[3]
