"""Log-probabilities of the true classes, on a CPU in strips of pixels that stay in its cache.

With z the logits of a pixel, m the largest of them and s the sum of exp(z - m), class k has the log-probability
z_k - m - log s, and exp(z_k - m) / s is its probability p_k. The gradient of a function of the true class's
log-probability, with slope g, is g - g p_k at the true class and -g p_k at the others. So m and s, two numbers per
pixel, are all that the backward pass needs beside the logits and the target, and the gradient is the only buffer of
their size, where torch's own operations need three.

Strips are computed by NumPy: it works in the thread that calls it. Operations of torch share their work among a pool of
threads and wait for it, each time; with as many operations as strips that takes several times longer than the work
itself, where other processes want the CPU too.
"""

import math
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_train.losses.checking import class_ids

__all__ = [
    "MANY",
    "Strip",
    "Term",
    "ids_of_strip",
    "log_probabilities",
    "log_probabilities_by_strips",
    "log_probabilities_by_torch",
    "over_strips",
    "takes_strips",
    "without_ignored",
]

Strip = tuple[int, slice]  # an image of the batch, and some of its pixels

_Result = TypeVar("_Result")

# Logits in a strip: those of the strip and a buffer of that size fit into the cache of a core.
_STRIP = 65536
# Logits from which on strips pay. NumPy's exponential is fast on these processors; elsewhere torch does all.
_FEWEST: float = 65536 if platform.machine().lower() in ("x86_64", "amd64") else math.inf

MANY = 128
"""How many times more logits make strips pay where torch's own cross entropy would do the same: 8.4 million."""


