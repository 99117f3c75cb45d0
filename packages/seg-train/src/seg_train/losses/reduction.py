"""From the losses of pixels or classes to one number: the mean, the sum, or none of them."""

import torch
from torch import Tensor

from seg_train.losses.inputs import split_ignored

__all__ = ["mean_denominator", "pixel_factors", "reduce_classes", "reduce_pixels"]


def pixel_factors(target: Tensor, ignore_index: int, weight: Tensor | None) -> Tensor:
    """Returns the weight of each pixel: float (N, ...), 0 for ignored ones; without weights bool, True for valid ones.

    Args:
        target: any integer type (N, ...), class ids and `ignore_index`.
        ignore_index: target value of ignored pixels.
        weight: float (K,), or None for 1 each.
    """
    ids, valid = split_ignored(target, ignore_index)
    return valid if weight is None else weight[ids.where(valid, 0)].where(valid, 0)


def reduce_pixels(losses: Tensor, factors: Tensor, reduction: str) -> Tensor:
    """Returns the mean, the sum, or all of the losses of pixels.

    Args:
        losses: float (N, ...), weighted, 0 for ignored pixels; for `"mean"` and `"sum"` also their sum.
        factors: bool or float (N, ...), the weights of the pixels.
        reduction: `"mean"`: sum of the losses divided by the sum of the weights; `"sum"`; `"none"`.
    """
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    total = factors.sum().to(losses.dtype)
    # the sum of no pixels is 0 with a graph; divided by 1 it stays so
    return losses.sum() / total.where(total > 0, 1)


def mean_denominator(target: Tensor, ignore_index: int, weight: Tensor | None, reduction: str) -> Tensor:
    """Returns what `reduce_pixels` divides the mean by, the sum of the pixels' weights: 0-d; 0 for other reductions."""
    if reduction != "mean":
        return torch.zeros((), device=target.device)
    return pixel_factors(target, ignore_index, None if weight is None else weight.to(target.device)).sum()


def reduce_classes(losses: Tensor, counted: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    """Returns the mean or the sum of class losses, or each of them.

    Args:
        losses: float (K,), or (N, K) for one row per image; finite.
        counted: bool of the same shape. The others give 0 and are left out of the mean.
        weight: float (K,), or None for 1 each.
        reduction: `"mean"`: sum of the weighted losses divided by the sum of the weights, within a row, and the mean of
            the rows that count at least one class; `"sum"`: of the weighted losses; `"none"`: the weighted losses.
    """
    factors = counted.to(losses.dtype)
    if weight is not None:
        factors = factors * weight.to(losses)
    weighted = losses.where(counted, 0) * factors
    if reduction == "none":
        return weighted
    if reduction == "sum":
        return weighted.sum()
    # the sum of nothing is 0 with a graph; divided by 1 it stays so
    total = factors.sum(-1)
    rows = counted.any(-1).sum()
    return (weighted.sum(-1) / total.where(total > 0, 1)).sum() / rows.clamp(min=1)
