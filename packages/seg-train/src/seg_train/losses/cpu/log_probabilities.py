"""Log-probabilities of the true classes, computed on a CPU in strips of pixels that stay in its cache.

For a pixel with logits z, let m be the largest of them and s the sum of exp(z - m). Class k then has the
log-probability z_k - m - log s and the probability p_k = exp(z_k - m) / s. A function of the true class's
log-probability with slope g has the gradient g - g p_k at the true class and -g p_k at the others. So the backward pass
needs only m and s, two numbers per pixel, besides the logits and the target, and the gradient is the only buffer of
their size; torch's own operations need three.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seg_train.losses.cpu.strips import Strip, ids_of_strip, map_strips, strip_buffer
from seg_train.losses.inputs import class_ids

__all__ = ["Term", "log_probabilities_by_strips"]


class Term(Protocol):
    """An elementwise function of log-probabilities that is 0 at 0."""

    def __call__(self, log_p: Tensor) -> Tensor:
        """Returns the values, twice differentiable."""

    def of_strip(self, log_p: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Returns the values and the derivatives; the array may be overwritten."""


def log_probabilities_by_strips(
    logits: Tensor, target: Tensor, ignore_index: int, spread: Tensor | None = None, term: Term | None = None
) -> tuple[Tensor, Tensor]:
    """Returns the log-probabilities of the true classes and a weighted sum of those of all classes.

    Args:
        logits: float32 or float64 (N, K, ...) that `use_strips` accepts.
        target: any integer type (N, ...), class ids and `ignore_index`.
        ignore_index: target value of pixels with result 0 and no gradient, whatever their logits are.
        spread: factors of the classes in the weighted sum, (K,) in the type of the logits, without a gradient.
        term: function of the true classes' log-probabilities to return instead of them.

    Returns:
        Log-probabilities of the true classes, or the term of them, (N, ...); and for each pixel the sum over all
        classes of factor times log-probability, of the same shape, empty without `spread`.

    Raises:
        LabelOutOfRangeError: if the target contains another value.
    """
    pixels = logits.flatten(2), target.reshape(len(target), -1)
    own, smoothed = _LogProbabilities.apply(*pixels, ignore_index, spread, term)
    return own.view(target.shape), smoothed.view(target.shape) if spread is not None else smoothed