class Term(Protocol):
    """A function of log-probabilities that is taken of each by itself, and is 0 at 0."""

    def __call__(self, log_p: Tensor) -> Tensor:
        """Returns the values, with a graph that is right to the second gradient."""

    def of_strip(self, log_p: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Returns the values and the slopes; the array may be overwritten."""


def log_probabilities(logits: Tensor, target: Tensor, ignore_index: int, term: Term | None = None) -> Tensor:
    """Returns the log-probability of each pixel's true class, the softmax being that over all classes, with a graph.

    Args:
        logits: float (N, K, ...). Half precision is computed in float32.
        target: any integer type (N, ...), class ids and `ignore_index`.
        ignore_index: target value of the pixels that give 0, without a gradient, whatever their logits are.
        term: what is returned of the log-probabilities, instead of themselves.

    Returns:
        float32 (float64 for float64 logits), (N, ...).

    Raises:
        LabelOutOfRangeError: if the target holds another value. With CUDA torch itself stops; compiled code may not.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if takes_strips(logits, MANY):
        return log_probabilities_by_strips(logits, target, ignore_index, term=term)[0]
    return log_probabilities_by_torch(logits, target, ignore_index, term)


def log_probabilities_by_torch(logits: Tensor, target: Tensor, ignore_index: int, term: Term | None = None) -> Tensor:
    """Returns what `log_probabilities` does for float32 or float64 logits, on any device, by torch's cross entropy."""
    seen, ids = without_ignored(logits, target, ignore_index)
    log_p = -F.cross_entropy(seen, ids, ignore_index=ignore_index, reduction="none")
    return log_p if term is None else term(log_p)


def without_ignored(logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Returns logits and target as torch's cross entropy takes them: int64, no infinite or NaN logit where ignored.

    Its gradient at an ignored pixel is 0 times the softmax there, which is NaN where a logit is infinite or NaN. So
    logits are 0 there, unless a look on a CPU shows that all are finite, which spares two copies of them.

    Raises:
        LabelOutOfRangeError: if the target holds another value, see `log_probabilities`.
    """
    ids = target.long()
    if ids.device.type == "cuda":  # it would have to be waited for, and torch's cross entropy checks the target there
        ignored = ids == ignore_index
    else:
        _, ignored = class_ids(ids, logits.shape[1], ignore_index)
        # a sum that overflows is masked all the same
        if _can_be_read(logits) and bool(logits.detach().sum().isfinite()):
            return logits, ids
    return logits.masked_fill(ignored[:, None], 0), ids


def _can_be_read(logits: Tensor) -> bool:
    """Whether a tensor holds numbers on a CPU, not in a graph to be compiled, exported or transformed."""
    return (
        not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and not torch._C._are_functorch_transforms_active()
        and logits.device.type == "cpu"
    )


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
            buffer = _buffer(logits, strips[0])
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


def takes_strips(logits: Tensor, many: int = 1) -> bool:
    """Whether strips pay for logits (N, K, ...), and can be used: not in a graph to be compiled or exported, not under
    the transforms of `torch.func`, not for forward-mode gradients, not for memory that is neither contiguous nor
    channels_last. `many` is how many times more logits they need than areas of classes do.
    """
    return (
        _can_be_read(logits)
        and type(logits) in (Tensor, nn.Parameter)
        and logits.dtype in (torch.float32, torch.float64)
        and logits.ndim > 2
        and max(1, _FEWEST * many) <= logits.numel()
        and _is_dense(logits)
        and torch.autograd.forward_ad.unpack_dual(logits).tangent is None  # type: ignore[no-untyped-call]
    )


def over_strips(work: Callable[[Sequence[Strip]], _Result], shape: Sequence[int]) -> list[_Result]:
    """Cuts logits of a shape (N, K, L) into strips and has `work` done on all of them, a share for each thread.

    The threads are as many as torch uses, and last no longer than the call: a pool would be lost in a forked process.

    Args:
        work: takes a share of the strips, at least one, all as long as its first one or shorter.
        shape: of the logits.

    Returns:
        The results in the order of the strips.
    """
    num_images, num_classes, length = shape
    width = max(1, _STRIP // num_classes)
    strips = [
        (image, slice(start, min(start + width, length)))
        for image in range(num_images)
        for start in range(0, length, width)
    ]
    size = -(-len(strips) // torch.get_num_threads())
    first, *others = (strips[start : start + size] for start in range(0, len(strips), size))
    if not others:
        return [work(first)]
    with ThreadPoolExecutor(len(others)) as pool:
        results = [pool.submit(work, share) for share in others]
        return [work(first), *(result.result() for result in results)]


def ids_of_strip(
    target: Tensor, strip: Strip, num_classes: int, ignore_index: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Returns what `checking.class_ids` does, for a strip of a target (N, L) on a CPU.

    Raises:
        LabelOutOfRangeError: if the strip holds a value that is not allowed; it names all those of the whole target.
    """
    ids = target.numpy()[strip].astype(np.int64)
    ignored = ids == ignore_index
    ids[ignored] = 0
    if ids.min() < 0 or ids.max() >= num_classes:
        class_ids(target, num_classes, ignore_index)
    return ids, ignored


def _buffer(logits: Tensor, strip: Strip) -> npt.NDArray[Any]:
    """Returns memory for a strip of logits (N, K, L), in their layout."""
    size = logits.shape[1], strip[1].stop - strip[1].start
    # the classes of a pixel lie side by side in channels_last memory
    by_pixel = logits.stride(1) < logits.stride(2)
    return np.empty(size, logits.detach().numpy().dtype, order="F" if by_pixel else "C")


def _is_dense(logits: Tensor) -> bool:
    """Whether the pixels of an image can be counted through without a copy, the classes being inner- or outermost."""
    if logits.is_contiguous():
        return True
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(logits.ndim)
    return last is not None and logits.is_contiguous(memory_format=last)


def _has_memory(tensor: Tensor) -> bool:
    """Whether a tensor has numbers of its own, unlike those that stand for a batch of gradients."""
    try:
        tensor.data_ptr()
    except RuntimeError:
        return False
    return True
