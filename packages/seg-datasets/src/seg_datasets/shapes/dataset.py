"""Shapes, the embedded dataset: figures on textured grounds, drawn when they are asked for.

It exists to try things out: no download, no files, and a small network learns it from scratch in a minute or two on two
CPU cores. Yet it is a segmentation task and not a game of colors:

- Eight figures come in four families of two. A family shares its hues, so that color gives the family at best; within
  a family one figure is plain and the other patterned in a lighter and a darker shade of the same tone. Both have the
  same color on average: whoever tells them apart must look at texture and outline.
- Figures lie over each other and over the edge of the image, in any place, size, direction and brightness. The ground
  has clouds and patterns of its own in duller colors of any hue; noise of varying strength lies over everything.
- As in VOC, outlines carry no class: a border of about two pixels is ignored (255).

An image depends on (seed, split, index, size) alone: not on the order of access, the process, or the number of
workers. The splits are streams of their own, so no image of one appears in another.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch.utils.data import Dataset
from torchvision import tv_tensors

from seg_core.errors import InvalidArgumentError
from seg_core.labels.metadata import resolve_metadata
from seg_datasets.reading.arguments import check_split
from seg_datasets.shapes.scenes import draw_scene

__all__ = ["Shapes"]

SPLITS = ("train", "val", "test")
LENGTHS: Mapping[str, int] = MappingProxyType({"train": 4800, "val": 200, "test": 200})
MIN_SIDE = 16  # pixels; below, figures are smaller than their ignored border
LAYOUT = "drawn when asked for; root is None"


class Shapes(Dataset[Any]):
    """Drawn figures on textured grounds: background and eight classes, no files.

    A sample is (image, mask): image uint8 (3, H, W), RGB; mask uint8 (H, W), ids 0 (background) to 8 and 255 along the
    outlines.

    Args:
        root: None; here only because every dataset has it.
        split: `"train"`, `"val"` or `"test"`.
        transforms: called as `transforms(image, mask)`; its result is the sample.
        size: (height, width) of the images, in pixels, each at least 16.
        length: number of images; 4800 for train and 200 for val and test where left out. A longer dataset begins
            with the images of a shorter one.
        seed: another seed gives other images; 0 to 2**63 - 1.

    Attributes:
        metadata: names and colors of the classes.
        split: as given.

    Raises:
        InvalidArgumentError: if an argument is outside of what is allowed.
    """

    layout: ClassVar[str] = LAYOUT

    def __init__(
        self,
        root: None = None,
        split: str = "train",
        transforms: Callable[..., Any] | None = None,
        *,
        size: Sequence[int] = (96, 128),
        length: int | None = None,
        seed: int = 0,
    ) -> None:
        if root is not None:
            raise InvalidArgumentError(f"Shapes reads no files: root must be None, got {root!r}; leave it out")
        self.metadata = resolve_metadata("Shapes")
        self.split = check_split(split, SPLITS, "Shapes")
        self.transforms = transforms
        self.size = _check_size(size)
        self.length = LENGTHS[split] if length is None else length
        if not isinstance(self.length, int) or self.length < 1:
            raise InvalidArgumentError(f"length must be a whole number of images, at least 1, got {length!r}")
        if not isinstance(seed, int) or not 0 <= seed < 2**63:
            raise InvalidArgumentError(f"seed must be a whole number from 0 to 2**63 - 1, got {seed!r}")
        self.seed = seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        """Returns sample `index`: (image, mask), or what `transforms` makes of them."""
        if not -self.length <= index < self.length:
            raise IndexError(f"index {index} is out of range for {self.length} images")
        stream = SPLITS.index(self.split)
        pixels, ids = draw_scene(self.size, seed=self.seed, stream=stream, index=index % self.length)
        image, mask = tv_tensors.Image(torch.from_numpy(pixels)), tv_tensors.Mask(torch.from_numpy(ids))
        return (image, mask) if self.transforms is None else self.transforms(image, mask)

    @property
    def params(self) -> dict[str, Any]:
        """What decides the images beside their number: the digest of a dataset without files is made of it."""
        return {"split": self.split, "size": list(self.size), "seed": self.seed}

    def file_names(self, index: int) -> tuple[str, ...]:
        """Returns a name for messages; there is no file."""
        return (f"Shapes(split={self.split!r}, seed={self.seed})[{index}]",)


def _check_size(size: Sequence[int]) -> tuple[int, int]:
    sides = tuple(size) if isinstance(size, Sequence) else ()
    if len(sides) != 2 or not all(isinstance(side, int) and side >= MIN_SIDE for side in sides):
        raise InvalidArgumentError(
            f"size must be (height, width), whole numbers of pixels and each at least {MIN_SIDE}, got {size!r}"
        )
    return sides[0], sides[1]
