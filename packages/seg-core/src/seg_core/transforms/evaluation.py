"""Converts images to network inputs, in the same way for validation, `seg eval` and prediction.

The image is resized and normalized by the preprocessing; its mask is not changed. Logits are resized to the mask,
or to the image if there is none, so that scores refer to the dataset's own masks.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seg_core.errors import InvalidArgumentError
from seg_core.transforms.image_tensors import as_image_tensor
from seg_core.transforms.preprocessing import Preprocessing, resize_image

if TYPE_CHECKING:
    from torchvision import tv_tensors

__all__ = ["EvaluationTransform"]


class EvaluationTransform:
    """Resizes images to the network's input size; a `JointTransform` without randomness.

    Args:
        preprocessing: resize and normalization, and the channels of the images. Without other channels an image has
            three (C = 3) of 8 bits.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing

    def __call__(
        self, image: Tensor, mask: Tensor, *, generator: torch.Generator | None = None
    ) -> "tuple[tv_tensors.Image, tv_tensors.Mask]":
        """Returns the image at the network's input size, and the mask unchanged.

        Args:
            image: tensor (3, H, W); uint8 in 0 to 255 or float in 0 to 1. Of other channels (C, H, W), uint8, uint16 or
                float in the unit of their range.
            mask: class ids (H, W) of any integer type, or (K, H, W), a plane per class of a multilabel task.
            generator: not used; part of the interface of joint transforms.

        Returns:
            Image: (C, h, w), in the type and unit of `image` (integers are rounded), not normalized.
            Mask: (H, W) or (K, H, W), unchanged.

        Raises:
            InvalidArgumentError: if `image` or `mask` is not as described above, or the result would be too large.
        """
        # only here: prediction does not need torchvision, whose import takes seconds
        from torchvision import tv_tensors

        del generator
        image = as_image_tensor(image, self.preprocessing.channels)
        if image.shape[-2:] != mask.shape[-2:]:
            raise InvalidArgumentError(
                f"image and mask must have the same size, got image {image.shape[-2]}x{image.shape[-1]} and mask "
                f"{mask.shape[-2]}x{mask.shape[-1]} (height x width)"
            )
        return tv_tensors.Image(self.resize(image)), tv_tensors.Mask(mask)

    def resize(self, images: Tensor) -> Tensor:
        """Returns images at the network's input size.

        Args:
            images: uint8, uint16 or float32, (C, H, W) or (N, C, H, W).

        Returns:
            The same type and number of axes, (..., C, h, w).

        Raises:
            InvalidArgumentError: if the result would be too large.
        """
        return resize_image(images, self.preprocessing.bounded_size_of(*images.shape[-2:]))

    def normalize(self, images: Tensor, device: torch.device) -> Tensor:
        """Returns normalized images, the network's input.

        Args:
            images: as `resize` returns them, (N, C, h, w).
            device: device of the network; images of integers are moved first, since as floats they are larger.

        Returns:
            float32 (N, C, h, w) on `device`, normalized, in channels_last memory: fastest for convolutions, and the
            same for every caller, since the layout changes the last bits of the result.
        """
        images = images.to(device, non_blocking=True)
        result = torch.empty(images.shape, dtype=torch.float32, device=device, memory_format=torch.channels_last)
        return self.preprocessing.normalize(images, out=result)
