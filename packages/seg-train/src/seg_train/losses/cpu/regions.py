"""The areas of the classes and their gradient, computed on a CPU in strips of pixels that stay in its cache.

The softmax is computed strip by strip, in the backward pass again, so the gradient is the only buffer of the size of
the logits.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seg_train.losses.cpu.strips import Strip, ids_of_strip, map_strips, softmax_of_strip

__all__ = ["areas_by_strips"]

Formula = Callable[[Tensor, Tensor, int, bool], tuple[Tensor, Tensor, Tensor]]
"""The same areas in torch operations; gradients of the gradient are taken from it."""


def areas_by_strips(
    logits: Tensor, target: Tensor, ignore_index: int, squared: bool, formula: Formula
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the overlap, predicted and true area of each class, see `seg_train.losses.regions`.

    Args:
        logits: float32 or float64 (N, K, ...) that `use_strips` accepts.
        target: any integer type (N, ...), class ids and `ignore_index`.
        ignore_index: target value of pixels that are left out.
        squared: whether the predicted area sums the squares of the probabilities.
        formula: computes the same in torch operations.
    """
    areas: tuple[Tensor, Tensor, Tensor] = _Areas.apply(
        logits.flatten(2), target.flatten(1), ignore_index, squared, formula
    )
    return areas


class _Areas(torch.autograd.Function):
    """Computes the areas of the classes for logits (N, K, L), target (N, L)."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, ignore_index: int, squared: bool, formula: Formula
    ) -> tuple[Tensor, Tensor, Tensor]:
        num_classes = logits.shape[1]

        def add_up(strips: Sequence[Strip]) -> npt.NDArray[np.float64]:
            # in float64: float32 sums over millions of pixels would lose digits
            overlap, predicted, true = sums = np.zeros((3, num_classes))
            for strip in strips:
                ids, ignored = ids_of_strip(target, strip, num_classes, ignore_index)
                values = softmax_of_strip(logits, strip, ignored)
                overlap += np.bincount(ids, values[ids, np.arange(len(ids))], num_classes)
                true += np.bincount(ids[~ignored], minlength=num_classes)
                if squared:
                    np.square(values, out=values)
                predicted += values.sum(1)
            return sums

        sums = torch.from_numpy(np.sum(map_strips(add_up, logits.shape), axis=0)).to(logits.dtype)
        overlap, predicted, true = (row.clone() for row in sums)
        ctx.save_for_backward(logits, target)
        ctx.ignore_index, ctx.squared, ctx.formula = ignore_index, squared, formula
        ctx.mark_non_differentiable(true)
        return overlap, predicted, true

    @staticmethod
    def backward(ctx: Any, by_overlap: Tensor, by_predicted: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        logits, target = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient must be differentiable itself
            areas = ctx.formula(logits, target, ctx.ignore_index, ctx.squared)
            slopes = by_overlap, by_predicted
            return *torch.autograd.grad(areas[:2], logits, slopes, create_graph=True), None, None, None, None
        gradient = torch.empty_like(logits)
        out = gradient.numpy()
        overlap_factors, factors = by_overlap.numpy(), by_predicted.numpy()[:, None]

        def fill(strips: Sequence[Strip]) -> None:
            for strip in strips:
                image, pixels = strip
                ids, ignored = ids_of_strip(target, strip, logits.shape[1], ctx.ignore_index)
                values = softmax_of_strip(logits, strip, ignored)
                own = ids, np.arange(len(ids))
                change = values * factors
                if ctx.squared:
                    change *= 2 * values
                change[own] += values[own] * overlap_factors[ids]
                values *= change.sum(0)
                np.subtract(change, values, out=out[image, :, pixels])

        map_strips(fill, logits.shape)
        return gradient, None, None, None, None
