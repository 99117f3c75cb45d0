"""Sums of the binary cross entropy of elements and their gradient, computed on a CPU in strips that stay in its cache.

For a logit x with target y, 0 or 1, the loss is c softplus(x) - b x, with two numbers that depend on y, the label
smoothing s and the factor p of the positives: with y' = y (1 - s) + s / 2 they are b = p y' and c = 1 - y' + b. Its
slope is c sigmoid(x) - b. With e = exp(-|x|), which lies between 0 and 1,

    softplus(x) = max(x, 0) + log(1 + e),    sigmoid(x) = (1 if x >= 0 else e) / (1 + e).

Both are computed in the forward pass; the slopes become the gradient in the backward pass, in the same memory.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from seg_train.losses.cpu.strips import Strip, has_memory, map_strips
from seg_train.losses.elements import check_answers

__all__ = ["ElementOptions", "binary_cross_entropy_by_strips"]

# of `map_strips`: strips of a quarter of its logits, since there are five buffers of their size
_BUFFERS = 4


class ElementOptions(NamedTuple):
    """What the loss of an element depends on besides its logit and target.

    Attributes:
        ignore_index: target value without influence, which may be 0 or 1.
        label_smoothing: see `BinaryCrossEntropyLoss`.
        pos_weights: factor of the positives of each class, K numbers.
    """

    ignore_index: int
    label_smoothing: float
    pos_weights: tuple[float, ...]

    def coefficients(self, index: int) -> tuple[float, float, float, float]:
        """Returns c and b of a class, see the module, where the target is 0, and then where it is 1."""
        half, factor = self.label_smoothing / 2, self.pos_weights[index]
        found = [(1 - y + factor * y, factor * y) for y in (half, 1 - half)]
        return (*found[0], *found[1])


def binary_cross_entropy_by_strips(logits: Tensor, planes: Tensor, options: ElementOptions) -> tuple[Tensor, Tensor]:
    """Returns the sum of the losses of each class, differentiable, and the number of its valid elements.

    Args:
        logits: float32 or float64 (N, K, ...) that `use_strips` accepts.
        planes: target of any integer type, of the same shape.
        options: see `ElementOptions`.

    Returns:
        Sums in the type of the logits (K,), and int64 (K,).

    Raises:
        LabelOutOfRangeError: if the target contains other values than 0, 1 and the ignored one.
    """
    # one class is one row, however small the images are
    shape = (1, -1) if logits.shape[1] == 1 else (logits.shape[0] * logits.shape[1], -1)
    return _Sums.apply(logits.contiguous().view(shape), planes.reshape(shape), options)


class _Sums(torch.autograd.Function):
    """Computes both results for rows of logits and target, (R, L) each; row r is of class r modulo K."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, target: Tensor, options: ElementOptions) -> tuple[Tensor, Tensor]:
        slopes = torch.empty_like(rows) if ctx.needs_input_grad[0] else None
        sums, counts = _compute(rows, target, options, slopes)
        ctx.save_for_backward(rows, target)
        ctx.options, ctx.slopes = options, slopes
        ctx.mark_non_differentiable(counts)
        return sums, counts

    @staticmethod
    def backward(ctx: Any, by_sums: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        rows, target = ctx.saved_tensors
        factors = by_sums.repeat(len(rows) // by_sums.shape[-1])[:, None]
        if torch.is_grad_enabled():  # the gradient must be differentiable itself
            sums = _sums_by_torch(rows, target, ctx.options)
            return *torch.autograd.grad(sums, rows, by_sums, create_graph=True), None, None
        # The first call overwrites the slopes with the gradient; a second one must compute them again.
        slopes, ctx.slopes = ctx.slopes, None
        if slopes is None:
            slopes = torch.empty_like(rows)
            _compute(rows, target, ctx.options, slopes)
        return slopes.mul_(factors) if has_memory(by_sums) else slopes * factors, None, None


def _compute(rows: Tensor, target: Tensor, options: ElementOptions, slopes: Tensor | None) -> tuple[Tensor, Tensor]:
    """Returns sums and counts of each class, and fills in the slopes."""
    num_classes = len(options.pos_weights)
    values, answers = rows.detach().numpy(), target.numpy()
    out = None if slopes is None else slopes.numpy()

    def add_up(strips: Sequence[Strip]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        sums, counts = np.zeros(num_classes), np.zeros(num_classes, np.int64)
        longest = max(places.stop - places.start for _, places in strips)
        buffers = tuple(np.empty((4, longest), values.dtype))
        with np.errstate(all="ignore"):  # infinite or NaN logits give such results, as in torch
            for strip in strips:
                index = strip[0] % num_classes
                place = None if out is None else out[strip]
                found, count = _compute_strip(values[strip], answers[strip], place, options, index, buffers)
                if count < 0:
                    check_answers(target, options.ignore_index)
                sums[index] += found
                counts[index] += count
        return sums, counts

    results = map_strips(add_up, (len(rows), _BUFFERS, rows.shape[1]))
    sums, counts = (np.sum(each, axis=0) for each in zip(*results, strict=True))
    return torch.from_numpy(sums).to(rows.dtype), torch.from_numpy(counts)


def _compute_strip(
    x: npt.NDArray[Any],
    target: npt.NDArray[Any],
    slopes: npt.NDArray[Any] | None,
    options: ElementOptions,
    index: int,
    buffers: Sequence[npt.NDArray[Any]],
) -> tuple[float, int]:
    """Returns the sum of the losses of a strip and the number of its valid elements, and fills in the slopes.

    The number is -1 if there are values that are not known.
    """
    size = len(x)
    exponents, total, losses, y = (buffer[:size] for buffer in buffers)
    ignored, positive = target == options.ignore_index, target == 1
    num_ignored = int(np.count_nonzero(ignored))
    known = num_ignored + sum(np.count_nonzero(target == y) for y in (0, 1) if y != options.ignore_index)
    if known != size:
        return 0.0, -1
    y[:] = positive
    np.abs(x, out=exponents)
    np.negative(exponents, out=exponents)
    np.exp(exponents, out=exponents)
    np.add(exponents, 1, out=total)
    if slopes is not None:
        slopes[:] = 1
        np.copyto(slopes, exponents, where=x < 0)
        slopes /= total
    # log(1 + e); what the rounding of 1 + e has left out is added, so that small losses are exact too
    np.log(total, out=losses)
    total -= 1
    exponents -= total
    losses += exponents
    linear = np.maximum(x, 0, out=exponents)
    scale_0, offset_0, scale_1, offset_1 = options.coefficients(index)
    if scale_0 != 1 or scale_1 != 1:
        np.multiply(y, scale_1 - scale_0, out=total)
        total += scale_0
        losses *= total
        linear *= total
        if slopes is not None:
            slopes *= total
    if offset_0 != 0 or offset_1 != 1:
        y *= offset_1 - offset_0
        y += offset_0
    if slopes is not None:
        slopes -= y
    # the two are equal at confident logits of an object, which leaves the small logarithm exact
    y *= x
    linear -= y
    losses += linear
    if num_ignored:
        losses[ignored] = 0
        if slopes is not None:
            slopes[ignored] = 0
    return float(losses.sum()), size - num_ignored


def _sums_by_torch(rows: Tensor, target: Tensor, options: ElementOptions) -> Tensor:
    """Returns the sums of `_Sums` in torch operations; gradients of the gradient are taken from it."""
    ignored = target == options.ignore_index
    truth = (target == 1).to(rows.dtype) * (1 - options.label_smoothing) + options.label_smoothing / 2
    factors = rows.new_tensor(options.pos_weights).repeat(len(rows) // len(options.pos_weights))[:, None]
    seen = rows.masked_fill(ignored, 0)
    losses = F.binary_cross_entropy_with_logits(seen, truth, pos_weight=factors, reduction="none")
    return losses.masked_fill(ignored, 0).sum(1).view(-1, len(options.pos_weights)).sum(0)
