"""Random crops of large images, read as windows of their files: only the pixels of the crop are decoded.

A dataset offers this with three methods. `image_size(index)` returns height and width of an image in pixels,
`can_read_windows(index)` whether its files are stored so that a part can be read without the rest, and
`read_window(index, top, left, height, width)` image and mask of a part, as `dataset[index]` returns the whole.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from seg_core.errors import InvalidArgumentError
from seg_core.files.mask_sources import pair_of, sample_name
from seg_core.interfaces import JointTransform, SegmentationDataset
from seg_core.transforms.crop import SegmentationTransform

__all__ = ["SampleWindows", "windows_of"]

_METHODS = ("image_size", "can_read_windows", "read_window")

Read = Callable[[int, int, int, int], tuple[Any, Any]]


class SampleWindows:
    """The windows of one sample.

    Args:
        dataset: with the methods above.
        index: of the sample.
        reading: called with each read of the dataset, as `reading(action)`; seeds what the dataset draws at random.
    """

    def __init__(
        self, dataset: Any, index: int, reading: Callable[[Callable[[], tuple[Any, Any]]], tuple[Any, Any]]
    ) -> None:
        self.height, self.width = dataset.image_size(index)
        self._dataset = dataset
        self._index = index
        self._reading = reading
        self._last: dict[tuple[int, int, int, int], tuple[Any, Any]] = {}

    def read(self, top: int, left: int, height: int, width: int) -> tuple[Any, Any]:
        """Returns image and mask of a window; the last one is kept, since it is read for its mask first.

        Raises:
            InvalidArgumentError: if the sample has no mask.
            UserError: if the file cannot be read.
        """
        window = (top, left, height, width)
        if window not in self._last:
            name = sample_name(self._dataset, self._index)
            sample = self._reading(lambda: self._dataset.read_window(self._index, *window))
            image, mask = pair_of(sample, name)
            if mask is None:
                raise InvalidArgumentError(f"{name} has no mask; choose a split that has masks")
            self._last = {window: (image, mask)}
        return self._last[window]

    def crop(self, transform: SegmentationTransform, generator: Any) -> tuple[Tensor, Tensor]:
        """Returns the random crop that `transform` takes of the whole image with an equal generator."""
        image, mask = transform.read_crop(
            self.height, self.width, self.read, read_mask=lambda *window: self.read(*window)[1], generator=generator
        )
        assert mask is not None  # checked when it was read
        return image, mask


def windows_of(
    dataset: SegmentationDataset,
    transform: JointTransform,
    index: int,
    reading: Callable[[Callable[[], tuple[Any, Any]]], tuple[Any, Any]],
) -> SampleWindows | None:
    """Returns the windows of a sample, or None if it must be read whole.

    Args:
        dataset: of images with masks.
        transform: windows are of use to a random crop only.
        index: of the sample.
        reading: as in `SampleWindows`.
    """
    if not isinstance(transform, SegmentationTransform) or transform.size is None:
        return None
    if not all(hasattr(dataset, method) for method in _METHODS) or not dataset.can_read_windows(index):  # type: ignore[attr-defined]  # optional methods
        return None
    return SampleWindows(dataset, index, reading)
