"""The augmentation of a training sample or batch: what changes looks, then the normalisation."""

from collections.abc import Sequence
from typing import overload

import torch
from torch import Tensor

from seg_core.errors import InvalidArgumentError
from seg_core.preprocessing import IMAGENET_MEAN, IMAGENET_STD, check_unit_range, normalize, three_numbers

__all__ = ["SegmentationAugment"]

_Generators = torch.Generator | Sequence[torch.Generator] | None
# Columns of the table of draws, one row of numbers in 0 to 1 per sample.
_HFLIP, _VFLIP = 0, 1
_NUM_DRAWS = 2


class SegmentationAugment:
    """Flips, then normalises; with all defaults it only normalises.

    Each sample has its own draw, and always the same number of draws, whatever the batch and the settings: with the
    same generators a batch equals its samples one by one. All draws are made on the CPU, all work is done on the device
    of the images.

    Args:
        hflip: probability (0 to 1) of exchanging left and right.
        vflip: probability (0 to 1) of exchanging top and bottom.
        mean: per channel (red, green, blue), of values in 0 to 1.
        std: per channel, of values in 0 to 1.

    Raises:
        InvalidArgumentError: if an argument is not allowed.
    """

    def __init__(
        self,
        hflip: float = 0.0,
        vflip: float = 0.0,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        self.hflip = _checked_probability("hflip", hflip)
        self.vflip = _checked_probability("vflip", vflip)
        self.mean = three_numbers("mean", mean)
        self.std = three_numbers("std", std, positive=True)

    @overload
    def __call__(self, images: Tensor, masks: None = None, *, generator: _Generators = None) -> tuple[Tensor, None]: ...
    @overload
    def __call__(self, images: Tensor, masks: Tensor, *, generator: _Generators = None) -> tuple[Tensor, Tensor]: ...
    @torch.no_grad()
    def __call__(
        self, images: Tensor, masks: Tensor | None = None, *, generator: _Generators = None
    ) -> tuple[Tensor, Tensor | None]:
        """Returns images and masks as networks and losses take them. The arguments are not changed.

        Args:
            images: (3, H, W) or (N, 3, H, W), RGB; uint8 in 0 to 255 or float in 0 to 1.
            masks: class ids of any integer type, (H, W) or (1, H, W) for one sample, (N, H, W) or (N, 1, H, W) for a
                batch; None where there are none.
            generator: the only source of what is drawn, on the CPU: one for all samples in their order, or a sequence
                of one per sample; torch's default one if None.

        Returns:
            Images: float32 of the shape, device and memory format of `images`, normalised.
            Masks: int64 (H, W) or (N, H, W), or None.

        Raises:
            InvalidArgumentError: if types, shapes or the number of generators do not agree with this.
        """
        batch = _checked_images(images)
        labels = None if masks is None else _checked_masks(masks, images)
        draws = _draw(batch.shape[0], generator)
        flips = self._flips(draws)
        batch = _flip(batch, flips)
        labels = None if labels is None else _flip(labels, flips)
        batch = normalize(batch, self.mean, self.std)
        labels = None if labels is None else labels.long()
        if images.ndim == 3:
            return batch[0], None if labels is None else labels[0]
        return batch, labels

    def __repr__(self) -> str:
        return f"SegmentationAugment(hflip={self.hflip}, vflip={self.vflip}, mean={self.mean}, std={self.std})"

    def _flips(self, draws: Tensor) -> list[list[int]]:
        """Returns for each sample the axes to reverse, counted from the end."""
        across, down = (draws[:, _HFLIP] < self.hflip).tolist(), (draws[:, _VFLIP] < self.vflip).tolist()
        return [[-1] * h + [-2] * v for h, v in zip(across, down, strict=True)]


def _draw(num_samples: int, generator: _Generators) -> Tensor:
    """Returns float32 (num_samples, _NUM_DRAWS) in 0 to below 1, on the CPU: the parameters of each sample."""
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
        return torch.empty(0, _NUM_DRAWS)
    return torch.stack([torch.rand(_NUM_DRAWS, generator=g) for g in generators])


def _flip(batch: Tensor, flips: list[list[int]]) -> Tensor:
    """Returns `batch` (N, ..., H, W) with each sample reversed along its axes."""
    if not any(flips):
        return batch
    flipped = torch.empty_like(batch)  # has the memory format of `batch`, which torch.cat and torch.stack may lose
    # sample by sample: several times faster than torch.where over the whole batch
    for target, source, axes in zip(flipped, batch, flips, strict=True):
        target.copy_(source.flip(axes) if axes else source)
    return flipped


def _checked_images(images: Tensor) -> Tensor:
    """Returns images as a plain batch (N, 3, H, W), uint8 or float."""
    if not isinstance(images, Tensor):
        raise InvalidArgumentError(
            f"images must be a tensor, got {type(images).__name__}; SegmentationTransform makes one of a picture"
        )
    if images.ndim not in (3, 4) or images.shape[-3] != 3:
        raise InvalidArgumentError(f"images must be (3, H, W) or (N, 3, H, W), got shape {tuple(images.shape)}")
    plain = images.as_subclass(Tensor)
    if plain.is_floating_point():
        check_unit_range(plain)
        plain = plain.float()
    elif plain.dtype != torch.uint8:
        raise InvalidArgumentError(f"images must be uint8 in 0 to 255 or float in 0 to 1, got {plain.dtype}")
    return plain if plain.ndim == 4 else plain[None]


def _checked_masks(masks: Tensor, images: Tensor) -> Tensor:
    """Returns masks as a plain batch (N, H, W), uint8 or int64."""
    if not isinstance(masks, Tensor):
        raise InvalidArgumentError(
            f"masks must be a tensor, got {type(masks).__name__}; SegmentationTransform makes one of a mask"
        )
    if masks.is_floating_point() or masks.is_complex():
        raise InvalidArgumentError(f"masks must have an integer type, got {masks.dtype}; convert them first")
    leading, size = tuple(images.shape[:-3]), tuple(images.shape[-2:])
    if tuple(masks.shape) not in ((*leading, *size), (*leading, 1, *size)):
        raise InvalidArgumentError(
            f"masks must be {(*leading, *size)} for images of shape {tuple(images.shape)}, got {tuple(masks.shape)}"
        )
    plain = masks.as_subclass(Tensor).reshape(images.shape[:-3].numel(), *size)
    # few kernels know the wider unsigned types; uint8 stays small until the end; a copy, so that nothing is shared
    return plain if plain.dtype == torch.uint8 else plain.to(torch.int64, copy=True)


def _checked_probability(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidArgumentError(f"{name} must be a probability in 0 to 1, got {value!r}")
    return float(value)
