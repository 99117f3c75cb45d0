"""The Lovasz extension of the Jaccard loss and its gradient on a CPU, by sorting integers instead of floats."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seg_train.losses.cpu.strips import Strip, ids_of_strip, map_strips, softmax_of_strip

__all__ = ["extension_by_strips"]

Formula = Callable[[Tensor, Tensor, int, bool], tuple[Tensor, Tensor]]
"""The same losses in torch operations; gradients of the gradient are taken from it."""

# The number of pixels whose indices fit into half of a sort key, see `_descending`.
_MAX_PIXELS = 2**32


def extension_by_strips(
    logits: Tensor, target: Tensor, ignore_index: int, per_image: bool, formula: Formula
) -> tuple[Tensor, Tensor]:
    """Returns the loss and the number of pixels of each class, see `seg_train.losses.lovasz.Extension`.

    Args:
        logits: float32 or float64 (N, K, ...) that `use_strips` accepts.
        target: any integer type (N, ...), class ids and `ignore_index`.
        ignore_index: target value of pixels that are left out.
        per_image: whether each image has its own losses.
        formula: computes the same in torch operations.
    """
    pixels = logits.flatten(2).contiguous(), target.flatten(1)
    return _Extension.apply(*pixels, ignore_index, per_image, formula)


class _Extension(torch.autograd.Function):
    """Computes loss and number of pixels of each class for logits (N, K, L), contiguous on a CPU, target (N, L)."""

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
        if torch.is_grad_enabled():  # the gradient must be differentiable itself
            losses, _ = ctx.formula(logits, target, ctx.ignore_index, ctx.per_image)
            return *torch.autograd.grad(losses, logits, by_losses, create_graph=True), None, None, None, None
        # The first call overwrites the slopes with the gradient; a second one must compute them again.
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

        map_strips(fill, logits.shape)
        return slopes, None, None, None, None


def _extend(logits: Tensor, target: Tensor, ignore_index: int, per_image: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Returns loss and number of pixels of each class, both (rows, K), and the slopes (N, K, L).

    The slopes are the derivatives of the loss of a class with respect to the probabilities of that class.
    """
    num_images, num_classes, length = logits.shape
    slopes = torch.empty_like(logits)
    planes = slopes.numpy()
    labels = np.empty((num_images, length), np.int32)

    def fill(strips: Sequence[Strip]) -> None:
        for strip in strips:
            image, pixels = strip
            ids, ignored = ids_of_strip(target, strip, num_classes, ignore_index)
            # ignored pixels: below all probabilities, and of no class
            planes[image, :, pixels] = softmax_of_strip(logits, strip, ignored, fill=-1)
            labels[strip] = np.where(ignored, -1, ids)

    map_strips(fill, logits.shape)
    rows = [slice(i, i + 1) for i in range(num_images)] if per_image else [slice(None)]
    places = [(row, index) for row in rows for index in range(num_classes)]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        results = list(pool.map(lambda place: _extend_class(planes[place], labels[place[0]] == place[1]), places))
    losses, true = torch.tensor(results, dtype=torch.float64).reshape(len(rows), num_classes, 2).unbind(2)
    return losses.to(logits.dtype), true.to(logits.dtype), slopes


def _extend_class(values: npt.NDArray[Any], own: npt.NDArray[np.bool_]) -> tuple[float, int]:
    """Replaces the probabilities of a class by their slopes, and returns its loss and its number of pixels.

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
        # errors below the smallest one of the class's own pixels do not contribute
        smallest = errors[inside].min()
        order, ordered = _descending(errors, np.flatnonzero(errors >= smallest))
        own_there = own[order]
        own_before = np.cumsum(own_there)
        union = np.arange(area + 1, area + len(order) + 1) - own_before
        increments = np.where(own_there, 1, (area - own_before) / np.maximum(union - 1, 1)) / union
        loss = float((ordered * increments).sum()) if smallest == smallest else float("nan")
        slopes[order] = np.where(own_there, -increments, increments)
    else:
        first = int(errors.argmax())
        loss = max(float(errors[first]), 0)
        slopes[first] = loss > 0
    values[...] = slopes.reshape(values.shape)
    return loss, area


def _descending(
    errors: npt.NDArray[Any], indices: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """Returns ascending indices sorted by descending error (ties by index), and the errors in that order."""
    chosen = errors[indices]
    if errors.dtype != np.float32 or len(errors) > _MAX_PIXELS:
        order = np.argsort(-chosen, kind="stable")
        return indices[order], chosen[order]
    # The bits of positive floats are ordered as the floats are. Sorting integers takes a tenth of the time of argsort.
    keys = (~chosen.view(np.uint32)).astype(np.uint64) << np.uint64(32)
    keys |= indices.view(np.uint64)
    keys.sort()
    ordered = (~(keys >> np.uint64(32)).astype(np.uint32)).view(np.float32)
    return (keys & np.uint64(0xFFFFFFFF)).view(np.int64), ordered
