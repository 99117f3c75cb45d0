"""Shapes, the built-in dataset: figures on textured backgrounds, drawn on access.

It is meant for quick trials: no download, no files, and a small network learns it from scratch in a minute or two on
two CPU cores. Color alone is not sufficient:

- Eight figures form four families of two. The figures of a family have the same hues, so color gives the family at
  best. One of them is plain, the other patterned in a lighter and a darker shade of the same tone. Both have the same
  mean color, so only texture and outline distinguish them.
- Figures overlap each other and the edge of the image, at any position, size, angle and brightness. The background
  has clouds and patterns in duller colors of any hue. Noise of varying strength covers everything.
- As in VOC, outlines have no class: a border of about two pixels is ignored (255).

An image depends only on (seed, split, index, size), not on the order of access, the process, or the number of workers.
The splits use separate random streams, so no image appears in two of them.
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
MIN_SIDE = 16  # pixels; in smaller images the figures are smaller than their ignored border
LAYOUT = "no files: images are drawn on access; root is None"


class Shapes(Dataset[Any]):
    """Figures on textured backgrounds, drawn on access: background and eight classes, no files.

    A sample is (image, mask): image uint8 (3, H, W), RGB; mask uint8 (H, W), ids 0 (background) to 8 and 255 along the
    outlines.

    Args:
        root: must be None; it exists because every dataset has this argument.
        split: `"train"`, `"val"` or `"test"`.
        transforms: called as `transforms(image, mask)`; its result is the sample.
        size: (height, width) of the images, in pixels, each at least 16.
        length: number of images; None means 4800 for train and 200 for val and test. A longer dataset starts with the
            images of a shorter one.
        seed: 0 to 2**63 - 1; different seeds generate different images.

    Attributes:
        metadata: names and colors of the classes.
        split: as given.

    Raises:
        InvalidArgumentError: if an argument has a value that is not allowed.
    """

    layout: ClassVar[str] = LAYOUT
    generated: ClassVar[bool] = True  # the masks are right by construction, so a run need not check them

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
            raise InvalidArgumentError(f"Shapes reads no files: root must be None, got {root!r}; remove it")
        self.metadata = resolve_metadata("Shapes")
        self.split = check_split(split, SPLITS, "Shapes")
        self.transforms = transforms
        self.size = _check_size(size)
        self.length = LENGTHS[split] if length is None else length
        if not isinstance(self.length, int) or self.length < 1:
            raise InvalidArgumentError(f"length must be an integer of at least 1, got {length!r}")
        if not isinstance(seed, int) or not 0 <= seed < 2**63:
            raise InvalidArgumentError(f"seed must be an integer from 0 to 2**63 - 1, got {seed!r}")
        self.seed = seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        """Returns sample `index`: (image, mask), or the result of `transforms`."""
        if not -self.length <= index < self.length:
            raise IndexError(f"index {index} is out of range for {self.length} images")
        stream = SPLITS.index(self.split)
        pixels, ids = draw_scene(self.size, seed=self.seed, stream=stream, index=index % self.length)
        image, mask = tv_tensors.Image(torch.from_numpy(pixels)), tv_tensors.Mask(torch.from_numpy(ids))
        return (image, mask) if self.transforms is None else self.transforms(image, mask)

    @property
    def params(self) -> dict[str, Any]:
        """The parameters that determine the images besides their number; a dataset without files is hashed by them."""
        return {"split": self.split, "size": list(self.size), "seed": self.seed}

    def file_names(self, index: int) -> tuple[str, ...]:
        """Returns a placeholder name for messages, since there is no file."""
        return (f"Shapes(split={self.split!r}, seed={self.seed})[{index}]",)


def _check_size(size: Sequence[int]) -> tuple[int, int]:
    sides = tuple(size) if isinstance(size, Sequence) else ()
    if len(sides) != 2 or not all(isinstance(side, int) and side >= MIN_SIDE for side in sides):
        raise InvalidArgumentError(
            f"size must be (height, width), integers of at least {MIN_SIDE} (pixels), got {size!r}"
        )
    return sides[0], sides[1]