class _LogProbabilities(torch.autograd.Function):
    """Computes both results of `log_probabilities_by_strips`, (N, L) each, for logits (N, K, L), target (N, L)."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, ignore_index: int, spread: Tensor | None, term: Term | None
    ) -> tuple[Tensor, Tensor]:
        num_images, num_classes, length = logits.shape
        own, largest, total = (logits.new_empty(num_images, length) for _ in range(3))
        smoothed = logits.new_empty((num_images, length) if spread is not None else 0)
        slopes = logits.new_empty((num_images, length) if term is not None else 0)
        values, factors = logits.detach().numpy(), None if spread is None else spread.numpy()
        outs = [out.numpy() for out in (own, largest, total)]
        smoothed_outs, slope_outs = smoothed.numpy(), slopes.numpy()

        def fill(strip: Strip, buffer: npt.NDArray[Any]) -> None:
            image, pixels = strip
            ids, ignored = ids_of_strip(target, strip, num_classes, ignore_index)
            seen, exponents = values[image, :, pixels], buffer[:, : len(ids)]
            result, peak, sums = (out[image, pixels] for out in outs)
            np.max(seen, axis=0, out=peak)
            np.subtract(seen, peak, out=exponents)
            result[:] = exponents[ids, np.arange(len(ids))]
            if factors is not None:
                smoothed_result = smoothed_outs[image, pixels]
                np.einsum("k,kl->l", factors, exponents, out=smoothed_result)
            np.exp(exponents, out=exponents)
            np.sum(exponents, axis=0, out=sums)
            log_sums = np.log(sums)
            result -= log_sums
            result[ignored] = 0
            if term is not None:
                result[:], slope_outs[image, pixels] = term.of_strip(result.copy())
            if factors is not None:
                smoothed_result -= factors.sum() * log_sums
                smoothed_result[ignored] = 0
            # Makes the probabilities of the backward pass 0; NaN marks the pixels where they would still be NaN.
            peak[ignored] = np.where(np.isfinite(peak[ignored]), np.inf, np.nan)
            sums[ignored] = 1

        def work(strips: Sequence[Strip]) -> None:
            buffer = strip_buffer(logits, strips)
            with np.errstate(all="ignore"):  # infinite or NaN logits give such results, as in torch
                for strip in strips:
                    fill(strip, buffer)

        map_strips(work, logits.shape)
        ctx.save_for_backward(logits, target, largest, total, slopes, spread)
        ctx.ignore_index, ctx.term = ignore_index, term
        return own, smoothed

    @staticmethod
    def backward(ctx: Any, own_slope: Tensor, smoothed_slope: Tensor) -> tuple[Tensor, None, None, None, None]:
        logits, target, largest, total, slopes, spread = ctx.saved_tensors
        if torch.is_grad_enabled() or not (_has_memory(own_slope) and _has_memory(smoothed_slope)):
            arguments = logits, target, ctx.ignore_index, own_slope, smoothed_slope, spread, ctx.term
            return _gradient_by_torch(*arguments), None, None, None, None
        gradient = torch.empty_like(logits)
        values, out = logits.detach().numpy(), gradient.numpy()
        saved, smoothed_slopes = [each.numpy() for each in (own_slope, largest, total)], smoothed_slope.numpy()
        term_slopes = None if ctx.term is None else slopes.numpy()
        factors = None if spread is None else spread.numpy()

        def fill(strip: Strip) -> None:
            image, pixels = strip
            ids, ignored = ids_of_strip(target, strip, logits.shape[1], ctx.ignore_index)
            slope, peak, sums = (each[image, pixels] for each in saved)
            if term_slopes is not None:
                slope = slope * term_slopes[image, pixels]
            slope, change = np.where(ignored, 0, slope), out[image, :, pixels]
            np.subtract(values[image, :, pixels], peak, out=change)
            np.exp(change, out=change)
            if factors is None:
                change *= -slope / sums
            else:
                smoothed = np.where(ignored, 0, smoothed_slopes[image, pixels])
                change *= -(slope + factors.sum() * smoothed) / sums
                change += factors[:, None] * smoothed
            change[ids, np.arange(len(ids))] += slope
            lost = ignored & np.isnan(peak)
            if lost.any():
                change[:, lost] = 0

        def work(strips: Sequence[Strip]) -> None:
            with np.errstate(all="ignore"):
                for strip in strips:
                    fill(strip)

        map_strips(work, logits.shape)
        return gradient, None, None, None, None


def _gradient_by_torch(
    logits: Tensor,
    target: Tensor,
    ignore_index: int,
    own: Tensor,
    smoothed: Tensor,
    spread: Tensor | None,
    term: Term | None,
) -> Tensor:
    """Returns the gradient at logits (N, K, L) for slopes (N, L), itself differentiable."""
    ids, ignored = class_ids(target, logits.shape[1], ignore_index)
    hidden, ids = ignored[:, None], ids[:, None]
    log_p = logits.masked_fill(hidden, 0).log_softmax(1)
    if term is not None:
        with torch.enable_grad():
            own_log_p = log_p.gather(1, ids)[:, 0]
            (slope,) = torch.autograd.grad(term(own_log_p).sum(), own_log_p, create_graph=True)
        own = own * slope
    own = own.masked_fill(ignored, 0)[:, None]
    if spread is None:
        gradient = -own * log_p.exp()
    else:
        smoothed = smoothed.masked_fill(ignored, 0)[:, None]
        gradient = spread[:, None] * smoothed - (own + spread.sum() * smoothed) * log_p.exp()
    return gradient.scatter_add(1, ids, own)


def _has_memory(tensor: Tensor) -> bool:
    """Returns whether a tensor has memory; those that represent a batch of gradients have none."""
    try:
        tensor.data_ptr()
    except RuntimeError:
        return False
    return True
