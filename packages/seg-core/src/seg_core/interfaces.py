"""Protocols between the parts of the toolkit, so that no base class has to be inherited."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from seg_core.labels.metadata import DatasetMetadata

__all__ = ["FeatureInfo", "JointTransform", "Network", "Predict", "SegmentationDataset"]


@dataclass(frozen=True)
class FeatureInfo:
    """One feature map of a backbone.

    Attributes:
        name: its key in the backbone's result.
        channels: its number of channels.
        stride: pixels of the image per feature, in height and width.
    """

    name: str
    channels: int
    stride: int


@runtime_checkable
class Network(Protocol):
    """A segmentation network."""

    upsampling: Mapping[str, tuple[str, bool] | None]

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns the outputs before the final resize.

        Args:
            images: float (N, C, H, W), normalized.
        """

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `"out"`: logits (N, K, H, W) at the input's size, and auxiliary outputs if the network has them.

        Args:
            images: float (N, C, H, W), normalized.
        """


@runtime_checkable
class SegmentationDataset(Protocol):
    """Images with their masks."""

    metadata: DatasetMetadata

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor | None]:
        """Returns image and mask (H, W) of train ids; no mask in a test split without masks.

        The image is uint8 (3, H, W), RGB; or (C, H, W), uint8, uint16 or float32, with the channels of the metadata, in
        the unit of their range.

        It may draw from the default states of Python's `random`, `np.random` and torch: the trainer and evaluations
        seed them before each sample, see `seg_core.randomness.isolated_randomness`.
        """

    def file_names(self, index: int) -> Sequence[str]:
        """Returns the files of sample `index`, for messages."""


class JointTransform(Protocol):
    """A transform of an image and its mask together."""

    def __call__(
        self, image: Tensor, mask: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns both, with the same geometry; every random choice comes from `generator`.

        Args:
            image: uint8 (3, H, W) in 0 to 255; of other channels (C, H, W), uint8, uint16 or float32.
            mask: class ids (H, W).
            generator: torch's default one if None.
        """


class Predict(Protocol):
    """A prediction method: whole images, tiles, test-time augmentation."""

    def __call__(self, model: torch.nn.Module, images: Tensor) -> Tensor:
        """Returns logits float (N, K, H, W) or labels (N, H, W) of `images` float (N, C, H, W)."""
