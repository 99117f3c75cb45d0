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

from seg_core.arrays import tensor_of_array
from seg_core.errors import InvalidArgumentError, UnknownNameError, nearest
from seg_core.files.scan import DatasetScan, scan_dataset
from seg_core.spec import Option, check_params, documented_options

__all__ = ["PixelCounts", "class_weights", "count_pixels", "describe_schemes", "pixel_counts"]


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

    Of the datasets of seg-datasets the mask files are read without the images, in parallel, and not again by later
    runs; see `seg_core.files.scan`.

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
    scan = scan_dataset(dataset, num_classes=num_classes, ignore_index=ignore_index, progress=progress)
    scan.check_ids()
    return pixel_counts(scan)


def pixel_counts(scan: DatasetScan) -> PixelCounts:
    """Returns the counts of a scan of all masks of a dataset."""
    size = scan.sizes.prod(1, keepdims=True)
    return PixelCounts(
        pixels=torch.from_numpy(scan.pixels.sum(0)),
        image_pixels=torch.from_numpy((size * (scan.pixels > 0)).sum(0)),
        ignored=int(scan.ignored.sum()),
        num_images=len(scan.indices),
    )


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
        InvalidArgumentError: if an option or a count is not allowed, nothing was counted, the scheme needs more than
            plain counts, or a weight would not be a finite number above 0.
    """
    if scheme not in _SCHEMES:
        hint = nearest(scheme, _SCHEMES)
        raise UnknownNameError(f"unknown scheme {scheme!r} for class weights.{hint} Known: {', '.join(_SCHEMES)}")
    formula = _SCHEMES[scheme]
    check_params(f"scheme {scheme!r}", formula, options, given=_COUNTS)
    if isinstance(source, PixelCounts):
        pixels, image_pixels = source.pixels, source.image_pixels
    elif _is_plain_counts(source):
        pixels, image_pixels = _as_tensor(source), None
    elif isinstance(source, Tensor | np.ndarray | str) or not hasattr(source, "__len__"):
        shape = f" of shape {tuple(source.shape)}" if isinstance(source, Tensor | np.ndarray) else f" {source!r}"
        raise InvalidArgumentError(
            "source must be a dataset, the result of count_pixels, or one number of pixels per class, got "
            f"{type(source).__name__}{shape}"
        )
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
    weights = formula(pixels, image_pixels, **options).float()
    if not bool((weights > 0).all()) or not bool(weights.isfinite().all()):
        given = f" with {', '.join(f'{name}={value!r}' for name, value in options.items())}" if options else ""
        raise InvalidArgumentError(
            f"scheme {scheme!r}{given} gives weights that are not finite numbers above 0: {weights.tolist()}; choose "
            "another scheme or option"
        )
    return weights


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


def _as_tensor(counts: Tensor | np.ndarray[Any, Any] | Sequence[Any]) -> Tensor:
    if isinstance(counts, Tensor):
        return counts
    return tensor_of_array(counts).clone() if isinstance(counts, np.ndarray) else torch.tensor(counts)


def _is_plain_counts(source: Any) -> bool:
    if isinstance(source, np.ndarray):
        return source.ndim == 1 and source.dtype.kind in "biuf"
    if isinstance(source, Tensor):
        return source.ndim == 1 and not source.is_complex()
    return isinstance(source, Sequence) and bool(source) and all(isinstance(n, numbers.Real) for n in source)
