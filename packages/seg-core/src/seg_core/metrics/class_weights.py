"""Pixel counts per class of a dataset, and the class weights that balance them in a loss."""

import inspect
import numbers
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seg_core.errors import InvalidArgumentError, LabelOutOfRangeError, UnknownNameError, nearest
from seg_core.metrics.metric_store import MetricStore
from seg_core.spec import Option, check_params, documented_options

__all__ = ["PixelCounts", "class_weights", "count_pixels", "describe_schemes"]


@dataclass(frozen=True, eq=False)
class PixelCounts:
    """Result of `count_pixels`, for K classes.

    Attributes:
        pixels: int64 (K,), pixels of each class.
        image_pixels: int64 (K,), all pixels, including ignored ones, of the images that contain the class.
        ignored: pixels without a class.
        num_images: number of images.
    """

    pixels: Tensor
    image_pixels: Tensor
    ignored: int
    num_images: int


def count_pixels(
    dataset: Any,
    num_classes: int | None = None,
    ignore_index: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> PixelCounts:
    """Counts the pixels of each class in the masks of a dataset.

    Args:
        dataset: has a length and returns `(image, mask)` for each index; masks are integer (H, W), class ids or
            `ignore_index`.
        num_classes: number of classes K; by default that of `dataset.metadata`.
        ignore_index: value of the pixels without a class; by default that of `dataset.metadata`, or 255.
        progress: called with the number of images done and their total after each image.

    Raises:
        InvalidArgumentError: if the number of classes is not known, or a sample has no mask.
        LabelOutOfRangeError: if a mask holds another value; the message names the sample.
    """
    metadata = getattr(dataset, "metadata", None)
    if num_classes is None:
        if metadata is None:
            raise InvalidArgumentError("num_classes must be given, since the dataset has no metadata")
        num_classes = metadata.num_classes
    if ignore_index is None:
        ignore_index = 255 if metadata is None else metadata.ignore_index
    pixels = torch.zeros(num_classes, dtype=torch.int64)
    image_pixels = torch.zeros_like(pixels)
    total = 0
    for index in range(len(dataset)):
        mask = dataset[index][1]
        if mask is None:
            raise InvalidArgumentError(f"{_sample_name(dataset, index)} has no mask; count a split that has masks")
        store = MetricStore(num_classes, ignore_index)
        try:
            # every pixel "predicted" as class 0: the first column then contains the counts of the mask, checked
            store.store_results(mask, np.zeros(mask.shape, np.uint8))
        except LabelOutOfRangeError as error:
            raise LabelOutOfRangeError(f"mask of {_sample_name(dataset, index)}: {error}") from error
        in_mask = store.confusion_matrix[:, 0]
        size = int(np.prod(mask.shape))
        pixels += in_mask
        image_pixels += size * (in_mask > 0)
        total += size
        if progress is not None:
            progress(index + 1, len(dataset))
    return PixelCounts(pixels, image_pixels, total - int(pixels.sum()), len(dataset))


def class_weights(source: Any, scheme: str = "enet", **options: Any) -> Tensor:
    """Returns one weight per class for a loss: float32 (K,), large for rare classes.

    Schemes, with p the fraction of the class among the pixels that have one:

    - `"enet"`: 1 / ln(c + p), option `c=1.02` (A. Paszke et al., ENet, 2016, arXiv:1606.02147). A class that does not
      occur gets 1 / ln(c), the limit for p = 0.
    - `"median_frequency"`: median(f) / f, with f the fraction of the class in the images that contain it, ignored
      pixels included (D. Eigen, R. Fergus, 2015, arXiv:1411.4734). Absent classes are left out of the median.
    - `"inverse"`: 1 / p (G. King, L. Zeng, Logistic regression in rare events data, 2001; "balanced" in scikit-learn).
    - `"inverse_sqrt"`: 1 / sqrt(p) (D. Mahajan et al., 2018, arXiv:1805.00932, there for drawing samples).
    - `"inverse_log"`: ln(1 + 1 / p), smoothed inverse document frequency of text retrieval; the mildest of the three.
    - `"effective_number"`: (1 - beta) / (1 - beta^n) for n pixels of the class, option `beta` in 0 to below 1 (Y. Cui
      et al., 2019, arXiv:1901.05555). By default it is the paper's (N - 1) / N with N the pixels of all classes. Far
      below that, such as 0.9999, all classes with many pixels get the same weight.

    The three inverse schemes are scaled so that the weights have a mean of 1 over the pixels, so `"inverse"` is
    1 / (p * number of classes that occur); those of `"effective_number"` so that their sum is K, as in the paper.
    Except under `"enet"`, a class that does not occur gets the largest weight of the others.

    Args:
        source: a dataset (counted by `count_pixels` with its defaults), the result of `count_pixels`, or plain numbers
            of pixels per class (not enough for `"median_frequency"`).
        scheme: name of the scheme.
        **options: of the scheme, as named above.

    Warns:
        UserWarning: if a class does not occur.

    Raises:
        UnknownNameError: if there is no such scheme.
        InvalidArgumentError: if an option or a count is not allowed, nothing was counted, or the scheme needs more than
            plain counts.
    """
    if scheme not in _SCHEMES:
        hint = nearest(scheme, _SCHEMES)
        raise UnknownNameError(f"unknown scheme {scheme!r} for class weights.{hint} Known: {', '.join(_SCHEMES)}")
    formula = _SCHEMES[scheme]
    check_params(f"scheme {scheme!r}", formula, options, given=_COUNTS)
    if isinstance(source, PixelCounts):
        pixels, image_pixels = source.pixels, source.image_pixels
    elif _is_plain_counts(source):
        pixels, image_pixels = source if isinstance(source, Tensor) else torch.tensor(source), None
    else:
        counts = count_pixels(source)
        pixels, image_pixels = counts.pixels, counts.image_pixels
    pixels = pixels.detach().cpu().double()
    if not bool((pixels >= 0).all()) or not bool(pixels.isfinite().all()):
        raise InvalidArgumentError(f"counts must be numbers of pixels >= 0, got {pixels.tolist()}")
    if not pixels.sum():
        raise InvalidArgumentError("no pixel has a class, so there is nothing to derive class weights from")
    absent = (pixels == 0).nonzero().flatten().tolist()
    if absent:
        warnings.warn(
            f"classes {', '.join(map(str, absent))} do not occur in the counts; their weights are finite but arbitrary",
            stacklevel=2,
        )
    return formula(pixels, image_pixels, **options).float()


def describe_schemes() -> dict[str, tuple[str, list[Option]]]:
    """Returns the schemes of `class_weights` by name: the formula with its source, in one line, and the options."""
    text = inspect.cleandoc(class_weights.__doc__ or "")
    bullets = re.findall(r'^- `"(\w+)"`: (.+(?:\n  .+)*)', text, flags=re.MULTILINE)
    formulas = {name: " ".join(lines.split()) for name, lines in bullets}
    return {name: (formulas[name], documented_options(scheme, _COUNTS)) for name, scheme in _SCHEMES.items()}


def _enet(pixels: Tensor, image_pixels: Tensor | None, c: float = 1.02) -> Tensor:  # noqa: ARG001 - as every scheme
    """Returns the weights of scheme "enet".

    Args:
        pixels: as for `class_weights`.
        image_pixels: as for `class_weights`.
        c: added to the fraction, above 1; the nearer to 1, the larger the weights of rare classes.
    """
    if not c > 1:
        raise InvalidArgumentError(f"c must be greater than 1, so that all weights are finite and positive, got {c}")
    return 1 / torch.log(c + pixels / pixels.sum())


def _median_frequency(pixels: Tensor, image_pixels: Tensor | None) -> Tensor:
    if image_pixels is None:
        raise InvalidArgumentError(
            "scheme 'median_frequency' needs the pixels of the images that hold each class, which plain counts do "
            "not include; give the dataset or the result of count_pixels"
        )
    present = pixels > 0
    frequency = pixels[present] / image_pixels[present]
    # torch.median takes the lower of two middle values; the median is their mean
    return _with_absent(frequency.quantile(0.5) / frequency, present)


def _inverse(pixels: Tensor, image_pixels: Tensor | None) -> Tensor:  # noqa: ARG001 - as every scheme
    return _with_mean_of_one(pixels, lambda share: 1 / share)


def _inverse_sqrt(pixels: Tensor, image_pixels: Tensor | None) -> Tensor:  # noqa: ARG001 - as every scheme
    return _with_mean_of_one(pixels, torch.rsqrt)


def _inverse_log(pixels: Tensor, image_pixels: Tensor | None) -> Tensor:  # noqa: ARG001 - as every scheme
    return _with_mean_of_one(pixels, lambda share: torch.log1p(1 / share))


def _effective_number(
    pixels: Tensor,
    image_pixels: Tensor | None,  # noqa: ARG001 - as every scheme
    beta: float | None = None,
) -> Tensor:
    """Returns the weights of scheme "effective_number".

    Args:
        pixels: as for `class_weights`.
        image_pixels: as for `class_weights`.
        beta: at least 0 and below 1; None for (N - 1) / N, with N the pixels of all classes.
    """
    if beta is not None and not 0 <= beta < 1:
        raise InvalidArgumentError(f"beta must be in [0, 1), or None for (N - 1) / N, got {beta}")
    # 1 - beta is computed separately: near 1 a float has few digits left for it
    rest = min(1.0, 1 / float(pixels.sum())) if beta is None else 1.0 - beta
    present = pixels > 0
    decay = torch.log1p(torch.tensor(-rest, dtype=torch.float64))  # ln(beta)
    weights = _with_absent(-rest / torch.expm1(pixels[present] * decay), present)
    return weights * (len(weights) / weights.sum())


def _with_mean_of_one(pixels: Tensor, formula: Callable[[Tensor], Tensor]) -> Tensor:
    """Returns the weights that `formula` gives for class fractions, scaled to a mean of 1 over the pixels."""
    present = pixels > 0
    share = pixels[present] / pixels.sum()
    weights = formula(share)
    return _with_absent(weights / (share * weights).sum(), present)


def _with_absent(weights_present: Tensor, present: Tensor) -> Tensor:
    """Returns the weights of all classes: those that do not occur get the largest of the others."""
    weights = weights_present.max().repeat(len(present))
    weights[present] = weights_present
    return weights


_COUNTS = ("pixels", "image_pixels")  # what `class_weights` passes to every scheme
_SCHEMES: dict[str, Callable[..., Tensor]] = {
    "enet": _enet,
    "median_frequency": _median_frequency,
    "inverse": _inverse,
    "inverse_sqrt": _inverse_sqrt,
    "inverse_log": _inverse_log,
    "effective_number": _effective_number,
}


def _is_plain_counts(source: Any) -> bool:
    if isinstance(source, Tensor | np.ndarray):
        return source.ndim == 1
    return isinstance(source, Sequence) and bool(source) and all(isinstance(n, numbers.Real) for n in source)


def _sample_name(dataset: Any, index: int) -> str:
    file_names = getattr(dataset, "file_names", None)
    files = f" ({', '.join(map(str, file_names(index)))})" if file_names is not None else ""
    return f"sample {index}{files}"
