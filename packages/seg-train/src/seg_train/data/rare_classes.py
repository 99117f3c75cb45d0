"""Rare-class sampling: images and crops are chosen by class, so that rare classes are sampled more often.

Source: L. Hoyer, D. Dai, L. Van Gool, "DAFormer: Improving Network Architectures and Training Strategies for
Domain-Adaptive Semantic Segmentation", CVPR 2022, arXiv:2111.14887, section 3.2. For each sample, a class c is drawn
with probability

    P(c) = exp((1 - f_c) / T) / sum over c' of exp((1 - f_c') / T),

where f_c is the fraction of pixels of the class and T the temperature; then an image that contains it, then random
crops until one contains enough of it.

Differs from the paper:

- f_c is the fraction among pixels that have a class, as in the authors' code; ignored pixels are not counted.
- `min_pixels` replaces two numbers of the authors' code, 3000 pixels for an image and half as many for its crop. If no
  image has so many pixels of a class, it is drawn from all images that contain it.
- If no crop contains enough, the one that contains most is used, not the last.
"""

import math
import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seg_core.errors import InvalidArgumentError
from seg_core.files.scan import scan_dataset
from seg_core.interfaces import SegmentationDataset
from seg_core.randomness import sample_seed
from seg_train.data.batches import ClassCrop, PlannedSample

__all__ = ["RareClassSampling", "class_probabilities", "count_pixels_per_image"]


def count_pixels_per_image(
    dataset: SegmentationDataset, progress: Callable[[int, int], object] | None = None
) -> Tensor:
    """Returns the number of pixels of each class in each image: int64 (images, K), without ignored pixels.

    Args:
        dataset: of images with masks.
        progress: called after each image with the number of images done and their total.

    Raises:
        InvalidArgumentError: if a sample has no mask.
        LabelOutOfRangeError: if a mask contains an id that is neither a class nor the ignored value.
    """
    scan = scan_dataset(dataset, progress=progress)
    scan.check_ids()
    return torch.from_numpy(scan.pixels)


def class_probabilities(pixels: Tensor, temperature: float = 0.01) -> Tensor:
    """Returns the probability of drawing each class, by the formula above: float64 (K,), sum 1.

    Args:
        pixels: integer (K,), number of pixels of each class. A class without pixels is never drawn.
        temperature: above 0. The lower it is, the more rare classes are preferred; with infinity all are equally
            likely.

    Raises:
        InvalidArgumentError: if `temperature` is not allowed, or no pixel has a class.
    """
    if not temperature > 0:
        raise InvalidArgumentError(f"temperature must be above 0, got {temperature}")
    total = int(pixels.sum())
    if not total:
        raise InvalidArgumentError("no pixel has a class, so no class can be drawn; check the masks")
    fractions = pixels.double() / total
    return ((1 - fractions) / temperature).masked_fill(pixels == 0, -math.inf).softmax(0)


class RareClassSampling:
    """Plans epochs with samples drawn by class.

    Args:
        counts: int64 (images, K), see `count_pixels_per_image`.
        temperature: see `class_probabilities`.
        min_pixels: of the class that an image and its crop should contain. Images that contain fewer are drawn only if
            no image contains so many. With 0 the first crop is used.
        attempts: maximum number of crops to draw for a sample.

    Attributes:
        probabilities: float64 (K,), probability of drawing each class.

    Warns:
        UserWarning: if a class occurs in no image; it is never drawn.

    Raises:
        InvalidArgumentError: if an argument is not allowed, or no pixel has a class.
    """

    def __init__(
        self, counts: Tensor, *, temperature: float = 0.01, min_pixels: int = 1500, attempts: int = 10
    ) -> None:
        if counts.ndim != 2 or counts.is_floating_point() or bool((counts < 0).any()):
            raise InvalidArgumentError(
                f"counts must be pixels per image and class, integers of at least 0, got {counts.dtype} of shape "
                f"{tuple(counts.shape)}; see count_pixels_per_image"
            )
        if min_pixels < 0:
            raise InvalidArgumentError(f"min_pixels must be at least 0, got {min_pixels}")
        if attempts < 1:
            raise InvalidArgumentError(f"attempts must be at least 1, got {attempts}")
        pixels = counts.sum(0)
        self.probabilities = class_probabilities(pixels, temperature)
        self._length = len(counts)
        self._images = [_images_with(counts[:, class_id], min_pixels) for class_id in range(counts.shape[1])]
        self._crops = [ClassCrop(class_id, min_pixels, attempts) for class_id in range(counts.shape[1])]
        absent = (pixels == 0).nonzero().flatten().tolist()
        if absent:
            warnings.warn(
                f"classes {', '.join(map(str, absent))} occur in no image; rare-class sampling never draws them",
                stacklevel=2,
            )

    def plan(
        self,
        batch_size: int,
        seed: int,
        epoch: int,
        rank: int = 0,
        num_processes: int = 1,
        *,
        crops_per_image: int = 1,
    ) -> list[list[PlannedSample]]:
        """Returns the batches of one epoch: as many as without rare-class sampling, drawn with replacement.

        Args:
            batch_size: samples of one step over all processes, a multiple of `num_processes`.
            seed: of the run.
            epoch: counted from 0.
            rank: of this process, which reads its share of each batch.
            num_processes: number of processes that share a batch.
            crops_per_image: samples of an epoch per image of the dataset.
        """
        total = self._length * crops_per_image
        length = total - total % batch_size
        generator = torch.Generator().manual_seed(sample_seed(seed, epoch))
        # for each place, one random number selects the class and one the image
        class_draws, image_draws = torch.rand((2, length), dtype=torch.float64, generator=generator)
        present = self.probabilities.nonzero().flatten()
        bounds = self.probabilities[present].cumsum(0)
        # the last bound may be below 1 by a rounding error
        chosen = torch.searchsorted(bounds, class_draws, right=True).clamp_(max=len(present) - 1)
        classes = present[chosen].tolist()
        samples = [
            PlannedSample(int(self._images[c][int(draw * len(self._images[c]))]), place, self._crops[c])
            for place, (c, draw) in enumerate(zip(classes, image_draws.tolist(), strict=True))
        ]
        share = batch_size // num_processes
        starts = range(rank * share, length, batch_size)
        return [samples[start : start + share] for start in starts]


def _images_with(pixels: Tensor, min_pixels: int) -> npt.NDArray[np.int64]:
    """Returns the images with at least `min_pixels` of a class; if there are none, all that contain it.

    An array, since a list of every class's images would take five times the memory.
    """
    enough = pixels >= max(min_pixels, 1)
    if not bool(enough.any()):
        enough = pixels > 0
    return enough.nonzero().flatten().numpy()
