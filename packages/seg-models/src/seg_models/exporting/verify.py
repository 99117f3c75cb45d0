"""Compares an exported file with its network, both as a user runs them: from images to labels by a `Predictor`."""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg_core.checks import is_number
from seg_core.errors import DisagreementError, InvalidArgumentError, LabelOutOfRangeError
from seg_core.files.images import read_mask
from seg_core.labels.channels import ImageChannels
from seg_core.labels.tasks import MULTILABEL
from seg_core.metrics.argmax import argmax_labels, threshold_labels
from seg_core.metrics.metric_store import MetricStore
from seg_core.model_files.reading import ModelInfo
from seg_models.exporting.description import Precision
from seg_models.exporting.exported import ExportedNetwork
from seg_models.inference.input_paths import list_files
from seg_models.inference.prediction import Prediction
from seg_models.inference.predictor import Predictor

__all__ = ["Comparison", "Tolerance", "Verification", "verify"]

_DEFAULTS: dict[str, tuple[float | None, float]] = {
    "fp32": (1e-3, 0.999),
    "fp16": (2e-2, 0.99),
    # of integers the labels alone are compared: their logits may differ by a step of the quantization
    "int8": (None, 0.9),
}
_SEED = 0


@dataclass(frozen=True)
class Tolerance:
    """How far an exported file may differ from its network.

    Attributes:
        max_error: largest difference of a logit, as a fraction of the image's largest absolute logit; None for any.
        min_agreement: fraction of the pixels of an image, 0 to 1, whose labels are equal, at least.
    """

    max_error: float | None
    min_agreement: float

    @classmethod
    def of(cls, precision: Precision, max_error: float | None, min_agreement: float | None) -> "Tolerance":
        """Returns the tolerance that is given, or for what is None the default of a precision.

        Raises:
            InvalidArgumentError: if a number is not allowed.
        """
        default_error, default_agreement = _DEFAULTS[precision]
        if max_error is not None and not (is_number(max_error) and max_error > 0):
            raise InvalidArgumentError(f"max_error must be a fraction above 0 of the largest logit, got {max_error!r}")
        if min_agreement is not None and not (is_number(min_agreement) and 0 <= min_agreement <= 1):
            raise InvalidArgumentError(f"min_agreement must be a fraction from 0 to 1, got {min_agreement!r}")
        return cls(
            default_error if max_error is None else float(max_error),
            default_agreement if min_agreement is None else float(min_agreement),
        )


