"""What `SegmentationAugment` takes: images and masks as plain batches, after they were checked."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from seg_core.errors import InvalidArgumentError
from seg_core.labels.channels import ImageChannels
from seg_core.labels.tasks import MULTILABEL
from seg_core.transforms.image_tensors import as_image_tensor, check_unit_range

__all__ = ["checked_images", "checked_masks"]


def checked_images(images: Tensor, channels: ImageChannels) -> Tensor:
    """Returns images as a plain batch (N, C, H, W), contiguous in either memory format.

    It is uint8, uint16 or float32.
    """
    if not isinstance(images, Tensor):
        raise InvalidArgumentError(
            f"images must be a tensor, got {type(images).__name__}; SegmentationTransform converts images"
        )
    if images.ndim not in (3, 4) or images.shape[-3] != channels.count:
        of = "" if channels.is_rgb8 else f", of the {channels},"
        axes = f"({channels.count}, H, W) or (N, {channels.count}, H, W)"
        raise InvalidArgumentError(f"images must be {axes}{of or ','} got shape {tuple(images.shape)}")
    plain = images.as_subclass(Tensor)
    if not channels.is_rgb8:
        plain = as_image_tensor(plain, channels) if plain.numel() else plain
    elif plain.is_floating_point():
        check_unit_range(plain)
        plain = plain.float()
    elif plain.dtype != torch.uint8:
        raise InvalidArgumentError(f"images must be uint8 in 0 to 255 or float in 0 to 1, got {plain.dtype}")
    plain = plain if plain.ndim == 4 else plain[None]
    # slices become dense; samples of a channels_last batch stay channels_last
    return plain.contiguous(memory_format=torch.channels_last if plain.stride(1) == 1 else torch.contiguous_format)


def checked_masks(masks: Tensor, images: Tensor, mask_fill: int, task: str, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Returns masks as a plain batch (N, H, W), of a multilabel task (N, K, H, W), uint8 or int64."""
    if not isinstance(masks, Tensor):
        raise InvalidArgumentError(
            f"masks must be a tensor, got {type(masks).__name__}; SegmentationTransform converts masks"
        )
    if masks.is_floating_point() or masks.is_complex():
        raise InvalidArgumentError(f"masks must have an integer type, got {masks.dtype}; convert them first")
    leading, size = tuple(images.shape[:-3]), tuple(images.shape[-2:])
    if task == MULTILABEL:
        if tuple(masks.shape) != (*leading, masks.shape[len(leading)] if masks.ndim > len(leading) else 0, *size):
            axes = ", ".join(map(str, (*leading, "K", *size)))
            raise InvalidArgumentError(
                f"masks of a multilabel task must be ({axes}) for images of shape {tuple(images.shape)}, a plane per "
                f"class, got {tuple(masks.shape)}"
            )
        count = masks.shape[len(leading)]
        if (highest := max(itertools.chain.from_iterable(pairs), default=-1)) >= count:
            raise InvalidArgumentError(
                f"left_right_pairs has the class {highest}, but masks have {count} planes, 0 to {count - 1}"
            )
        plain = masks.as_subclass(Tensor).reshape(images.shape[:-3].numel(), count, *size)
        return plain if plain.dtype == torch.uint8 and mask_fill <= 255 else plain.long()
    if tuple(masks.shape) not in ((*leading, *size), (*leading, 1, *size)):
        has_planes = masks.ndim == len(leading) + 3 and tuple(masks.shape[-2:]) == size
        advice = "; a plane per class needs task='multilabel'" if has_planes else ""
        raise InvalidArgumentError(
            f"masks must be {(*leading, *size)} for images of shape {tuple(images.shape)}, got {tuple(masks.shape)}"
            f"{advice}"
        )
    plain = masks.as_subclass(Tensor).reshape(images.shape[:-3].numel(), *size)
    # uint8 stays small until the end; few kernels support the wider unsigned types
    return plain if plain.dtype == torch.uint8 and mask_fill <= 255 else plain.long()
