"""The Lovasz extension of the Jaccard loss and its gradient, on a CPU by sorting integers instead of floats."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seg_train.losses.cpu.strips import Strip, ids_of_strip, over_strips, softmax_of_strip

__all__ = ["extension_by_strips"]

Formula = Callable[[Tensor, Tensor, int, bool], tuple[Tensor, Tensor]]
"""The same losses in operations of torch, from which gradients of the gradient are taken."""

# The largest number of pixels whose places fit into half of a key, see `_descending`.
_MOST_PLACES = 2**32


def extension_by_strips(
    logits: Tensor, target: Tensor, ignore_index: int, per_image: bool, formula: Formula
) -> tuple[Tensor, Tensor]:
    """Returns the losses and pixels of each class, for logits that `takes_strips` accepts."""
    pixels = logits.flatten(2).contiguous(), target.flatten(1)
    extension: tuple[Tensor, Tensor] = _Extension.apply(*pixels, ignore_index, per_image, formula)
    return extension


class _Extension(torch.autograd.Function):
    """Losses and pixels of each class from logits (N, K, L), contiguous on a CPU, and their target (N, L)."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, ignore_index: int, per_image: bool, formula: Formula
    ) -> tuple[Tensor, Tensor]:
        losses, true, slopes = _extend(logits, target, ignore_index, per_image)
        ctx.save_for_backward(logits, target)
        ctx.slopes = slopes if ctx.needs_input_grad[0] else None
        ctx.ignore_index, ctx.per_image, ctx.formula = ignore_index, per_image, formula
        ctx.mark_non_differentiable(true)
        return losses, true

    @staticmethod
    def backward(ctx: Any, by_losses: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        logits, target = ctx.saved_tensors
        if torch.is_grad_enabled():  # this gradient is to have one itself
            losses, _ = ctx.formula(logits, target, ctx.ignore_index, ctx.per_image)
            return *torch.autograd.grad(losses, logits, by_losses, create_graph=True), None, None, None, None
        # The first call turns the slopes into the gradient; another one has to find them anew.
        slopes, ctx.slopes = ctx.slopes, None
        if slopes is None:
            slopes = _extend(logits, target, ctx.ignore_index, ctx.per_image)[2]
        out = slopes.numpy()
        factors = by_losses.expand(len(logits), -1).numpy()[..., None]  # (N, K, 1)

        def fill(strips: Sequence[Strip]) -> None:
            for strip in strips:
                image, pixels = strip
                _, ignored = ids_of_strip(target, strip, logits.shape[1], ctx.ignore_index)
                values = softmax_of_strip(logits, strip, ignored)
                place = out[image, :, pixels]
                change = place * factors[image]
                change *= values
                values *= change.sum(0)
                np.subtract(change, values, out=place)

        over_strips(fill, logits.shape)
        return slopes, None, None, None, None


def _extend(logits: Tensor, target: Tensor, ignore_index: int, per_image: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Returns losses and pixels of each class, both (rows, K), and the slopes: the derivative of the loss of a class by
    the probabilities of that class, (N, K, L).
    """
    num_images, num_classes, length = logits.shape
    slopes = torch.empty_like(logits)
    planes = slopes.numpy()
    truth = np.empty((num_images, length), np.int32)

    def fill(strips: Sequence[Strip]) -> None:
        for strip in strips:
            image, pixels = strip
            ids, ignored = ids_of_strip(target, strip, num_classes, ignore_index)
            # below all probabilities, and no class
            planes[image, :, pixels] = softmax_of_strip(logits, strip, ignored, fill=-1)
            truth[strip] = np.where(ignored, -1, ids)

    over_strips(fill, logits.shape)
    rows = [slice(i, i + 1) for i in range(num_images)] if per_image else [slice(None)]
    places = [(row, index) for row in rows for index in range(num_classes)]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        results = list(pool.map(lambda place: _extend_class(planes[place], truth[place[0]] == place[1]), places))
    losses, true = torch.tensor(results, dtype=torch.float64).reshape(len(rows), num_classes, 2).unbind(2)
    return losses.to(logits.dtype), true.to(logits.dtype), slopes


def _extend_class(values: npt.NDArray[Any], own: npt.NDArray[np.bool_]) -> tuple[float, int]:
    """Puts the slopes in the place of the probabilities of a class, and returns its loss and the number of its pixels.

    Args:
        values: float (n, L), probabilities; -1 for ignored pixels.
        own: bool (n, L), which pixels are of the class.
    """
    own = own.reshape(-1)
    errors = values.reshape(-1)
    inside = np.flatnonzero(own)
    area = len(inside)
    slopes = np.zeros_like(errors)
    if area:
        errors[inside] = 1 - errors[inside]
        # what comes after the last pixel of the class raises the loss no more
        least = errors[inside].min()
        order, ordered = _descending(errors, np.flatnonzero(errors >= least))
        own_there = own[order]
        own_before = np.cumsum(own_there)
        union = np.arange(area + 1, area + len(order) + 1) - own_before
        increments = np.where(own_there, 1, (area - own_before) / np.maximum(union - 1, 1)) / union
        loss = float((ordered * increments).sum()) if least == least else float("nan")
        slopes[order] = np.where(own_there, -increments, increments)
    else:
        first = int(errors.argmax())
        loss = max(float(errors[first]), 0)
        slopes[first] = loss > 0
    values[...] = slopes.reshape(values.shape)
    return loss, area


def _descending(
    errors: npt.NDArray[Any], places: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """Returns rising places sorted by their errors, the largest first and of equal ones the first place, and the errors
    in that order.
    """
    chosen = errors[places]
    if errors.dtype != np.float32 or len(errors) > _MOST_PLACES:
        order = np.argsort(-chosen, kind="stable")
        return places[order], chosen[order]
    # The bits of positive numbers have the order of the numbers. To sort integers takes a tenth of the time of argsort.
    keys = (~chosen.view(np.uint32)).astype(np.uint64) << np.uint64(32)
    keys |= places.view(np.uint64)
    keys.sort()
    ordered = (~(keys >> np.uint64(32)).astype(np.uint32)).view(np.float32)
    return (keys & np.uint64(0xFFFFFFFF)).view(np.int64), ordered
