"""Reduces the losses of pixels or of classes to their mean, their sum, or not at all."""

import torch
from torch import Tensor

from seg_train.losses.inputs import split_ignored

__all__ = ["mean_denominator", "pixel_weights", "reduce_classes", "reduce_pixels"]


def pixel_weights(target: Tensor, ignore_index: int, weight: Tensor | None) -> Tensor:
    """Returns the weight of each pixel, 0 for ignored ones: float (N, ...), or bool without class weights.

    Args:
        target: any integer type (N, ...), class ids and `ignore_index`.
        ignore_index: target value of ignored pixels.
        weight: float (K,), or None for 1 each.
    """
    ids, valid = split_ignored(target, ignore_index)
    return valid if weight is None else weight[ids.where(valid, 0)].where(valid, 0)


def reduce_pixels(losses: Tensor, weights: Tensor, reduction: str) -> Tensor:
    """Returns the mean or the sum of pixel losses, or the losses themselves.

    Args:
        losses: float (N, ...), weighted, 0 for ignored pixels; or their sum, unless the reduction is `"none"`.
        weights: bool or float (N, ...), of the pixels.
        reduction: `"mean"`: sum of the losses divided by the sum of the weights; `"sum"`; `"none"`.
    """
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    total = weights.sum().to(losses.dtype)
    # without valid pixels the sum is 0 with a graph; dividing it by 1 keeps that
    return losses.sum() / total.where(total > 0, 1)


def mean_denominator(target: Tensor, ignore_index: int, weight: Tensor | None, reduction: str) -> Tensor:
    """Returns the sum of pixel weights that `reduce_pixels` divides the mean by: 0-d; 0 for other reductions."""
    if reduction != "mean":
        return torch.zeros((), device=target.device)
    return pixel_weights(target, ignore_index, None if weight is None else weight.to(target.device)).sum()


def reduce_classes(losses: Tensor, counted: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    """Returns the mean or the sum of class losses, or the weighted losses themselves.

    Args:
        losses: float (K,), or (N, K) for one row per image; finite.
        counted: bool of the same shape; classes that are not counted give 0 and are left out of the mean.
        weight: float (K,), or None for 1 each.
        reduction: `"mean"`: within a row the sum of the weighted losses divided by the sum of the weights, then the
            mean of the rows that count at least one class; `"sum"`: of the weighted losses; `"none"`.
    """
    factors = counted.to(losses.dtype)
    if weight is not None:
        factors = factors * weight.to(losses)
    weighted = losses.where(counted, 0) * factors
    if reduction == "none":
        return weighted
    if reduction == "sum":
        return weighted.sum()
    total = factors.sum(-1)
    rows = counted.any(-1).sum()
    # a row without counted classes is 0 with a graph; dividing it by 1 keeps that
    return (weighted.sum(-1) / total.where(total > 0, 1)).sum() / rows.clamp(min=1)
