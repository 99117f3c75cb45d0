"""Log-probabilities of the true classes, on a CPU in strips of pixels that stay in its cache.

With z the logits of a pixel, m the largest of them and s the sum of exp(z - m), class k has the log-probability
z_k - m - log s, and exp(z_k - m) / s is its probability p_k. The gradient of a function of the true class's
log-probability, with slope g, is g - g p_k at the true class and -g p_k at the others. So m and s, two numbers per
pixel, are all that the backward pass needs beside the logits and the target, and the gradient is the only buffer of
their size, where torch's own operations need three.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seg_train.losses.cpu.strips import Strip, ids_of_strip, over_strips, strip_buffer
from seg_train.losses.inputs import class_ids

__all__ = ["Term", "log_probabilities_by_strips"]


class Term(Protocol):
    """A function of log-probabilities that is taken of each by itself, and is 0 at 0."""

    def __call__(self, log_p: Tensor) -> Tensor:
        """Returns the values, with a graph that is right to the second gradient."""

    def of_strip(self, log_p: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Returns the values and the slopes; the array may be overwritten."""


def log_probabilities_by_strips(
    logits: Tensor, target: Tensor, ignore_index: int, shares: Tensor | None = None, term: Term | None = None
) -> tuple[Tensor, Tensor]:
    """Returns what `log_probabilities` does and a sum over all classes, for logits that `takes_strips` accepts.

    Args:
        logits: float32 or float64 (N, K, ...).
        target: any integer type (N, ...), class ids and `ignore_index`.
        ignore_index: target value of the pixels that give 0, without a gradient, whatever their logits are.
        shares: (K,) of the type of the logits, without a gradient.
        term: what is returned of the log-probabilities of the true classes, instead of themselves.

    Returns:
        Log-probabilities of the true classes, or the term of them, (N, ...); and, for each pixel, the sum over all
        classes of share times log-probability, of the same shape, empty without `shares`.

    Raises:
        LabelOutOfRangeError: if the target holds another value.
    """
    pixels = logits.flatten(2), target.reshape(len(target), -1)
    own, shared = _LogProbabilities.apply(*pixels, ignore_index, shares, term)
    return own.view(target.shape), shared.view(target.shape) if shares is not None else shared


class _LogProbabilities(torch.autograd.Function):
    """Both results of `log_probabilities_by_strips`, (N, L) each, from logits (N, K, L) and their target (N, L)."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, ignore_index: int, shares: Tensor | None, term: Term | None
    ) -> tuple[Tensor, Tensor]:
        num_images, num_classes, length = logits.shape
        own, largest, total = (logits.new_empty(num_images, length) for _ in range(3))
        shared = logits.new_empty((num_images, length) if shares is not None else 0)
        slopes = logits.new_empty((num_images, length) if term is not None else 0)
        values, factors = logits.detach().numpy(), None if shares is None else shares.numpy()
        outs = [out.numpy() for out in (own, largest, total)]
        shared_outs, slope_outs = shared.numpy(), slopes.numpy()

        def fill(strip: Strip, buffer: npt.NDArray[Any]) -> None:
            image, pixels = strip
            ids, ignored = ids_of_strip(target, strip, num_classes, ignore_index)
            seen, exponents = values[image, :, pixels], buffer[:, : len(ids)]
            result, peak, sums = (out[image, pixels] for out in outs)
            np.max(seen, axis=0, out=peak)
            np.subtract(seen, peak, out=exponents)
            result[:] = exponents[ids, np.arange(len(ids))]
            if factors is not None:
                shared_result = shared_outs[image, pixels]
                np.einsum("k,kl->l", factors, exponents, out=shared_result)
            np.exp(exponents, out=exponents)
            np.sum(exponents, axis=0, out=sums)
            log_sums = np.log(sums)
            result -= log_sums
            result[ignored] = 0
            if term is not None:
                result[:], slope_outs[image, pixels] = term.of_strip(result.copy())
            if factors is not None:
                shared_result -= factors.sum() * log_sums
                shared_result[ignored] = 0
            # makes the probabilities of the backward pass 0; a NaN marks the pixels where they are NaN all the same
            peak[ignored] = np.where(np.isfinite(peak[ignored]), np.inf, np.nan)
            sums[ignored] = 1

        def work(strips: Sequence[Strip]) -> None:
            buffer = strip_buffer(logits, strips[0])
            with np.errstate(all="ignore"):  # where logits are infinite or NaN, so are the results, as torch's
                for strip in strips:
                    fill(strip, buffer)

        over_strips(work, logits.shape)
        ctx.save_for_backward(logits, target, largest, total, slopes, shares)
        ctx.ignore_index, ctx.term = ignore_index, term
        return own, shared

    @staticmethod
    def backward(ctx: Any, own_slope: Tensor, shared_slope: Tensor) -> tuple[Tensor, None, None, None, None]:
        logits, target, largest, total, slopes, shares = ctx.saved_tensors
        if torch.is_grad_enabled() or not (_has_memory(own_slope) and _has_memory(shared_slope)):
            arguments = logits, target, ctx.ignore_index, own_slope, shared_slope, shares, ctx.term
            return _gradient_by_torch(*arguments), None, None, None, None
        gradient = torch.empty_like(logits)
        values, out = logits.detach().numpy(), gradient.numpy()
        saved, shared_slopes = [each.numpy() for each in (own_slope, largest, total)], shared_slope.numpy()
        term_slopes = None if ctx.term is None else slopes.numpy()
        factors = None if shares is None else shares.numpy()

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
                shared = np.where(ignored, 0, shared_slopes[image, pixels])
                change *= -(slope + factors.sum() * shared) / sums
                change += factors[:, None] * shared
            change[ids, np.arange(len(ids))] += slope
            lost = ignored & np.isnan(peak)
            if lost.any():
                change[:, lost] = 0

        def work(strips: Sequence[Strip]) -> None:
            with np.errstate(all="ignore"):
                for strip in strips:
                    fill(strip)

        over_strips(work, logits.shape)
        return gradient, None, None, None, None


def _gradient_by_torch(
    logits: Tensor,
    target: Tensor,
    ignore_index: int,
    own: Tensor,
    shared: Tensor,
    shares: Tensor | None,
    term: Term | None,
) -> Tensor:
    """Returns the gradient at logits (N, K, L) for slopes (N, L), by operations that have gradients themselves."""
    ids, ignored = class_ids(target, logits.shape[1], ignore_index)
    hidden, ids = ignored[:, None], ids[:, None]
    log_p = logits.masked_fill(hidden, 0).log_softmax(1)
    if term is not None:
        with torch.enable_grad():
            own_log_p = log_p.gather(1, ids)[:, 0]
            (slope,) = torch.autograd.grad(term(own_log_p).sum(), own_log_p, create_graph=True)
        own = own * slope
    own = own.masked_fill(ignored, 0)[:, None]
    if shares is None:
        gradient = -own * log_p.exp()
    else:
        shared = shared.masked_fill(ignored, 0)[:, None]
        gradient = shares[:, None] * shared - (own + shares.sum() * shared) * log_p.exp()
    return gradient.scatter_add(1, ids, own)


def _has_memory(tensor: Tensor) -> bool:
    """Whether a tensor has numbers of its own, unlike those that stand for a batch of gradients."""
    try:
        tensor.data_ptr()
    except RuntimeError:
        return False
    return True