@dataclass(frozen=True)
class Comparison:
    """The difference on one image.

    Attributes:
        image: its path, or "generated".
        size: (height, width) in pixels.
        max_abs_error: largest absolute difference of a logit.
        max_abs_logit: largest absolute logit of the network.
        label_agreement: fraction of the pixels whose labels are equal.
    """

    image: str
    size: tuple[int, int]
    max_abs_error: float
    max_abs_logit: float
    label_agreement: float

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values."""
        return {
            "image": self.image,
            "size": list(self.size),
            "max_abs_error": self.max_abs_error,
            "max_abs_logit": self.max_abs_logit,
            "label_agreement": self.label_agreement,
        }


@dataclass(frozen=True)
class Verification:
    """What the comparison of an exported file with its network found.

    Attributes:
        comparisons: one per image.
        tolerance: what was allowed.
        miou_before: of the network on the masks, if there are any.
        miou_after: of the exported file.
    """

    comparisons: tuple[Comparison, ...]
    tolerance: Tolerance
    miou_before: float | None = None
    miou_after: float | None = None

    @property
    def max_abs_error(self) -> float:
        """Largest absolute difference of a logit over all images."""
        return max(each.max_abs_error for each in self.comparisons)

    @property
    def label_agreement(self) -> float:
        """Fraction of the pixels of all images whose labels are equal."""
        pixels = [math.prod(each.size) for each in self.comparisons]
        equal = sum(each.label_agreement * count for each, count in zip(self.comparisons, pixels, strict=True))
        return equal / sum(pixels)


def verify(
    exported: ExportedNetwork,
    network: nn.Module,
    info: ModelInfo,
    tolerance: Tolerance,
    *,
    size: tuple[int, int] | None = None,
    images: Any = None,
    masks: str | os.PathLike[str] | None = None,
) -> Verification:
    """Compares an exported file with its network.

    Args:
        exported: the file.
        network: the network, on the CPU; it is put in eval mode.
        info: classes, preprocessing and thresholds of the network.
        tolerance: what is allowed.
        size: (height, width) in pixels of the first of the three generated images; None for a small one. Files for one
            size get three of that size.
        images: images to compare on, as `Predictor.stream` takes them; None generates three: for a file of any size one
            of `size` and two of odd sizes. For a file of one size images are resized to it.
        masks: folder with a mask of class ids for each of `images`, of the same name without suffix, for the mIoU
            before and after.

    Raises:
        DisagreementError: if they differ more than is allowed.
        InvalidArgumentError: if masks are given without images, or for a multilabel task.
        FileNotFoundError: if there are no images, or an image has no mask.
    """
    fixed = exported.description.size
    resize = {"size": fixed} if fixed is not None else None if images is not None else {}

    def predictor(model: nn.Module, described: ModelInfo) -> Predictor:
        preprocessing = described.preprocessing if resize is None else described.preprocessing.with_resize(resize)
        return Predictor(
            model,
            metadata=described.metadata,
            preprocessing=preprocessing,
            thresholds=described.thresholds,
            device="cpu",
            logits=True,
        )

    before, after = predictor(network, info), predictor(exported, exported.model_info)
    stores = _Masks(masks, info) if masks is not None else None
    if stores is not None and images is None:
        raise InvalidArgumentError("masks need the images that they belong to: images= (--verify)")
    if images is None:
        images = _generated(info.metadata.channels, _sizes(fixed, exported.min_size, size))
    found = []
    with torch.no_grad():
        for place, (one, other) in enumerate(zip(before.stream(images), after.stream(images), strict=True)):
            comparison = _compare(one, other)
            _check(comparison, tolerance, exported.path)
            if place == 0:
                _check_labels(exported, info)
            if stores is not None:
                stores.add(one, other)
            found.append(comparison)
    return Verification(tuple(found), tolerance, *(() if stores is None else stores.scores()))


def _sizes(fixed: tuple[int, int] | None, least: int, size: tuple[int, int] | None) -> list[tuple[int, int]]:
    if fixed is not None:
        return [fixed] * 3
    height, width = (max(side, least) for side in size or (96, 128))
    # odd ones included, of other remainders by any stride
    return [(height, width), (height + 1 | 1, width + 34 | 1), (max(least, height - 26) | 1, width + 64)]


def _generated(channels: ImageChannels, sizes: Sequence[tuple[int, int]]) -> list[Any]:
    """Returns images with smooth areas, edges and some noise; of other channels than 8-bit colors in their unit."""
    draw = torch.Generator().manual_seed(_SEED)
    result: list[Any] = []
    for height, width in sizes:
        coarse = torch.rand(1, channels.count, 7, 9, generator=draw)
        smooth = F.interpolate(coarse, (height, width), mode="bilinear")
        blocks = F.interpolate(coarse.flip(-1), (height, width), mode="nearest")
        noise = torch.rand(1, channels.count, height, width, generator=draw)
        image = (0.5 * smooth + 0.4 * blocks + 0.1 * noise)[0]
        if channels.is_rgb8:
            result.append((image * 255).to(torch.uint8))
            continue
        low, high = (torch.tensor(ends)[:, None, None] for ends in zip(*channels.ranges, strict=True))
        result.append(low + image * (high - low))
    return result


def _compare(one: Prediction, other: Prediction) -> Comparison:
    assert one.logits is not None
    assert other.logits is not None
    difference = np.abs(one.logits.astype(np.float64) - other.logits.astype(np.float64)).max()
    height, width = one.logits.shape[-2:]
    return Comparison(
        one.source or "generated",
        (height, width),
        float(difference),
        float(np.abs(one.logits).max()),
        float(np.mean(one.labels == other.labels)),
    )


def _check(found: Comparison, tolerance: Tolerance, path: str) -> None:
    relative = found.max_abs_error / max(found.max_abs_logit, 1e-30)
    # not "greater": NaN agrees with nothing
    within = tolerance.max_error is None or relative <= tolerance.max_error
    if within and found.label_agreement >= tolerance.min_agreement:
        return
    allowed = "any" if tolerance.max_error is None else f"{tolerance.max_error:.3g}"
    height, width = found.size
    raise DisagreementError(
        f"{Path(path).name} does not compute what the network computes: on the image {found.image} of {height}x{width} "
        f"pixels a logit differs by {found.max_abs_error:.3g}, {relative:.3g} of the largest one (max_error: "
        f"{allowed}), and {found.label_agreement:.2%} of the labels are equal (min_agreement: "
        f"{tolerance.min_agreement:.2%}); "
        "nothing is kept. If such differences are acceptable, raise max_error or lower min_agreement"
    )


def _check_labels(exported: ExportedNetwork, info: ModelInfo) -> None:
    """Checks that the labels in the file are those of its own logits.

    Raises:
        DisagreementError: if not.
    """
    if not exported.description.labels:
        return
    height, width = exported.description.size or (max(exported.min_size, 65), max(exported.min_size, 97))
    draw = torch.Generator().manual_seed(_SEED)
    logits, labels = exported.outputs(torch.rand(2, info.metadata.channels.count, height, width, generator=draw))
    expected = argmax_labels(logits) if info.thresholds is None else threshold_labels(logits, info.thresholds)
    if labels is None or not torch.equal(labels.long(), expected.long()):
        raise DisagreementError(f"{Path(exported.path).name}: its labels are not those of its logits; nothing is kept")


class _Masks:
    """The scores of both before and after, on masks in a folder."""

    def __init__(self, folder: str | os.PathLike[str], info: ModelInfo) -> None:
        metadata = info.metadata
        if metadata.task == MULTILABEL:
            raise InvalidArgumentError("masks of a multilabel task are evaluated by seg eval; leave masks out")
        self._folder = Path(folder)
        self._files = {path.stem: path for path in map(Path, _files(self._folder))}
        self._stores = [
            MetricStore(metadata.num_classes, ignore_index=metadata.ignore_index, task=metadata.task) for _ in range(2)
        ]

    def add(self, *predictions: Prediction) -> None:
        source = predictions[0].source
        mask_file = self._files.get(Path(source).stem) if source is not None else None
        if mask_file is None:
            raise InvalidArgumentError(
                f"the image {source} has no mask in {self._folder}: it must have the image's name without suffix"
            )
        mask: npt.NDArray[Any] = read_mask(mask_file)
        for store, prediction in zip(self._stores, predictions, strict=True):
            if mask.shape != prediction.labels.shape:
                raise InvalidArgumentError(
                    f"the mask {mask_file} has {mask.shape[0]}x{mask.shape[1]} pixels, its image another size"
                )
            try:
                store.store_results(_batch(mask), _batch(prediction.labels))
            except LabelOutOfRangeError as error:
                raise InvalidArgumentError(
                    f"the mask {mask_file} holds other values than class ids and {store.ignore_index} for ignored: "
                    f"{error}. Export without masks (--masks), and score the file by seg eval FILE DATASET, which maps "
                    "them"
                ) from error

    def scores(self) -> Iterator[float]:
        for store in self._stores:
            yield float(store.summarize()["miou"])


def _files(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise InvalidArgumentError(f"masks = {os.fspath(folder)!r}: there is no such folder")
    return [os.fspath(path) for path in list_files(folder).paths]


def _batch(labels: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(labels.astype(np.int64))[None]
